"""One `RunSpec` to one `Run`: features -> fit -> predictions -> metrics. The same for a table's cell and a trial."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from study.engine.provenance import manifest, package_versions
from study.engine.tasks import Stopped, Task
from study.engine.workspace import Workspace, distributions, identify
from study.store import Run, Scored
from whisq_core.controls import predict_control
from whisq_core.corpus import Split, inner_split, splits, system_truth, used_clips
from whisq_core.encoders import Backbone
from whisq_core.errors import InputError
from whisq_core.features import Dataset, FeatureStore, StoreMeta
from whisq_core.metrics import evaluate
from whisq_core.spec import RunSpec

Show = Callable[[int, str], None]
"""Called after each epoch with its number and what to show of it."""
Report = Callable[[int, dict[str, float]], str | None]
"""Called with an epoch and the watched metrics; returns the reason to stop the training, or None."""


def _ignore(_epoch: int, _text: str) -> None:
    return None


def _go_on(_epoch: int, _metrics: dict[str, float]) -> str | None:
    return None


def execute(task: Task, workspace: Workspace, show: Show = _ignore, report: Report = _go_on) -> Run:
    """Train and score one run, whose device and precision are concrete.

    Parameters
    ----------
    task
        Its `watch` says what `report` gets.

    Raises
    ------
    InputError
        When features are missing, or the data here give the run another identity than the one asked for.
    whisq_core.training.Diverged, Stopped
        When the loss is not finite; when `report` asked for it.
    """
    started, spec = time.perf_counter(), task.spec
    identity = identify(spec, workspace)
    if identity.run_id != task.run_id:
        raise InputError(
            f"{task.title}: corpus, features or program differ here from those that were planned with. Use the same "
            "--data, --features and whisq-study on every machine."
        )
    folds = splits(workspace.corpus, spec.data, spec.seed)
    details: dict[str, Any] = {"system_truth": spec.data.system_truth}
    curves: list[list[dict[str, float]]] = []
    scored: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}  # the clips of each part, and what it predicts
    for number, parts in enumerate(folds, 1):
        if spec.uses_features:
            told = show if len(folds) == 1 else _of_fold(show, number, len(folds))
            predicted, curve, sizes = _train(task, workspace, parts, told, report)
            details |= sizes
            curves.append(curve)
        else:
            predicted = _control(spec, workspace, parts)
        for name, values in predicted.items():
            scored.setdefault(name, []).append((parts.score[name], values))
    return Run(
        run_id=identity.run_id,
        table_name=task.table,
        row=task.row,
        seed=spec.seed,
        state="done",
        identity=identity.parts,
        details=details,
        curve=_mean_curve(curves),
        manifest=manifest(corpus=workspace.digest),
        scored={name: score(*_joined(found), workspace, spec) for name, found in scored.items()},
        seconds=time.perf_counter() - started,
    )


def _joined(found: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Clips in the order of the corpus with their predictions, of all folds."""
    clips, values = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.argsort(clips)
    return clips[order], values[order]


def _of_fold(show: Show, number: int, total: int) -> Show:
    return lambda epoch, text: show(epoch, f"fold {number} of {total}, {text}")


def _mean_curve(curves: list[list[dict[str, float]]]) -> list[dict[str, float]]:
    """The learning curve, of several folds their mean as far as all of them went."""
    if len(curves) < 2:
        return curves[0] if curves else []
    epochs = zip(*curves, strict=False)  # patience may end one sooner
    return [{name: float(np.mean([record[name] for record in records])) for name in records[0]} for records in epochs]


def score(clip_indices: np.ndarray, predicted: np.ndarray, workspace: Workspace, spec: RunSpec) -> Scored:
    """Predictions on some clips of the corpus, with our metrics."""
    systems = workspace.systems[clip_indices].tolist()
    metrics = evaluate(predicted, workspace.labels[clip_indices], systems, _published(workspace, spec, systems))
    return Scored(np.asarray(clip_indices), predicted, metrics)


def metrics_of(scored: Scored, names: Sequence[str], workspace: Workspace, spec: RunSpec) -> dict[str, float]:
    """The stored metrics and those of these `names`, by the labels and the convention of a run."""
    if scored.metrics.keys() >= set(names):
        return scored.metrics
    truth = _published(workspace, spec, workspace.systems[scored.clip_indices].tolist())
    return scored.measured(names, workspace.corpus.clips, truth)


def _published(workspace: Workspace, spec: RunSpec, systems: Sequence[str]) -> dict[str, tuple[float, float]] | None:
    corpus = workspace.corpus
    return system_truth(corpus.name, corpus.system_mos, spec.data.system_truth, systems)


def _control(spec: RunSpec, workspace: Workspace, parts: Split) -> dict[str, np.ndarray]:
    name = spec.model.predictor
    assert name != "whisq", "a control is not trained"
    labels, systems = workspace.labels[parts.fit], workspace.systems
    return {
        part: predict_control(name, labels, systems[parts.fit].tolist(), systems[indices].tolist())
        for part, indices in parts.score.items()
    }


