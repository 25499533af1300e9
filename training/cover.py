"""What people lay over real faces: captions, stickers, watermarks, dark glasses, smoothed skin; alike on every crop of a pair.

None of it is a sign of a fake, and a network that never met it takes its edges for seams (docs/model-card.md). OpenCV only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from worker.types import Float32, UInt8

FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_HERSHEY_TRIPLEX)
LETTERS = tuple("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ,.!?")
Colour = tuple[float, float, float]
BLACK: Colour = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cover:
    """``None`` means the step is left out. ``seed``: of what is laid over, how large and where. ``smooth_levels``: differences in
    grey levels that smoothing takes away, by ``smooth_share``; ``smooth_radius_px``: over how wide a surrounding, None: 3."""

    seed: int | None = None
    smooth_levels: float | None = None
    smooth_share: float = 1.0
    smooth_radius_px: int | None = None


def draw(rng: np.random.Generator, *, covered: float, smoothed: float, widely_smoothed: float = 0.0) -> Cover:
    """Of the pairs these shares are covered, and smoothed, in one way or the other. A share of 0 draws nothing."""
    is_covered = covered > 0 and rng.random() < covered
    seed = int(rng.integers(1 << 31)) if is_covered else None
    if smoothed > 0 and rng.random() < smoothed:
        return Cover(seed=seed, smooth_levels=rng.uniform(10, 50), smooth_share=rng.uniform(0.6, 1))
    if widely_smoothed > 0 and rng.random() < widely_smoothed / (1 - smoothed):
        radius, levels, share = int(rng.integers(4, 17)), rng.uniform(6, 28), rng.uniform(0.6, 1)
        return Cover(seed=seed, smooth_levels=levels, smooth_share=share, smooth_radius_px=radius)
    return Cover(seed=seed)


def apply(how: Cover, crops: Sequence[UInt8]) -> list[UInt8]:
    """The same steps on every crop, uint8 RGB [H, W, 3] of one size: equal crops stay equal, and so do equal pixels of others
    where nothing is smoothed."""
    return [_laid_over(how.seed, _smoothed(how, crop)) for crop in crops]


def _smoothed(how: Cover, crop_HWC: UInt8) -> UInt8:
    """As beauty filters smooth skin: edges stay."""
    if how.smooth_levels is None:
        return crop_HWC
    if how.smooth_radius_px is None:
        smooth_HWC = cv2.bilateralFilter(np.ascontiguousarray(crop_HWC), 7, how.smooth_levels, 3)
    else:
        smooth_HWC = _guided(crop_HWC, how.smooth_radius_px, how.smooth_levels)
    return np.asarray(cv2.addWeighted(smooth_HWC, how.smooth_share, crop_HWC, 1 - how.smooth_share, 0), np.uint8)


def _guided(crop_HWC: UInt8, radius_px: int, levels: float) -> UInt8:
    """The picture filtered by itself (guided filter, He et al., ECCV 2010): as wide as wanted at the same cost."""
    window = 2 * radius_px + 1, 2 * radius_px + 1
    picture_HWC = crop_HWC.astype(np.float32)
    mean_HWC = cv2.blur(picture_HWC, window)
    spread_HWC = cv2.blur(picture_HWC * picture_HWC, window) - mean_HWC * mean_HWC
    kept_HWC = spread_HWC / (spread_HWC + levels * levels)
    offset_HWC = cv2.blur(mean_HWC - kept_HWC * mean_HWC, window)
    return np.asarray(np.rint(cv2.blur(kept_HWC, window) * picture_HWC + offset_HWC).clip(0, 255), np.uint8)


def _laid_over(seed: int | None, crop_HWC: UInt8) -> UInt8:
    if seed is None:
        return crop_HWC
    rng = np.random.default_rng(seed)
    picture = _Picture(crop_HWC, edge_px=rng.uniform(0.4, 1.2) if rng.random() < 0.5 else 0)
    for _ in range(2 if rng.random() < 0.25 else 1):
        LAYERS[rng.integers(len(LAYERS))](rng, picture)
    return np.rint(picture.rgb_HWC).astype(np.uint8)


class _Picture:
    """``edge_px``: deviation by which what is laid over is blurred at its edges."""

    def __init__(self, crop_HWC: UInt8, edge_px: float) -> None:
        self.height, self.width = crop_HWC.shape[:2]
        self.rgb_HWC: Float32 = crop_HWC.astype(np.float32)
        self._edge_px = edge_px

    def at(self, x: float, y: float) -> tuple[int, int]:
        """A place given as shares of width and height."""
        return round(x * self.width), round(y * self.height)

    def lay(self, shape: Callable[[UInt8], object], colour: Colour, share: float = 1.0) -> None:
        """``shape`` draws in white on black where the colour is seen, by ``share``."""
        mask_HW = np.zeros((self.height, self.width), np.uint8)
        shape(mask_HW)
        if self._edge_px:
            mask_HW = np.asarray(cv2.GaussianBlur(mask_HW, (0, 0), self._edge_px), np.uint8)
        share_HW1 = mask_HW[..., None] * np.float32(share / 255)
        self.rgb_HWC = self.rgb_HWC * (1 - share_HW1) + np.array(colour, np.float32) * share_HW1

    def write(
        self, text: str, place: tuple[int, int], font: int, scale: float, thick: int, colour: Colour, share: float = 1.0
    ) -> None:
        self.lay(lambda mask_HW: cv2.putText(mask_HW, text, place, font, scale, 255, thick, cv2.LINE_AA), colour, share)


def _caption(rng: np.random.Generator, picture: _Picture) -> None:
    """A line or two, mostly low in the picture: on a box, with an outline, or bare."""
    font, thick = FONTS[rng.integers(len(FONTS))], int(rng.integers(1, 3))
    lines = [_text(rng, 4, 18) for _ in range(rng.integers(1, 3))]
    widest = max(cv2.getTextSize(line, font, 1.0, thick)[0][0] for line in lines)
    scale = rng.uniform(0.5, 1.2) * picture.width / max(widest, 1)
    step = max(8, round(34 * scale))
    left, bottom = picture.at(rng.uniform(-0.1, 0.3), rng.uniform(0.55, 0.95) if rng.random() < 0.7 else rng.uniform(0.1, 0.95))
    style, colour = rng.integers(3), _colour(rng)
    edge, share = (BLACK if rng.random() < 0.6 else _colour(rng)), rng.uniform(0.5, 1)
    for number, line in enumerate(lines):
        x, y = left, bottom + number * step
        if style == 0:
            corners = (0, y - step), (picture.width, y + step // 3)
            picture.lay(partial(cv2.rectangle, pt1=corners[0], pt2=corners[1], color=255, thickness=-1), edge, share)
        elif style == 1:
            picture.write(line, (x, y), font, scale, thick + 3, edge)
        picture.write(line, (x, y), font, scale, thick, colour)


def _sticker(rng: np.random.Generator, picture: _Picture) -> None:
    """A bright disc, mostly with a face of its own, or a star or heart of as many corners as chance gives."""
    radius = max(3, round(rng.uniform(0.05, 0.22) * picture.width))
    x, y = picture.at(*rng.uniform(0.1, 0.9, 2))
    colour = _colour(rng, vivid=True)
    if rng.random() < 0.4:
        turns = np.linspace(0, 2 * np.pi, int(rng.integers(6, 14)), endpoint=False) + rng.uniform(0, np.pi)
        reach = radius * np.where(np.arange(len(turns)) % 2, rng.uniform(0.4, 0.9), 1.0)
        corners_N2 = np.stack([x + reach * np.cos(turns), y + reach * np.sin(turns)], 1).astype(np.int32)
        picture.lay(lambda mask_HW: cv2.fillPoly(mask_HW, [corners_N2], 255, cv2.LINE_AA), colour)
        return
    picture.lay(_ellipse((x, y), (radius, radius)), colour)
    if rng.random() < 0.7:
        for side in (-1, 1):
            eye = x + side * radius * 2 // 5, y - radius // 4
            picture.lay(_ellipse(eye, (max(1, radius // 6),) * 2), BLACK)
        mouth = (x, y + radius // 6), (radius // 2, radius // 3), 0, 0, 180
        picture.lay(lambda mask_HW: cv2.ellipse(mask_HW, *mouth, 255, max(1, radius // 8), cv2.LINE_AA), BLACK)


def _watermark(rng: np.random.Generator, picture: _Picture) -> None:
    """A half transparent text, once or all over."""
    text, font, scale = _text(rng, 3, 10), FONTS[rng.integers(len(FONTS))], rng.uniform(0.3, 1.0)
    colour, share = ((255.0, 255.0, 255.0) if rng.random() < 0.7 else _colour(rng)), rng.uniform(0.15, 0.6)
    x, y = picture.at(*rng.uniform(0, 0.8, 2))
    rows = [y] if rng.random() < 0.4 else range(0, picture.height + 40, int(rng.integers(24, 64)))
    for number, row in enumerate(rows):
        picture.write(text, ((x + 37 * number) % picture.width - picture.width // 4, row), font, scale, 1, colour, share)


def _glasses(rng: np.random.Generator, picture: _Picture) -> None:
    """About where a crop has its eyes."""
    colour, share = _colour(rng, most=70), rng.uniform(0.75, 1)
    apart, level = rng.uniform(0.13, 0.19), rng.uniform(0.36, 0.46)
    axes = picture.at(rng.uniform(0.08, 0.14), rng.uniform(0.06, 0.1))
    turn = rng.uniform(-8, 8)
    for side in (-1, 1):
        centre = picture.at(0.5 + side * apart, level + side * turn / 400)
        picture.lay(_ellipse(centre, axes, turn), colour, share)
    ends = picture.at(0.5 - apart, level - turn / 400), picture.at(0.5 + apart, level + turn / 400)
    picture.lay(lambda mask_HW: cv2.line(mask_HW, *ends, 255, int(rng.integers(2, 6)), cv2.LINE_AA), colour, share)


def _patch(rng: np.random.Generator, picture: _Picture) -> None:
    """Something before the face: a turned rectangle or ellipse of one colour, reaching in from anywhere."""
    x, y = picture.at(*rng.uniform(0, 1, 2))
    width, height = picture.at(*rng.uniform(0.1, 0.4, 2))
    turn, colour = rng.uniform(0, 180), _colour(rng)
    corners_42 = cv2.boxPoints(((x, y), (width, height), turn)).astype(np.int32)
    if rng.random() < 0.5:
        picture.lay(lambda mask_HW: cv2.fillPoly(mask_HW, [corners_42], 255, cv2.LINE_AA), colour)
    else:
        axes = max(1, width // 2), max(1, height // 2)
        picture.lay(_ellipse((x, y), axes, turn), colour)


def _ellipse(centre: tuple[int, int], axes: tuple[int, int], turn: float = 0.0) -> Callable[[UInt8], object]:
    return lambda mask_HW: cv2.ellipse(mask_HW, centre, axes, turn, 0, 360, 255, -1, cv2.LINE_AA)


LAYERS = (_caption, _caption, _sticker, _sticker, _watermark, _glasses, _patch)
"""Captions and stickers twice: they are laid over faces most."""


def _text(rng: np.random.Generator, least: int, most: int) -> str:
    return "".join(LETTERS[place] for place in rng.integers(len(LETTERS), size=rng.integers(least, most)))


def _colour(rng: np.random.Generator, *, vivid: bool = False, most: float = 255.0) -> Colour:
    if not vivid and most == 255.0 and rng.random() < 0.4:
        return (255.0, 255.0, 255.0)
    levels_3 = rng.uniform(0, most, 3)
    if vivid:
        levels_3[rng.integers(3)], levels_3[rng.integers(3)] = most, 0.1 * most
    red, green, blue = levels_3.tolist()
    return (red, green, blue)
