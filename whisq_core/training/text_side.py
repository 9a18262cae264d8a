"""What frames meet: the tokens and rows of a batch's distinct prompts, their gradients, and arrays that are kept."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor


class Scratch:
    """Named arrays that are kept and grow: nothing is allocated per clip."""

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """The array of this name, with this shape and whatever it held. A name belongs to one dtype."""
        size = math.prod(shape)
        if name not in self._kept or self._kept[name].numel() < size:
            self._kept[name] = torch.empty(size, dtype=dtype)
        return self._kept[name][:size].view(shape)


@dataclass(frozen=True)
class TextSide:
    """The tokens of some prompts, one after the other, and the rows that frames meet; or the gradients of these.

    `aligned` are the tokens again, as the OT term meets them: its gradient can be told from that of the task.
    """

    tokens: Float[Tensor, "tokens dim"]
    aligned: Float[Tensor, "tokens dim"] | None = None
    to_text: Float[Tensor, "heads tokens dim"] | None = None
    to_text_constants: Float[Tensor, "heads tokens"] | None = None
    to_audio: Float[Tensor, "heads tokens dim"] | None = None

    def zeros(self, scratch: Scratch) -> "TextSide":
        """Room for the gradients."""

        def room(name: str, values: Tensor | None) -> Tensor | None:
            return None if values is None else scratch.take(f"gradient of {name}", *values.shape).zero_()

        return TextSide(
            scratch.take("gradient of tokens", *self.tokens.shape).zero_(),
            room("aligned", self.aligned),
            room("to_text", self.to_text),
            room("to_text_constants", self.to_text_constants),
            room("to_audio", self.to_audio),
        )

    def span(self, tokens: slice) -> "TextSide":
        """Views of the arrays for these tokens."""
        return TextSide(
            self.tokens[tokens],
            None if self.aligned is None else self.aligned[tokens],
            None if self.to_text is None else self.to_text[:, tokens],
            None if self.to_text_constants is None else self.to_text_constants[:, tokens],
            None if self.to_audio is None else self.to_audio[:, tokens],
        )

    @property
    def heads(self) -> int:
        """Of the directions taken; 0 where there is none."""
        return next((len(block) for block in (self.to_text, self.to_audio) if block is not None), 0)

    @property
    def num_attending(self) -> int:
        """How many rows of attention meet frames."""
        return sum(block.shape[0] * block.shape[1] for block in (self.to_text, self.to_audio) if block is not None)

    @property
    def num_rows(self) -> int:
        """How many rows meet frames: those of attention, then the points of the OT term."""
        return self.num_attending + (0 if self.aligned is None else len(self.aligned))

    def blocks(self, rows: Shaped[Tensor, "rows columns"]) -> list[tuple[Tensor, Tensor]]:
        """Each direction's rows, and as much of an array of all rows: [heads, tokens, columns], in the same order."""
        pairs, at = [], 0
        for block in (self.to_text, self.to_audio):
            if block is not None:
                heads, num_tokens, _ = block.shape
                pairs.append((block, rows[at : at + heads * num_tokens].view(heads, num_tokens, -1)))
                at += heads * num_tokens
        return pairs

    def add_(self, other: "TextSide") -> None:
        """Add another part of the same gradients."""
        for name in ("tokens", "aligned", "to_text", "to_text_constants", "to_audio"):
            if getattr(self, name) is not None:
                getattr(self, name).add_(getattr(other, name))


@dataclass(frozen=True)
class Prompts:
    """A batch's distinct prompts: what frames meet, and where each prompt's tokens lie."""

    side: TextSide
    starts: Int[np.ndarray, " prompts_and_end"]

    def span(self, prompt: int) -> slice:
        """The tokens of one prompt."""
        return slice(int(self.starts[prompt]), int(self.starts[prompt + 1]))