def _train(
    task: Task, workspace: Workspace, parts: Split, show: Show, report: Report
) -> tuple[dict[str, np.ndarray], list[dict[str, float]], dict[str, Any]]:
    from whisq_core.training import fit, predict, save  # torch costs a second to import; a control needs none

    spec, watch = task.spec, task.watch
    backbone = workspace.backbone(spec.backbone)
    data = _reader(spec, workspace, backbone)
    fitted, inner = parts.fit, None
    if spec.train.patience is not None:
        fitted, inner_clips = inner_split(workspace.corpus, parts.fit, spec.data)
        inner = data(inner_clips)
    train = data(fitted)
    watched = None if watch is None else data(parts.score[watch.split])
    follow = _Follow(task, workspace, parts, show, report)
    result = fit(spec, train, watch=watched, inner=inner, on_epoch=follow)
    predicted = {name: predict(result.model, data(indices)) for name, indices in parts.score.items()}
    if task.models is not None:
        _check_repeated(task, predicted)
        save(task.models, result.model, _facts(task, workspace, backbone))
    curve = [{**asdict(record), **follow.watched.get(record.epoch, {})} for record in result.curve]
    return predicted, curve, _details(spec, workspace, backbone, train)


def _check_repeated(task: Task, predicted: dict[str, np.ndarray]) -> None:
    """A model that is trained again, to be saved, must predict what its stored run predicted."""
    for split_name, stored in task.stored.items():
        if not np.array_equal(stored, predicted[split_name]):
            difference = float(np.abs(stored - predicted[split_name]).max())
            raise InputError(
                f"{task.title}: trained again, it predicts {split_name} up to {difference:.3g} away from the stored "
                "run, as on another processor or with another PyTorch. Its model is not saved. Train and save it with "
                "another --storage."
            )


def _facts(task: Task, workspace: Workspace, backbone: Backbone) -> dict[str, Any]:
    """What a saved model says of where it comes from; prediction checks its encoders by the digests of features."""
    return {
        "run_id": task.run_id,
        "table": task.table,
        "row": task.row,
        "seed": task.spec.seed,
        "features": {"audio": backbone.audio_key.digest, "text": backbone.text_key.digest},
        "corpus": {"name": workspace.corpus.name, "digest": workspace.digest},
        "simulated": workspace.corpus.simulated,
        "untrained": backbone.untrained,
        "whisq_study": package_versions().get("whisq-study"),
        **({"plugins": named} if (named := distributions(task.spec)) else {}),
    }


def _reader(spec: RunSpec, workspace: Workspace, backbone: Backbone) -> Callable[[np.ndarray], Dataset]:
    """Gives the features of some clips; parts that change from seed to seed are cut from one table of all clips."""
    if spec.data.folds is None and spec.data.fraction == 1:
        return lambda clips: workspace.dataset(backbone, clips)
    used = used_clips(workspace.corpus, spec.data)
    return lambda clips: workspace.dataset(backbone, used).select(np.searchsorted(used, clips))


@dataclass
class _Follow:
    """Follows one training: shows each epoch; scores the watched split every few epochs and asks whether to go on."""

    task: Task
    workspace: Workspace
    parts: Split
    show: Show
    report: Report

    def __post_init__(self) -> None:
        self.watched: dict[int, dict[str, float]] = {}

    def __call__(self, record: Any, predicted: np.ndarray | None) -> None:
        watch, spec = self.task.watch, self.task.spec
        last = record.epoch == spec.train.epochs
        if watch is None or (record.epoch % watch.every and not last):
            return self.show(record.epoch, f"loss {record.loss:.4f}")
        assert predicted is not None, "the scored split is watched"
        found = Scored(self.parts.score[watch.split], predicted, {})
        chosen = metrics_of(found, watch.metrics, self.workspace, spec)
        self.watched[record.epoch] = chosen
        self.show(record.epoch, ", ".join(f"{name} {value:.4f}" for name, value in chosen.items()))
        reason = self.report(record.epoch, chosen)
        if reason is not None and not last:
            raise Stopped(record.epoch, reason)
        return None


def _details(spec: RunSpec, workspace: Workspace, backbone: Backbone, train: Dataset) -> dict[str, Any]:
    """Size and cost of the model with its encoders: parameters, and multiply-accumulates per clip."""
    from whisq_core.model import count

    frames = int(np.mean(train.audio.num_valid if spec.model.audio_frames == "valid" else train.audio.num_frames))
    tokens = int(np.mean(train.text.num_frames))
    counts = count(spec.model, train.audio.dim, train.text.dim, frames, tokens)
    encoders = [_described(FeatureStore(workspace.features, key)) for key in (backbone.audio_key, backbone.text_key)]
    macs = [counts.macs, *(encoder.macs for encoder in encoders)]
    return {
        "num_trainable": counts.trainable,
        "num_total": counts.trainable + sum(encoder.num_parameters for encoder in encoders),
        "macs": None if None in macs else sum(part or 0 for part in macs),
        "untrained": backbone.audio.untrained or backbone.text.untrained,
        "audio_dim": train.audio.dim,
        "num_train_clips": len(train),
        "frames": frames,
        "tokens": tokens,
    }


def _described(store: FeatureStore) -> StoreMeta:
    """What a store that has been opened says about its encoder."""
    meta = store.meta
    if meta is None:
        raise InputError(
            f"{store.folder}: has lost its store.json. Run `whisq-study encode`: it writes that file anew."
        )
    return meta
