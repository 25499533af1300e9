"""How good a face crop is to judge by: sharp enough, and neither black nor burnt out."""

from __future__ import annotations

import cv2
import numpy as np

from worker.types import Float32, UInt8

HALF_SHARP = 20.0
"""Variance of the Laplacian at which sharpness is one half."""
DARK, BRIGHT = 8, 247
"""Grey values outside which a pixel carries no detail."""


def face_quality(crops_NHWC: UInt8) -> Float32:
    """Quality of uint8 RGB crops at the network's size: float32 [N] in [0, 1], 0 useless, 1 good.

    ``sharpness * exposure``: sharpness is ``v / (v + HALF_SHARP)`` for the variance v of the Laplacian of the grey crop
    (Pech-Pacheco et al. 2000), exposure the share of pixels from ``DARK`` to ``BRIGHT``. A small face is blurred by enlarging, so
    that its quality is low too. FF++ faces at c23 lie mostly between 0.5 and 0.93.
    """
    quality = np.empty(len(crops_NHWC), np.float32)
    for i, rgb_HWC in enumerate(crops_NHWC):
        grey = cv2.cvtColor(rgb_HWC, cv2.COLOR_RGB2GRAY)
        detail = float(cv2.Laplacian(grey, cv2.CV_32F).var())
        quality[i] = detail / (detail + HALF_SHARP) * cv2.countNonZero(cv2.inRange(grey, DARK, BRIGHT)) / grey.size
    return quality
