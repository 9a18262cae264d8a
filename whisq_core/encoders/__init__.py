"""Frozen encoders: a checkpoint's name to weights, and clips and prompts through them into the feature store.

`resolve_backbone` finds the weights without loading them, `encode` computes what is missing, `open_dataset` maps what
is there. To add a family of encoders: one function in `audio` or `text`, one entry in `families`.
"""

from whisq_core.encoders.backbone import Backbone, missing, open_dataset, resolve_backbone
from whisq_core.encoders.encoding import Progress, encode
from whisq_core.encoders.families import operations

__all__ = ["Backbone", "Progress", "encode", "missing", "open_dataset", "operations", "resolve_backbone"]
