"""Fill the feature store for the encoders of a table, with progress."""

from collections.abc import Iterable

from study.engine.workspace import Workspace
from study.terminal import item_progress, log
from whisq_core.encoders import Progress, encode
from whisq_core.errors import InputError
from whisq_core.spec import BackboneSpec


def encode_backbones(
    workspace: Workspace,
    specs: Iterable[BackboneSpec],
    workers: int = 1,
    device: str = "auto",
    batch_size: int | None = None,
) -> dict[BackboneSpec, str]:
    """Encode what is missing for each distinct backbone; `device` and `batch_size` as `whisq_core.encoders.encode`.

    Returns
    -------
    dict
        The backbones that could not be encoded, with the reason; the others are complete.
    """
    problems: dict[BackboneSpec, str] = {}
    for spec in dict.fromkeys(specs):
        try:
            _encode(workspace, spec, workers, device, batch_size)
        except InputError as error:
            problems[spec] = " ".join(error.mistakes)
    return problems


def _encode(workspace: Workspace, spec: BackboneSpec, workers: int, device: str, batch_size: int | None) -> None:
    backbone = workspace.backbone(spec)
    arguments = (workspace.corpus, workspace.audio_digests, backbone, workspace.features)
    with item_progress(f"encode {spec.audio} + {spec.text}") as move:

        def show(progress: Progress) -> None:
            move(progress.done, progress.total, f"{progress.rate:.1f}/s")

        encode(*arguments, workers=workers, device=device, batch_size=batch_size, progress=show, notify=log)
