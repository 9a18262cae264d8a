"""A run is identified by its configuration: `RunSpec` holds every setting that decides a result.

What each setting affects is declared beside it and asked by name: `effect`, `heads`, `searchable`. Dotted settings
such as ``{"loss.ot_weight": 0.0}`` go over a base by `with_settings`.
"""

from whisq_core.spec.run import FOLDS, BackboneSpec, DataSpec, LossSpec, ModelSpec, Positive, RunSpec, TrainSpec
from whisq_core.spec.settings import (
    SETTINGS,
    differences,
    digest,
    effect,
    heads,
    kind,
    nested,
    searchable,
    try_settings,
    with_settings,
)

__all__ = [
    "FOLDS",
    "SETTINGS",
    "BackboneSpec",
    "DataSpec",
    "LossSpec",
    "ModelSpec",
    "Positive",
    "RunSpec",
    "TrainSpec",
    "differences",
    "digest",
    "effect",
    "heads",
    "kind",
    "nested",
    "searchable",
    "try_settings",
    "with_settings",
]
