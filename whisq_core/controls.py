"""Controls, which use neither audio nor text: what a number is worth that a model does not beat.

Train and dev share their systems, and a system's train mean predicts a clip as well as the paper's model does.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float64


def predict_control(
    name: Literal["constant", "system_lookup"],
    train_omq_ta: Float64[np.ndarray, "train 2"],
    train_systems: Sequence[str],
    systems: Sequence[str],
) -> Float64[np.ndarray, "clips 2"]:
    """Predictions (OMQ, TA) for clips of `systems`.

    Parameters
    ----------
    name
        `constant` predicts the train mean, `system_lookup` the per-system mean of train: that of the clip's system,
        and for a system without train clips the train mean.
    train_omq_ta, train_systems
        Labels and systems of the train clips.
    systems
        The system of each clip to predict.
    """
    assert len(train_omq_ta) == len(train_systems) > 0
    overall = np.asfortranarray(train_omq_ta).mean(axis=0)  # the order in memory decides the last bit
    if name == "constant":
        return np.tile(overall, (len(systems), 1))
    assert name == "system_lookup", name
    trained = np.asarray(train_systems, dtype=str)
    means = {system: train_omq_ta[trained == system].mean(axis=0) for system in np.unique(trained)}
    return np.array([means.get(system, overall) for system in systems], dtype=np.float64).reshape(-1, 2)
