"""The pixels of a frame at full resolution, RGB or still as decoded, and the small picture in which faces are looked for.

Of 8-bit planar YUV only the parts that are wanted become RGB. The arithmetic is libswscale's to the last bit, as on x86: 4:4:4 is
rounded once; for 4:2:0 each share is cut off to whole grey levels, and a chroma sample counts for its whole block of 2 x 2. The
classifier was trained on such pixels: one grey level everywhere moves single scores by up to 0.15.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from worker.types import Float32, Frame, UInt8

Int16 = npt.NDArray[np.int16]

HALVED_FROM_PX = 480
SHORT_SIDE_PX = 540
PART_PX = 8 * 640 * 360
"""Most pixels, at detection scale, that one thread works on at a time: about 8 halved 720p frames, some 100 MB in all."""
FRAME_PX = 2 * PART_PX
"""Most pixels of one frame at detection scale. Only those 8 or more times as long as wide can reach it; they are then
shrunk further, and their smaller faces lost."""
MATRICES = {
    1: (117489, 138438, -13975, -34925),
    4: (104448, 132798, -24759, -53109),
    5: (104597, 132201, -25675, -53279),
    7: (117579, 136230, -16907, -35559),
    9: (110013, 140363, -12277, -42626),
}
"""By libswscale's number (BT.709, FCC, BT.601, SMPTE 240M, BT.2020; ITU-T H.273), in units of 2 ** -16: what V adds to red, U to
blue, U to green and V to green, of video range."""
BAND_PX = 1 << 16
"""About so many pixels are converted at a time where intermediate values are large: they stay in the cache."""


@lru_cache(maxsize=64)
def detection_divisor(height: int, width: int) -> int:
    """Faces are looked for at 1 / k of the full size: the k, by the shorter side.

    Below 480 pixels frames stay as they are; from 480 they are halved, so that the shorter side never ends below 240; from 1350
    on k brings it nearest to 540. 256 -> 256, 480 -> 240, 720 -> 360, 1080 -> 540, 1440 -> 480, 2160 -> 540. Of a very long
    picture, k is the least that leaves ``FRAME_PX`` pixels.
    """
    shorter = min(height, width)
    by_side = 1 if shorter < HALVED_FROM_PX else max(2, (2 * shorter + SHORT_SIDE_PX) // (2 * SHORT_SIDE_PX))
    return max(by_side, math.ceil(math.sqrt(height * width / FRAME_PX)))


def rgb_frame(pts_s: float, rgb_HWC: UInt8) -> Frame:
    """A frame that is RGB already; its pixels are not copied."""
    pixels = RgbPixels(rgb_HWC=rgb_HWC)
    divisor = detection_divisor(pixels.height, pixels.width)
    return Frame(pts_s=pts_s, pixels=pixels, small_HWC=shrink(rgb_HWC, divisor), divisor=divisor)


def shrink(rgb_HWC: UInt8, divisor: int) -> UInt8:
    """Averaged over ``divisor`` x ``divisor`` pixels; the last rows and columns that fill no such square are left out."""
    if divisor == 1:
        return rgb_HWC
    height, width = (side // divisor for side in rgb_HWC.shape[:2])
    whole = rgb_HWC[: height * divisor, : width * divisor]
    return np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class YuvPixels:
    """``Pixels`` as decoded: uint8 planes, U and V of the size of Y (4:4:4) or of half its even sides (4:2:0).

    ``matrix`` is one of ``MATRICES``; luma lies in [16, 235] and chroma in [16, 240] unless ``full_range``.
    """

    y_HW: UInt8
    u_HW: UInt8
    v_HW: UInt8
    matrix: int
    full_range: bool

    def __post_init__(self) -> None:
        planes = (self.y_HW, self.u_HW, self.v_HW)
        y, u, v = (plane.shape for plane in planes)
        if not (u == v and len(y) == 2 and y in (u, tuple(2 * side for side in u))):
            raise ValueError(f"planes of {y}, {u}, {v}")
        if any(plane.dtype != np.uint8 for plane in planes) or self.matrix not in MATRICES:
            raise ValueError(f"planes of {self.y_HW.dtype}, matrix {self.matrix}")

    @property
    def height(self) -> int:
        return int(self.y_HW.shape[0])

    @property
    def width(self) -> int:
        return int(self.y_HW.shape[1])

    @property
    def is_subsampled(self) -> bool:
        return self.y_HW.shape != self.u_HW.shape

    def region(self, top: int, left: int, height: int, width: int) -> UInt8:
        """Converted here, and only this part."""
        y_HW = self.y_HW[top : top + height, left : left + width]
        if self.is_subsampled:
            rows, columns = slice(top // 2, (top + height + 1) // 2), slice(left // 2, (left + width + 1) // 2)
            return _cut_off(
                y_HW, self.u_HW[rows, columns], self.v_HW[rows, columns], top % 2, left % 2, _shares(self.matrix, self.full_range)
            )
        u_HW, v_HW = (plane[top : top + height, left : left + width] for plane in (self.u_HW, self.v_HW))
        return _rounded(y_HW, u_HW, v_HW, _rounding(self.matrix, self.full_range))

    def quick_rgb(self) -> UInt8:
        """All of 4:4:4 as RGB, in OpenCV's coarser fixed point: one value in 35 is a grey level off, in a quarter of the time."""
        rgb_HWC = np.empty((self.height, self.width, 3), np.uint8)
        to_rgb_34 = _rounding(self.matrix, self.full_range)
        for band in _bands(self.height, self.width):
            yuv_HWC = cv2.merge((self.y_HW[band], self.u_HW[band], self.v_HW[band]))
            cv2.transform(yuv_HWC, to_rgb_34, rgb_HWC[band])
        return rgb_HWC


