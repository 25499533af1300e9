"""The one crop function: a square around a face box, cut from the full-resolution frame and resized for the network.

Border rule: a crop never shows a pixel that is not in the frame. The square is first shrunk to the frame's shorter side, then
shifted inside. Padding of any colour would tell sources apart (docs/decisions/0002-crops-never-pad.md).
"""

from __future__ import annotations

import cv2
import numpy as np

from worker.types import Float32, Int64, Pixels, UInt8

MARGIN = 1.3
"""Side of the square over the longer side of the face box; a checkpoint's spec carries its own."""
SIZE = 224


def crop_squares(boxes_N4: Float32, *, height: int, width: int, margin: float = MARGIN) -> Float32:
    """The squares that are cut for face boxes: float32 [N, 4] xyxy, wholly inside a frame of ``height`` x ``width`` pixels."""
    boxes = np.asarray(boxes_N4, np.float32).reshape(-1, 4)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    side = np.clip(np.max(boxes[:, 2:] - boxes[:, :2], axis=1) * margin, 1, min(height, width))[:, None]
    limit = np.array([width, height], np.float32) - side
    start = np.clip(centre - side / 2, 0, limit)
    return np.hstack([start, start + side]).astype(np.float32)


def crop_faces(
    picture: UInt8 | Pixels, boxes_N4: Float32, *, turn_N: Int64 | None = None, margin: float = MARGIN, size: int = SIZE
) -> UInt8:
    """uint8 RGB crops [N, size, size, 3] of the faces in one full-resolution frame: its ``Pixels``, or RGB [H, W, 3].

    Shrinking averages areas (no aliasing); growing interpolates linearly. Squares are cut at whole pixels. ``turn_N``: quarter
    turns that make each face upright (``Detections``), and so its crop; none where it is not given.
    """
    height, width = picture.shape[:2] if isinstance(picture, np.ndarray) else (picture.height, picture.width)
    squares = crop_squares(boxes_N4, height=height, width=width, margin=margin)
    crops = np.empty((len(squares), size, size, 3), np.uint8)
    turns = np.zeros(len(squares), np.int64) if turn_N is None else turn_N
    for crop_HWC, (x1, y1, x2, _), turn in zip(crops, squares, turns.tolist(), strict=True):
        left, top = round(float(x1)), round(float(y1))
        side = max(1, min(round(float(x2 - x1)), width - left, height - top))
        if isinstance(picture, np.ndarray):
            cut = picture[top : top + side, left : left + side]
        else:
            cut = picture.region(top, left, side, side)
        how = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
        crop_HWC[...] = np.rot90(cv2.resize(np.ascontiguousarray(cut), (size, size), interpolation=how), turn)
    return crops
