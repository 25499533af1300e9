"""Whole-picture processing as a family of its own: a real crop and itself recoloured, softened or sharpened all over.

A re-synthesised face is smooth everywhere, and a model that only knows blends overlooks it; yet filtered real video looks the
same, so the price is false alarms. That is why these pictures have a logit of their own and no share unless one is given.
"""

from __future__ import annotations

import numpy as np

from training.blend import recolour, sharpen, through_low_resolution
from worker.types import UInt8

STEPS = (recolour, through_low_resolution, sharpen)
SHARES = (0.4, 0.6, 0.4)
"""How often each step is taken where chance leaves at least one; softening before sharpening, as enhancers do."""


def processed(rng: np.random.Generator, rgb_HWC: UInt8) -> tuple[UInt8, UInt8]:
    """``(partner, fake)``: the crop untouched, labelled real, and the same crop after one to three steps; uint8 [H, W, 3]."""
    taken = rng.random(len(STEPS)) < SHARES
    taken[rng.integers(len(STEPS))] |= not taken.any()
    fake = rgb_HWC
    for step, wanted in zip(STEPS, taken, strict=True):
        if wanted:
            fake = step(rng, fake)
    return rgb_HWC, fake
