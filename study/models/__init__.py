"""Saved models: folders named by row and seed, their cards, and what they predict of anybody's clips.

`Model` is the door for predicting, `finish_models` and `is_saved` those of `ablate --save-models`.
"""

from study.models.card import finish_models
from study.models.clips import clips_of
from study.models.folders import is_saved, model_folder, unsaved
from study.models.model import Model
from study.models.output import write_predictions

__all__ = ["Model", "clips_of", "finish_models", "is_saved", "model_folder", "unsaved", "write_predictions"]
