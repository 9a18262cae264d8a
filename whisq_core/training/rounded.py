"""The two large products in bf16: what attention multiplies with frames is rounded, and so are the gradients of rows.

Sums, softmax and the inner products of the OT term stay in float32, outside.
"""

import math

import torch
from jaxtyping import BFloat16, Float
from torch import Tensor

from whisq_core.training.text_side import Scratch, TextSide

LOG2_E = 1 / math.log(2)  # softmaxes are taken in base 2, twice as fast


class RoundedProducts:
    """Rows times frames, and scores times frames, in arrays that are kept."""

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch

    def forward(
        self, text: TextSide, frames: BFloat16[Tensor, "frames dim"], scores: Float[Tensor, "rows frames"]
    ) -> None:
        """Fill the scores of attention's rows, in base 2."""
        num_frames, dim = frames.shape
        count = text.num_attending
        rows = self._scratch.take("rounded rows", count, dim, dtype=torch.bfloat16)
        for block, values in text.blocks(rows):
            torch.mul(block, LOG2_E, out=values)
        products = self._scratch.take("rounded scores", count, num_frames, dtype=torch.bfloat16)
        scores[:count].copy_(torch.mm(rows, frames.t(), out=products))

    def backward(
        self, slopes: Float[Tensor, "rows frames"], frames: BFloat16[Tensor, "frames dim"], gradient: TextSide
    ) -> None:
        """Add the gradients of all rows, those of the OT term included."""
        (num_rows, num_frames), dim = slopes.shape, frames.shape[1]
        rounded = self._scratch.take("rounded slopes", num_rows, num_frames, dtype=torch.bfloat16)
        products = self._scratch.take("rounded products", num_rows, dim, dtype=torch.bfloat16)
        torch.mm(rounded.copy_(slopes), frames, out=products)
        for block, values in gradient.blocks(products):
            block.add_(values)
        if gradient.aligned is not None:
            gradient.aligned.add_(products[gradient.num_attending :])