def _rounded(y_HW: UInt8, u_HW: UInt8, v_HW: UInt8, to_rgb_34: Float32) -> UInt8:
    """RGB of 4:4:4. A plane at a time, each cut off at 0 and 255 as it is rounded: 1.7 times as fast as ``cv2.transform``."""
    rgb_HWC = np.empty((*y_HW.shape, 3), np.uint8)
    (of_y, _, red_of_v, red), (_, green_of_u, green_of_v, green), (_, blue_of_u, _, blue) = to_rgb_34.tolist()
    for band in _bands(*y_HW.shape):
        y, u, v = (plane[band] for plane in (y_HW, u_HW, v_HW))
        red_HW = cv2.addWeighted(y, of_y, v, red_of_v, red, dtype=cv2.CV_8U)
        blue_HW = cv2.addWeighted(y, of_y, u, blue_of_u, blue, dtype=cv2.CV_8U)
        partly_HW = cv2.addWeighted(y, of_y, u, green_of_u, green, dtype=cv2.CV_32F)
        green_HW = cv2.addWeighted(partly_HW, 1, v.astype(np.float32), green_of_v, 0, dtype=cv2.CV_8U)
        cv2.merge((red_HW, green_HW, blue_HW), rgb_HWC[band])
    return rgb_HWC


def _bands(height: int, width: int) -> Iterator[slice]:
    """Of rows."""
    rows = max(1, BAND_PX // width)
    return (slice(top, top + rows) for top in range(0, height, rows))


def _cut_off(y_HW: UInt8, u_HW: UInt8, v_HW: UInt8, top: int, left: int, shares: Sequence[Int16]) -> UInt8:
    """RGB of 4:2:0; the first pixel lies ``top`` and ``left`` pixels inside the first chroma sample's block."""
    of_y, red_of_v, blue_of_u, green_of_u, green_of_v = shares
    height, width = y_HW.shape
    grey_HW = cv2.LUT(y_HW, of_y)
    added = cv2.LUT(v_HW, red_of_v), cv2.add(cv2.LUT(u_HW, green_of_u), cv2.LUT(v_HW, green_of_v)), cv2.LUT(u_HW, blue_of_u)
    rgb = []
    for part in added:
        blocks = cv2.resize(part, (2 * part.shape[1], 2 * part.shape[0]), interpolation=cv2.INTER_NEAREST)
        rgb.append(cv2.add(grey_HW, blocks[top : top + height, left : left + width], dtype=cv2.CV_8U))
    return np.asarray(cv2.merge(rgb), np.uint8)


def _weights(matrix: int, full_range: bool) -> tuple[int, int, tuple[int, ...]]:
    """Weight of Y, its black level, and weights of V for red, U for blue, U for green and V for green, in units of 2 ** -13."""
    if full_range:
        return 1 << 13, 0, tuple(_to_13_bits(math.trunc(weight * 224 / 255)) for weight in MATRICES[matrix])
    return _to_13_bits((255 << 16) // 219), 16, tuple(_to_13_bits(weight) for weight in MATRICES[matrix])


def _to_13_bits(weight: int) -> int:
    return (weight + 4) >> 3


@lru_cache(maxsize=16)
def _rounding(matrix: int, full_range: bool) -> Float32:
    """float32 [3, 4]: RGB = this @ (Y, U, V, 1), rounded. Exact: no product or sum needs more than 24 bits."""
    of_y, black, (red_of_v, blue_of_u, green_of_u, green_of_v) = _weights(matrix, full_range)
    weights_33 = np.array([[of_y, 0, red_of_v], [of_y, green_of_u, green_of_v], [of_y, blue_of_u, 0]])
    half_up = 0.5  # of the last bit: OpenCV rounds halves to even, libswscale up
    offset_3 = half_up - weights_33 @ np.array([black, 128, 128])
    return (np.hstack([weights_33, offset_3[:, None]]) / (1 << 13)).astype(np.float32)


@lru_cache(maxsize=16)
def _shares(matrix: int, full_range: bool) -> tuple[Int16, ...]:
    """int16 [256] each: what a value of Y gives, V adds to red, U to blue, U to green, V to green, cut off to whole levels."""
    of_y, black, of_chroma = _weights(matrix, full_range)
    value = np.arange(256)
    shares = [8 * (value - black) * of_y >> 16] + [8 * (value - 128) * weight >> 16 for weight in of_chroma]
    return tuple(share.astype(np.int16) for share in shares)
