"""Simulated systems and raters: two independent traits, true scores that follow from what was done."""

import numpy as np
import pytest

from study.demo.corpus import plan
from study.demo.ratings import HOUSE_STYLES, SYSTEMS, WEIGHTS, Panel, Performance
from study.demo.sound import ATTRIBUTES

CLIPS = plan()


def test_both_traits_vary_between_and_within_systems_and_independently() -> None:
    traits = np.array([(system.damage, system.faithfulness) for system in SYSTEMS])
    assert abs(np.corrcoef(traits.T)[0, 1]) < 0.1
    truth: dict[str, list[tuple[float, float]]] = {}
    for clip in CLIPS:
        truth.setdefault(clip.system.name, []).append(clip.performance.truth)
    means = np.array([np.mean(values, axis=0) for values in truth.values()])
    within = np.array([np.std(values, axis=0) for values in truth.values()])
    assert (means.std(axis=0) > 0.5).all()
    assert (within.mean(axis=0) > 0.25).all()
    assert abs(np.corrcoef(means.T)[0, 1]) < 0.35


def test_house_styles_and_kinds_of_damage_tell_nothing_of_the_traits() -> None:
    for trait in ("damage", "faithfulness"):
        film, arcade = (
            np.mean([getattr(system, trait) for system in SYSTEMS if system.house == house]) for house in HOUSE_STYLES
        )
        assert film == pytest.approx(arcade, abs=0.02)
    assert len({system.kinds for system in SYSTEMS if system.damage > 0.5}) == 4


def test_true_scores_stay_on_the_scale_and_fall_with_what_was_really_done() -> None:
    for clip in CLIPS:
        done = clip.performance
        clean = Performance(done.asked, done.asked, {})
        assert all(1 <= score <= best <= 5 for score, best in zip(done.truth, clean.truth, strict=True))
    assert sum(WEIGHTS.values()) == pytest.approx(1)
    assert WEIGHTS.keys() == ATTRIBUTES.keys()


def test_a_system_plays_what_was_asked_for_or_what_its_house_plays() -> None:
    for clip in CLIPS:
        done, house = clip.performance, HOUSE_STYLES[clip.system.house]
        assert done.asked == clip.prompt.asked
        assert all(done.played[name] in (done.asked[name], house[name]) for name in ATTRIBUTES)
        wrong = [name for name in ATTRIBUTES if done.played[name] != done.asked[name]]
        assert done.mismatch == pytest.approx(sum(WEIGHTS[name] for name in wrong))
        assert set(done.strengths) == set(clip.system.kinds)


def test_raters_give_integers_on_the_scale_around_the_truth() -> None:
    generator = np.random.default_rng(0)
    ratings = [Panel(generator).rate((2.5, 3.5), generator) for _ in range(100)]
    assert {len(scores) for scores in ratings} == {5}
    scores = np.array([list(by_rater.values()) for by_rater in ratings]).reshape(-1, 2)
    assert set(np.unique(scores)) <= {1, 2, 3, 4, 5}
    assert scores.mean(axis=0) == pytest.approx([2.5, 3.5], abs=0.1)
