"""What a pair has in common, varied alike on both of its crops: turn, stretch, hue, saturation, gamma, the lamp's colour; and
harsh light from one side.

So that few clips show their faces in more ways than they were filmed, and are not learnt by heart. OpenCV only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from worker.types import Float32, UInt8


@dataclass(frozen=True, slots=True, kw_only=True)
class Variation:
    """Degrees; factors of width and height; hue in OpenCV's half degrees; factors of saturation and of red, green, blue."""

    turn_deg: float
    stretch: tuple[float, float]
    interpolation: int
    hue: float
    saturation: float
    gamma: float
    lamp: tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """From ``turn`` (radians) comes light that multiplies display levels by ``gain`` at most, on what lies in the shade by
    ``shade``; half of it at ``place``, from one to the other over ``width`` (shares of the crop's). ``colour``: of its share."""

    turn: float
    place: float
    width: float
    gain: float
    shade: float
    colour: tuple[float, float, float]


UPRIGHT_DEG, TILTED_DEG = 12.0, 45.0
"""Most that a pair is turned by, either way. By more, faces are turned by quarters in a scan that is sure of no upright one."""


def draw(rng: np.random.Generator, *, share: float, tilted: float = 0.0) -> Variation | None:
    """None for the pairs that stay as they are. A share of 0 draws nothing. ``tilted``: the share of the others that is turned by
    up to ``TILTED_DEG``."""
    if share <= 0 or rng.random() >= share:
        return None
    width, height = rng.uniform(0.88, 1.14, 2).tolist()
    red, green, blue = rng.uniform(0.88, 1.12, 3).tolist()
    turn_deg = rng.uniform(-UPRIGHT_DEG, UPRIGHT_DEG)
    if tilted > 0 and rng.random() < tilted:
        turn_deg *= TILTED_DEG / UPRIGHT_DEG
    return Variation(
        turn_deg=turn_deg,
        stretch=(width, height),
        interpolation=(cv2.INTER_LINEAR, cv2.INTER_CUBIC)[rng.integers(2)],
        hue=rng.uniform(-8, 8),
        saturation=rng.uniform(0.6, 1.4),
        gamma=float(np.exp(rng.uniform(-0.35, 0.35))),
        lamp=(red, green, blue),
    )


def draw_light(rng: np.random.Generator, *, share: float) -> Light | None:
    """None for the pairs that stay in the light they were taken in. A share of 0 draws nothing."""
    if share <= 0 or rng.random() >= share:
        return None
    red, green, blue = rng.uniform(0.8, 1.0, 3).tolist()
    return Light(
        turn=rng.uniform(0, 2 * np.pi),
        place=rng.uniform(-0.3, 0.3),
        width=rng.uniform(0.1, 0.8),
        gain=rng.uniform(1.0, 1.9),
        shade=rng.uniform(0.35, 1.0),
        colour=(red, green, blue),
    )


def light(how: Light | None, crops: Sequence[UInt8]) -> list[UInt8]:
    """The same light on every crop, uint8 RGB [H, W, 3] of one size: equal pixels stay equal, and what is too bright is white."""
    if how is None:
        return list(crops)
    height, width = crops[0].shape[:2]
    y_HW, x_HW = np.mgrid[:height, :width].astype(np.float32)
    along_HW = ((x_HW / width - 0.5) * np.cos(how.turn) + (y_HW / height - 0.5) * np.sin(how.turn) - how.place) / how.width
    lit_HW1 = (1 / (1 + np.exp(-4 * along_HW)))[..., None].astype(np.float32)
    factor_HWC = how.shade + (how.gain * np.array(how.colour, np.float32) - how.shade) * lit_HW1
    return [np.asarray((crop * factor_HWC).clip(0, 255), np.uint8) for crop in crops]


def apply(how: Variation | None, crops: Sequence[UInt8]) -> list[UInt8]:
    """The same steps on every crop, uint8 RGB [H, W, 3] of one size: equal pixels stay equal but at the borders of others."""
    return list(crops) if how is None else [_recoloured(how, _moved(how, crop)) for crop in crops]


def move_mask(how: Variation | None, mask_HW: Float32 | None) -> Float32 | None:
    """A mask as the picture lies after ``apply``, mirrored at the borders as that is."""
    if how is None or mask_HW is None:
        return mask_HW
    height, width = mask_HW.shape
    moved = cv2.warpAffine(mask_HW, _move(how, width, height), (width, height), borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(moved, np.float32)


def _move(how: Variation, width: int, height: int) -> npt.NDArray[np.float64]:
    turn_23 = cv2.getRotationMatrix2D((0, 0), how.turn_deg, 1.0) @ np.diag([*how.stretch, 1.0])
    middle_2 = np.array([width - 1, height - 1]) / 2
    turn_23[:, 2] = middle_2 - turn_23[:, :2] @ middle_2
    return np.asarray(turn_23, np.float64)


def _moved(how: Variation, crop_HWC: UInt8) -> UInt8:
    height, width = crop_HWC.shape[:2]
    move_23 = _move(how, width, height)
    moved = cv2.warpAffine(crop_HWC, move_23, (width, height), flags=how.interpolation, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(moved, np.uint8)


def _recoloured(how: Variation, crop_HWC: UInt8) -> UInt8:
    hsv_HWC = cv2.cvtColor(crop_HWC, cv2.COLOR_RGB2HSV)
    levels = np.arange(256, dtype=np.float32)
    turned = ((levels + how.hue) % 180).astype(np.uint8)
    richer = (levels * how.saturation).clip(0, 255).astype(np.uint8)
    hsv_HWC = cv2.LUT(hsv_HWC, np.stack([turned, richer, levels.astype(np.uint8)], 1)[None])
    bent_N1 = 255 * (levels[:, None] / 255) ** how.gamma
    lit_N3 = (bent_N1 * np.array(how.lamp, np.float32)).clip(0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(cv2.cvtColor(hsv_HWC, cv2.COLOR_HSV2RGB), lit_N3[None]), np.uint8)
