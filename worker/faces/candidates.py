"""Area-averaged pictures from summed-area tables: pyramid levels and candidate crops, batched, equal to facenet-pytorch's.

facenet-pytorch resizes by ``torch.nn.functional.interpolate(mode="area")``, which is adaptive average pooling: of ``n`` pixels to
``s``, output i is the mean of pixels floor(i n / s) to ceil((i + 1) n / s), in both directions, also where ``s > n``. With a
summed-area table (Crow 1984) every mean is four look-ups, whatever the size of the window.

Legend: B frames, H rows, W columns, C colours, N candidates, S side of a crop.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from worker.types import Float32, Int64, UInt8

Int32 = npt.NDArray[np.int32]


def windows(length: npt.ArrayLike, parts: int) -> tuple[Int64, Int64]:
    """Starts and ends, int64 [..., parts], of the windows that average ``length`` [...] pixels to ``parts``."""
    length = np.asarray(length, np.int64)[..., None]
    part = np.arange(parts)
    return part * length // parts, -(-(part + 1) * length // parts)


class AreaTable:
    """Summed-area tables of equally sized frames.

    int32 sums may wrap round in frames beyond 8 megapixels; differences of wrapped sums are still right for windows below that.
    A fourth, unused colour makes an entry 16 bytes: numpy gathers those, viewed as one complex number, twice as fast as three.
    """

    def __init__(self, frames_BHWC: UInt8) -> None:
        self.n, self.height, self.width = frames_BHWC.shape[:3]
        table_BHW4 = np.empty((self.n, self.height + 1, self.width + 1, 4), np.int32)
        for rgb_HWC, out in zip(frames_BHWC, table_BHW4, strict=True):
            cv2.integral(cv2.cvtColor(rgb_HWC, cv2.COLOR_RGB2RGBA), out, sdepth=cv2.CV_32S)
        self._entries_BHW = table_BHW4.view(np.complex128)[..., 0]

    def level(self, height: int, width: int) -> Float32:
        """All frames averaged to ``height`` x ``width``: float32 [B, height, width, 3]."""
        (top, bottom), (left, right) = windows(self.height, height), windows(self.width, width)
        area_HW1 = ((bottom - top)[:, None] * (right - left)).astype(np.float32)[..., None]
        level_BHWC = np.empty((self.n, height, width, 3), np.float32)
        # a frame at a time into the same arrays, which then stay in the cache; "clip" only because "raise" copies them once more
        strips, others = np.empty((2, height, self.width + 1), np.complex128)
        sums, rest = np.empty((2, height, width), np.complex128)
        for entries_HW, out in zip(self._entries_BHW, level_BHWC, strict=True):
            entries_HW.take(bottom, axis=0, out=strips, mode="clip")
            entries_HW.take(top, axis=0, out=others, mode="clip")
            strips.view(np.int32)[:] -= others.view(np.int32)
            strips.take(right, axis=1, out=sums, mode="clip")
            strips.take(left, axis=1, out=rest, mode="clip")
            sums.view(np.int32)[:] -= rest.view(np.int32)
            np.divide(sums.view(np.int32).reshape(height, width, 4)[..., :3], area_HW1, out=out, dtype=np.float32)
        return level_BHWC

    def crops(self, box_N4: Int64, frame_N: Int64, side: int) -> Float32:
        """Boxes (start and end pixels, inside the frame, not empty) averaged to squares: float32 [N, side, side, 3]."""
        left, right = (box_N4[:, :1] + edge for edge in windows(box_N4[:, 2] - box_N4[:, 0], side))
        top, bottom = (box_N4[:, 1:2] + edge for edge in windows(box_N4[:, 3] - box_N4[:, 1], side))
        area = (bottom - top)[:, :, None] * (right - left)[:, None]
        flat = self._entries_BHW.reshape(-1)
        first_row = frame_N[:, None] * (self.height + 1)
        top, bottom = ((first_row + row)[:, :, None] * (self.width + 1) for row in (top, bottom))
        left, right = left[:, None], right[:, None]
        sums = flat.take(bottom + right).view(np.int32)
        sums -= flat.take(bottom + left).view(np.int32)
        sums -= flat.take(top + right).view(np.int32)
        sums += flat.take(top + left).view(np.int32)
        return _means(sums.reshape(-1, side, side, 4), area)


class SingleCuts:
    """Crops as ``AreaTable`` gives them, for few boxes: a table of each box's own pixels."""

    def __init__(self, frames_BHWC: Sequence[UInt8] | UInt8) -> None:
        self._frames_BHWC = frames_BHWC
        self.height, self.width = frames_BHWC[0].shape[:2]

    def crops(self, box_N4: Int64, frame_N: Int64, side: int) -> Float32:
        out_NSSC = np.empty((len(box_N4), side, side, 3), np.float32)
        for (left, top, right, bottom), frame, out in zip(box_N4.tolist(), frame_N.tolist(), out_NSSC, strict=True):
            out[:] = AreaTable(self._frames_BHWC[frame][None, top:bottom, left:right]).level(side, side)[0]
        return out_NSSC


def _means(sums_4: Int32, area: Int64) -> Float32:
    means: Float32 = sums_4[..., :3].astype(np.float32)
    means /= area[..., None].astype(np.float32)
    return means
