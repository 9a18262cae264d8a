"""Tables whose truth is known: how the worlds of `calibration.py` make corpora and predictions, and which there are."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from study.stats import Items
from whisq_core.metrics import group_means, lcc, mse, srcc

Array = NDArray[np.float64]
Groups = NDArray[np.int64]

NUM_ROWS = 6
NUM_CORPORA = 300  # over which an effect is defined
U_SRCC, U_MSE = "ta.utterance.srcc", "ta.utterance.mse"


@dataclass(frozen=True)
class World:
    """How tables are made: sds of errors, by system and, again, by clip, and how seeds move them.

    ``prompt_share`` of the own errors' variance lies in prompts. ``tail`` are the degrees of freedom of the Student's t
    that own errors follow; ``step`` is what predictions are rounded to. ``seed_scale`` is the relative sd, over seeds,
    of a row's whole error; ``seed_noise`` the sd of what a seed adds to each clip. ``fold_error`` is the sd, by fold
    and system, of what one training set adds. ``effect`` is by how much the population U-SRCC of the first
    ``num_worse`` rows lies below that of the others; ``margin`` is in that unit, in other metrics that of these errors.
    """

    name: str
    shared_error: float = 0.0
    own_error: float = 0.35
    seed_scale: float = 0.03
    seed_noise: float = 0.08
    prompt_share: float = 0.0
    tail: float = 0.0
    step: float = 0.0
    fold_error: float = 0.0
    num_seeds: int = 10
    num_systems: int = 29
    clips_per_system: float = 14.2
    effect: float = 0.0
    num_worse: int = 1
    margin: float = 0.01
    metrics: tuple[str, ...] = (U_SRCC, U_MSE)


SAME = World("same procedure", shared_error=0.35, own_error=0.0)
EQUAL = World("equal in the population")
BOTH = World("both of one size", shared_error=0.35, own_error=0.05, seed_scale=0.10)
SHARED = World("mostly shared errors", shared_error=0.33, own_error=0.12)
NULLS = (
    SAME,
    EQUAL,
    replace(EQUAL, name="equal, prompts 40 %", prompt_share=0.4),
    replace(EQUAL, name="equal, prompts 80 %", prompt_share=0.8),
    replace(EQUAL, name="equal, tied predictions", step=0.25, prompt_share=0.2),
    replace(EQUAL, name="equal, heavy tails", tail=5.0, prompt_share=0.2),
    replace(EQUAL, name="equal, heaviest tails", tail=3.0, prompt_share=0.2),
    BOTH,
    replace(EQUAL, name="equal, system level", metrics=("ta.system.srcc", "ta.system.lcc"), prompt_share=0.2),
    replace(EQUAL, name="equal, cross-validated", fold_error=0.1, clips_per_system=80.5, prompt_share=0.2),
)
EQUIVALENCE = (
    replace(SAME, name="same procedure, wider margin", margin=0.02),
    replace(SAME, name="at the margin, same errors", effect=0.01, num_worse=NUM_ROWS),
    replace(BOTH, name="at the margin, both of one size", effect=0.06, num_worse=NUM_ROWS, margin=0.06),
    replace(SHARED, name="at the margin, own errors", effect=0.10, num_worse=NUM_ROWS, margin=0.10),
)
OWN = World("power, own errors", own_error=0.25, prompt_share=0.2)
ALIKE = replace(SHARED, name="power, mostly shared errors", prompt_share=0.2)
POWER = (
    *(replace(OWN, effect=effect) for effect in (0.05, 0.10, 0.15)),
    *(replace(OWN, effect=effect, num_systems=60) for effect in (0.05, 0.10)),
    replace(OWN, effect=0.10, num_seeds=20),
    replace(OWN, name="power, cross-validated", effect=0.05, clips_per_system=80.5, fold_error=0.1),
    replace(OWN, name="power, system level", effect=0.10, metrics=("ta.system.srcc", "ta.system.lcc")),
    *(replace(ALIKE, effect=effect) for effect in (0.05, 0.10)),
)
PLAN = sorted(  # the large corpora last
    (*((world, 1) for world in (*NULLS, *EQUIVALENCE)), *((world, 10) for world in POWER)),
    key=lambda planned: planned[0].clips_per_system,
)


@dataclass(frozen=True)
class Corpus:
    """The system and prompt of each clip, what a perfect listener would hear in it, and the mean of five ratings."""

    crossed: Items
    one_way: Items
    system: Groups
    prompt: Groups
    fold: Groups
    signal: Array
    labels: Array


def make_corpus(world: World, num_systems: int, generator: np.random.Generator) -> Corpus:
    """Systems of 4 to 27 clips (times as many as there are more of them), each with prompts of its own choice."""
    scale = world.clips_per_system / 14.2
    sizes = np.clip(np.round(generator.gamma(5, 14.2 / 5, num_systems)), 4, 27) * scale
    system = np.repeat(np.arange(num_systems), sizes.astype(np.int64))
    prompt = np.concatenate([generator.choice(round(128 * scale), size, replace=False) for size in sizes.astype(int)])
    by_system, by_clip = generator.normal(0, 0.45, num_systems), generator.normal(0, 0.45, len(system))
    labels = 3.2 + by_system[system] + by_clip + generator.normal(0, 0.25, len(system))
    return Corpus(
        crossed=Items.of(system, prompt),
        one_way=Items.of(system, None),
        system=system,
        prompt=prompt,
        fold=generator.permutation(len(system)) % 5,
        signal=3.2 + by_system[system] + 0.45 * by_clip,
        labels=np.clip(np.round(labels * 5) / 5, 1, 5),
    )


def error_of(world: World, corpus: Corpus, sd: float, generator: np.random.Generator) -> Array:
    """By system, by clip and by prompt, of the same variance whatever the share of prompts."""

    def drawn(size: int, variance: float) -> Array:
        if world.tail:
            scaled = generator.standard_t(world.tail, size) / np.sqrt(world.tail / (world.tail - 2))
            return np.asarray(scaled * np.sqrt(variance))
        return generator.normal(0, np.sqrt(variance), size)

    rest = sd**2 * (1 - world.prompt_share)
    error = drawn(int(corpus.system[-1]) + 1, rest)[corpus.system] + drawn(len(corpus.system), rest)
    if world.prompt_share:
        error += drawn(int(corpus.prompt.max()) + 1, 2 * sd**2 * world.prompt_share)[corpus.prompt]
    return error


def make_row(world: World, corpus: Corpus, shared: Array, scale: float, generator: np.random.Generator) -> Array:
    """Predictions [seeds, clips] of one row whose error is `scale` times as large as that of others."""
    error = shared + error_of(world, corpus, world.own_error, generator)
    if world.fold_error:
        of_training_sets = generator.normal(0, world.fold_error, (5, int(corpus.system[-1]) + 1))
        error = error + of_training_sets[corpus.fold, corpus.system]
    of_seeds = scale * (1 + generator.normal(0, world.seed_scale, (world.num_seeds, 1)))
    predictions = corpus.signal + of_seeds * error
    predictions += generator.normal(0, world.seed_noise, predictions.shape)
    return np.round(predictions / world.step) * world.step if world.step else predictions


@lru_cache
def population(world: World) -> tuple[float, dict[str, float]]:
    """By what a row's error must grow to cost `effect` of U-SRCC, and the margin in the unit of each metric.

    Bisection on the mean over corpora of the world's own size, the same for every scale.
    """
    if not world.effect:
        return 1.0, dict.fromkeys(world.metrics, world.margin)
    sample = []
    for number in range(NUM_CORPORA):
        generator = np.random.default_rng([0, number])
        corpus = make_corpus(world, world.num_systems, generator)
        sample.append((corpus, error_of(world, corpus, world.shared_error, generator)))

    def worse(metric: str, scale: float) -> float:
        """By how much a metric is lower at this scale, errors and seeds being the same."""
        values = np.zeros(2)
        for number, (corpus, shared) in enumerate(sample):
            for side, size in enumerate((1.0, scale)):
                generator = np.random.default_rng([1, number])
                row = make_row(replace(world, num_seeds=1), corpus, shared, size, generator)
                values[side] += _value(metric, row[0], corpus) / NUM_CORPORA
        return float(values[0] - values[1])

    low, high = 1.0, 4.0
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if worse(U_SRCC, middle) < world.effect else (low, middle)
    return high, {name: abs(worse(name, high)) for name in world.metrics}


def _value(metric: str, predicted: Array, corpus: Corpus) -> float:
    labels = corpus.labels
    if ".system." in metric:
        predicted, labels = group_means(predicted, corpus.system), group_means(labels, corpus.system)
    return {"srcc": srcc, "lcc": lcc, "mse": mse}[metric.rpartition(".")[2]](predicted, labels)
