"""The trainable part of WhisQ (Eqs. 2-7), its alignment objective (Eq. 10), and where frames and text interact.

`WhisQ(spec, audio_dim, text_dim, seed)` predicts from features of frozen encoders; `count` sizes it.
"""

from whisq_core.model.whisq import Batch, Counts, Dropout, WhisQ, count, stream

__all__ = ["Batch", "Counts", "Dropout", "WhisQ", "count", "stream"]
