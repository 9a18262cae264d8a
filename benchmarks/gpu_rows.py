"""The part of `gpu_check.py` that trains: a whole run of each row of Table II."""

import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from gpu_tools import PAPER, TINY, dataset, peak, reset_peak, run_spec
from step import Sizes

from whisq_core.training import EpochRecord, fit, predict

if TYPE_CHECKING:
    from gpu_check import Check

SEEDS, EPOCHS = 10, 148
ROWS: dict[str, dict[str, Any]] = {  # of Table II; features of the baseline are two vectors of CLAP
    "WhisQ w/ OT": {},
    "WhisQ w/o OT": {"loss.ot_weight": 0.0},
    "Official Baseline": {"model.attention": "none", "model.head": "linear", "loss.task": "l1", "loss.ot_weight": 0.0,
                          "train.batch_size": 64},
    "Vanilla Co-Attention": {"model.attention": "pooled"},
    "Cross-Attention": {"model.attention": "cross"},
    "MLP Only": {"model.attention": "none", "loss.ot_weight": 0.0},
    "Wav2Vec2 + ModernBERT": {"data": (768, 768)},
}  # fmt: skip


class _Late(Exception):
    """The time of a row is up."""


def rows(check: "Check") -> None:
    """A run of each row of Table II: 1,923 clips trained, 412 predicted, synthetic features of the true shapes."""
    epochs, clips = (3, (18, 6)) if check.small else (EPOCHS, (1923, 412))
    for name, settings in ROWS.items():
        share = (check.left() - 60) / (len(ROWS) - list(ROWS).index(name))
        seeds = SEEDS if check.full else 1
        try:
            facts = [_row(check, dict(settings), epochs, clips, seed, share / seeds) for seed in range(seeds)]
            check.put("rows", **{name: {**facts[0], "run_seconds": [each["seconds"] for each in facts]}})
            print(f"   {name}: {facts[0]['seconds']:.2f} s a run", flush=True)
        except Exception as error:
            check.put("rows", **{name: {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}})
    found = [check.found["rows"][name] for name in ROWS if "seconds" in check.found["rows"].get(name, {})]
    if len(found) == len(ROWS):
        measured = sum(sum(each["run_seconds"]) for each in found) if check.full else None
        check.put("rows", all_70_runs_minutes_measured=None if measured is None else measured / 60,
                  all_70_runs_minutes_extrapolated=SEEDS * sum(each["seconds"] for each in found) / 60,
                  tuned_table_minutes_extrapolated=110 * sum(each["seconds"] for each in found) / 60)  # fmt: skip


def _row(check: "Check", settings: dict[str, Any], epochs: int, clips: tuple[int, int], seed: int, share: float) -> Any:
    sizes = TINY if check.small else PAPER
    if dims := settings.pop("data", None):
        sizes = Sizes(**{**vars(sizes), **dict(zip(("audio_dim", "text_dim"), dims, strict=True))} if not check.small
                      else {**vars(sizes), "audio_dim": 2 * sizes.audio_dim})  # fmt: skip
        settings["model.feature_dim"] = sizes.audio_dim * 2 // 3 if not check.small else sizes.audio_dim // 2
    pool = dataset(Sizes(**{**vars(sizes), "steps": -(-sum(clips) // sizes.batch)}))
    train, dev = (pool.select(np.arange(first, first + count)) for first, count in ((0, clips[0]), clips))
    spec = run_spec(check, sizes, "auto", **{"train.epochs": epochs, **settings})
    spec = spec.model_copy(update={"seed": seed})
    reset_peak(check)
    started, curve = time.perf_counter(), list[EpochRecord]()

    def follow(record: EpochRecord, _predicted: Any) -> None:
        curve.append(record)
        if time.perf_counter() - started > share:
            raise _Late

    try:
        predicted = predict(fit(spec, train, on_epoch=follow).model, dev)
        assert np.isfinite(predicted).all()
        seconds = time.perf_counter() - started
    except _Late:
        seconds = (time.perf_counter() - started) * epochs / len(curve)
    typical = statistics.median(record.seconds for record in curve[len(curve) // 2 :])
    return {"seconds": seconds, "epochs_run": len(curve), "extrapolated": len(curve) < epochs,
            "seconds_an_epoch": typical, "last_loss": curve[-1].loss, "precision": spec.train.precision,
            "peak_gb": peak(check)}  # fmt: skip
