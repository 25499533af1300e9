"""The pixels of a frame at full resolution, RGB or still as decoded, and the small picture in which faces are looked for.

Of 8-bit planar YUV only the parts that are wanted become RGB, by the arithmetic of ITU-T H.273 in OpenCV's fixed point. A chroma
sample counts for its whole block of pixels, as in libswscale's fast path.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from worker.types import Float32, Frame, Pixels, UInt8

HALVED_FROM_PX = 480
SHORT_SIDE_PX = 540
PART_PX = 8 * 640 * 360
"""Most pixels, at detection scale, that one thread works on at a time: about 8 halved 720p frames, some 100 MB in all."""
FRAME_PX = 2 * PART_PX
"""Most pixels of one frame at detection scale. Only those 8 or more times as long as wide can reach it; they are then
shrunk further, and their smaller faces lost."""
WEIGHTS = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
"""Shares of red and blue in the luma of each matrix (ITU-T H.273, table 4): BT.709, FCC, BT.601 twice, SMPTE 240M, BT.2020."""


def detection_scale(height: int, width: int) -> float:
    """Scale at which faces are looked for, 1 / k with a whole k, by the shorter side.

    Below 480 pixels frames stay as they are; from 480 they are halved, so that the shorter side never ends below 240; from 1350
    on k brings it nearest to 540. 256 -> 256, 480 -> 240, 720 -> 360, 1080 -> 540, 1440 -> 480, 2160 -> 540. Of a very long
    picture, k is the least that leaves ``FRAME_PX`` pixels.
    """
    return 1 / detection_divisor(height, width)


def detection_divisor(height: int, width: int) -> int:
    """The k of ``detection_scale``."""
    shorter = min(height, width)
    by_side = 1 if shorter < HALVED_FROM_PX else max(2, (2 * shorter + SHORT_SIDE_PX) // (2 * SHORT_SIDE_PX))
    return max(by_side, math.ceil(math.sqrt(height * width / FRAME_PX)))


def frame_of(pts_s: float, pixels: Pixels) -> Frame:
    """A frame of these pixels; the small picture is made here."""
    divisor = detection_divisor(pixels.height, pixels.width)
    return Frame(pts_s=pts_s, pixels=pixels, small_HWC=pixels.shrunk(divisor), divisor=divisor)


def rgb_frame(pts_s: float, rgb_HWC: UInt8) -> Frame:
    """A frame that is RGB already; its pixels are not copied."""
    return frame_of(pts_s, RgbPixels(rgb_HWC=rgb_HWC))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RgbPixels:
    """``Pixels`` that are RGB already: uint8 [H, W, 3]."""

    rgb_HWC: UInt8

    def __post_init__(self) -> None:
        shape = self.rgb_HWC.shape
        if len(shape) != 3 or shape[2] != 3 or self.rgb_HWC.dtype != np.uint8:
            raise ValueError(f"RGB pixels {shape} {self.rgb_HWC.dtype}")

    @property
    def height(self) -> int:
        return int(self.rgb_HWC.shape[0])

    @property
    def width(self) -> int:
        return int(self.rgb_HWC.shape[1])

    def region(self, top: int, left: int, height: int, width: int) -> UInt8:
        """A view, not a copy."""
        return self.rgb_HWC[top : top + height, left : left + width]

    def shrunk(self, divisor: int) -> UInt8:
        return _shrunk(self.rgb_HWC, self.height // divisor, self.width // divisor, divisor, divisor)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class YuvPixels:
    """``Pixels`` as decoded: uint8 planes, U and V of one size that divides that of Y (4:2:0, 4:2:2, 4:4:0 or 4:4:4).

    ``matrix`` is one of ``WEIGHTS``; luma lies in [16, 235] and chroma in [16, 240] unless ``full_range``.
    """

    y_HW: UInt8
    u_HW: UInt8
    v_HW: UInt8
    matrix: int
    full_range: bool

    def __post_init__(self) -> None:
        (height, width), chroma = self.y_HW.shape, self.u_HW.shape
        if not (chroma == self.v_HW.shape and all(a in (b, 2 * b) for a, b in zip((height, width), chroma, strict=True))):
            raise ValueError(f"planes of {self.y_HW.shape}, {self.u_HW.shape}, {self.v_HW.shape}")
        if any(plane.dtype != np.uint8 for plane in (self.y_HW, self.u_HW, self.v_HW)) or self.matrix not in WEIGHTS:
            raise ValueError(f"planes of {self.y_HW.dtype}, matrix {self.matrix}")

    @property
    def height(self) -> int:
        return int(self.y_HW.shape[0])

    @property
    def width(self) -> int:
        return int(self.y_HW.shape[1])

    @property
    def _steps(self) -> tuple[int, int]:
        """Rows and columns of pixels for each chroma sample."""
        return self.height // self.u_HW.shape[0], self.width // self.u_HW.shape[1]

    def region(self, top: int, left: int, height: int, width: int) -> UInt8:
        """Converted here, and only this part."""
        down, across = self._steps
        first_row, first_column = top // down, left // across
        rows, columns = -(-(top + height) // down) - first_row, -(-(left + width) // across) - first_column
        parts = [self.y_HW[top : top + height, left : left + width]]
        for plane in (self.u_HW, self.v_HW):
            part = plane[first_row : first_row + rows, first_column : first_column + columns]
            if down * across > 1:
                blocks = cv2.resize(part, (columns * across, rows * down), interpolation=cv2.INTER_NEAREST)
                part = np.asarray(blocks[top % down :, left % across :][:height, :width], np.uint8)
            parts.append(part)
        return self._rgb(parts)

    def shrunk(self, divisor: int) -> UInt8:
        height, width = self.height // divisor, self.width // divisor
        down, across = self._steps
        parts = [_shrunk(self.y_HW, height, width, divisor, divisor)]
        parts += [_shrunk(plane, height, width, divisor / down, divisor / across) for plane in (self.u_HW, self.v_HW)]
        return self._rgb(parts)

    def _rgb(self, parts: list[UInt8]) -> UInt8:
        return np.asarray(cv2.transform(cv2.merge(parts), _to_rgb(self.matrix, self.full_range)), np.uint8)


def _shrunk(plane: UInt8, height: int, width: int, down: float, across: float) -> UInt8:
    """``plane`` averaged over ``down`` x ``across`` samples; the last rows and columns that fill no such block are left out."""
    if down == across == 1:
        return plane
    rows, columns = math.ceil(height * down), math.ceil(width * across)
    return np.asarray(cv2.resize(plane[:rows, :columns], (width, height), interpolation=cv2.INTER_AREA), np.uint8)


@lru_cache(maxsize=16)
def _to_rgb(matrix: int, full_range: bool) -> Float32:
    """float32 [3, 4]: RGB = this @ (Y, U, V, 1)."""
    red, blue = WEIGHTS[matrix]
    green = 1 - red - blue
    luma, chroma, black = (1.0, 1.0, 0) if full_range else (255 / 219, 255 / 224, 16)
    to_rgb_33 = np.array(
        [
            [luma, 0, 2 * (1 - red) * chroma],
            [luma, -2 * (1 - blue) * blue / green * chroma, -2 * (1 - red) * red / green * chroma],
            [luma, 2 * (1 - blue) * chroma, 0],
        ]
    )
    offset_3 = to_rgb_33 @ np.array([black, 128, 128])
    return np.hstack([to_rgb_33, -offset_3[:, None]]).astype(np.float32)
