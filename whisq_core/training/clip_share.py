"""What both kinds of workers have: where a thread's clips lie, its arrays, and the gradients that it gathers."""

from typing import Literal

from jaxtyping import Float, Float16
from torch import Tensor

from whisq_core.features.store import FeatureTable
from whisq_core.model.batches import lengths
from whisq_core.spec import LossSpec
from whisq_core.training.text_side import Prompts, Scratch


class ClipShare:
    """One thread's share of the clips. `found_in_text` and `found_in_audio` have what a worker's `forward` found."""

    def __init__(self, audio: FeatureTable, frames: Literal["all", "valid"], loss: LossSpec) -> None:
        self._audio, self._num_frames, self._loss = audio, lengths(audio, frames), loss
        self._centres = audio.pooled(frames)
        self._scratch = Scratch()
        self._half_norms: dict[int, Float[Tensor, " frames"]] = {}
        self.found_in_text: list[Tensor | None] = []
        self.found_in_audio: list[Tensor | None] = []

    def begin(self, prompts: Prompts) -> None:
        """Forget the last batch."""
        self._prompts = prompts

    def begin_gradient(self) -> None:
        """Make room in `gradient` for the batch's prompts."""
        self.gradient = self._prompts.side.zeros(self._scratch)

    def _stored(self, row: int) -> Float16[Tensor, "frames dim"]:
        return self._audio.frames(row)[: int(self._num_frames[row])]
