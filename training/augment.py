"""Degradation that says nothing about the label: one draw of parameters, applied alike to every crop of a pair.

Models what happens to video between a camera and us: rescaling, recompression, noise. Blur is rare. OpenCV only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from worker.types import Float32, UInt8


@dataclass(frozen=True, slots=True, kw_only=True)
class Degradation:
    """``None`` means the step is left out. Sizes are shares of the crop's, noise and blur in grey levels and pixels."""

    scale: float | None = None
    interpolation: int = cv2.INTER_LINEAR
    blur_px: float | None = None
    noise_std: float | None = None
    noise_seed: int = 0
    gray: bool = False
    brightness: float = 0.0
    contrast: float = 1.0
    jpeg_quality: int | None = None
    second_quality: int | None = None
    second_shift_px: int = 0
    flip: bool = False


def draw(rng: np.random.Generator) -> Degradation:
    """Random parameters; independent of any label because none is given."""
    compressed = rng.random() < 0.65
    return Degradation(
        scale=rng.uniform(0.4, 1.0) if rng.random() < 0.35 else None,
        interpolation=(cv2.INTER_LINEAR, cv2.INTER_CUBIC)[rng.integers(2)],
        blur_px=rng.uniform(0.4, 1.4) if rng.random() < 0.1 else None,
        noise_std=rng.uniform(1, 6) if rng.random() < 0.15 else None,
        noise_seed=int(rng.integers(1 << 31)),
        gray=rng.random() < 0.06,
        brightness=rng.uniform(-18, 18),
        contrast=rng.uniform(0.85, 1.18),
        jpeg_quality=int(rng.integers(30, 96)) if compressed else None,
        second_quality=int(rng.integers(45, 96)) if compressed and rng.random() < 0.3 else None,
        second_shift_px=int(rng.integers(1, 8)),
        flip=rng.random() < 0.5,
    )


def apply(how: Degradation, crops: Sequence[UInt8], size: int) -> list[UInt8]:
    """The same steps on every crop [H, W, 3], ending at [size, size, 3]; equal crops stay equal, noise included."""
    return [_one(how, crop, size) for crop in crops]


def move_mask(how: Degradation, mask_HW: Float32 | None, size: int) -> Float32:
    """A mask as the picture lies after ``apply``, float32 [size, size]; NaN where there is none."""
    if mask_HW is None:
        return np.full((size, size), np.nan, np.float32)
    lying = mask_HW[:, ::-1] if how.flip else mask_HW
    return np.asarray(cv2.resize(np.ascontiguousarray(lying), (size, size), interpolation=cv2.INTER_AREA), np.float32)


def coarsen(mask_HW: Float32) -> Float32:
    """Means over cells of 16 x 16 pixels, as many as fit, at least one."""
    height, width = (max(1, length // 16) for length in mask_HW.shape)
    return np.asarray(cv2.resize(mask_HW, (width, height), interpolation=cv2.INTER_AREA), np.float32)


def draw_window(rng: np.random.Generator, size: int, side: int) -> tuple[slice, slice]:
    """Rows and columns of a square of ``side`` pixels at a random place of a crop of ``size``."""
    y, x = (int(start) for start in rng.integers(size - side + 1, size=2))
    return slice(y, y + side), slice(x, x + side)


def _one(how: Degradation, crop_HWC: UInt8, size: int) -> UInt8:
    height, width = crop_HWC.shape[:2]
    out: cv2.typing.MatLike = crop_HWC
    if how.scale is not None:
        small = max(40, int(width * how.scale)), max(40, int(height * how.scale))
        out = cv2.resize(out, small, interpolation=cv2.INTER_AREA)
    if how.blur_px is not None:
        out = cv2.GaussianBlur(out, (0, 0), how.blur_px)
    if how.noise_std is not None:
        noise = np.random.default_rng(how.noise_seed).standard_normal(out.shape, dtype=np.float32)
        out = (out + noise * np.float32(how.noise_std)).clip(0, 255).astype(np.uint8)
    if how.gray:
        out = cv2.cvtColor(cv2.cvtColor(out, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    levels = (np.arange(256, dtype=np.float32) - 128) * how.contrast + 128 + how.brightness
    out = cv2.LUT(out, levels.clip(0, 255).astype(np.uint8))
    if how.jpeg_quality is not None:
        out = jpeg(out, how.jpeg_quality)
    if how.second_quality is not None:
        shift = how.second_shift_px
        rolled = cv2.copyMakeBorder(out, shift, 0, shift, 0, cv2.BORDER_REFLECT)
        out = jpeg(rolled, how.second_quality)[shift:, shift:]
    if how.flip:
        out = out[:, ::-1]
    smaller = out.shape[0] > size
    final = cv2.INTER_AREA if smaller else how.interpolation
    return np.asarray(cv2.resize(np.ascontiguousarray(out), (size, size), interpolation=final), np.uint8)


def jpeg(rgb_HWC: cv2.typing.MatLike, quality: int) -> UInt8:
    """Encoded and decoded again; blocks of a recompressed picture rarely lie on the old grid, so callers may shift it first."""
    encoded = cv2.imencode(".jpg", cv2.cvtColor(rgb_HWC, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    if decoded is None:
        raise RuntimeError("OpenCV cannot read its own JPEG")
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)
