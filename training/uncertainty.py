"""How a classifier's doubt is judged, whatever it is taken from. Axis: F crops."""

from __future__ import annotations

import numpy as np

from training.metrics import Bools, Floats


def pavpu(certain_F: Bools, wrong_F: Bools, weight_F: Floats) -> float:
    """Accuracy versus uncertainty (Mukhoti & Gal 2018): the share that is certain and right, or uncertain and wrong."""
    return float(weight_F @ (certain_F != wrong_F) / weight_F.sum())


def best_gate(sure_F: Floats, wrong_F: Bools, weight_F: Floats) -> float:
    """The threshold on ``sure`` (certain above it) with the greatest PAvPU, of 200 candidates; among equals the lowest."""
    values = np.unique(np.quantile(sure_F, np.linspace(0, 1, 200), method="lower"))
    thresholds = np.concatenate([[-np.inf], values])
    return float(thresholds[int(np.argmax([pavpu(sure_F > value, wrong_F, weight_F) for value in thresholds]))])
