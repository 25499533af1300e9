"""Greedy non-maximum suppression of many groups of boxes at once, in bounded memory."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from worker.types import Float32, Int64

BLOCK = 128
"""Boxes of each group that are compared at a time."""


def _overlaps(better_GI4: Float32, worse_GJ4: Float32, limit: float, over_smaller: bool) -> npt.NDArray[np.bool_]:
    """[G, I, J]: box i of group g overlaps box j of the same group by more than ``limit``."""
    one = np.float32(over_smaller)
    a, b = better_GI4[:, :, None], worse_GJ4[:, None]
    size_a, size_b = a[..., 2:] - a[..., :2] + one, b[..., 2:] - b[..., :2] + one
    area_a, area_b = size_a[..., 0] * size_a[..., 1], size_b[..., 0] * size_b[..., 1]
    width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0]) + one
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1]) + one
    inter = np.maximum(width, 0) * np.maximum(height, 0)
    whole = np.minimum(area_a, area_b) if over_smaller else area_a + area_b - inter
    # divided, as torchvision does: IoU of whole-pixel boxes is often exactly the limit
    result: npt.NDArray[np.bool_] = np.divide(inter, whole, out=np.zeros_like(inter), where=whole > 0) > np.float32(limit)
    return result


def suppress(boxes_N4: Float32, score_N: Float32, group_N: Int64, limit: float, *, over_smaller: bool = False) -> Int64:
    """Indices of the boxes that greedy suppression keeps in each group, by rising group, then falling score.

    A box falls if a kept box of its group with a higher score overlaps it by more than ``limit`` of their union, or, with
    ``over_smaller``, of the smaller of the two, sizes counted in whole pixels (end - start + 1).

    Groups are padded to one array and taken a block of ranks at a time; inside a block the greedy result is the fixed point of
    "kept unless a kept better one overlaps", reached in a few rounds.
    """
    if len(score_N) == 0:
        return np.empty(0, np.int64)
    order = np.lexsort((-score_N, group_N)).astype(np.int64)
    group = group_N[order]
    starts = np.r_[True, group[1:] != group[:-1]]
    if starts.all():
        return order
    row = np.cumsum(starts) - 1
    rank = np.arange(len(group)) - np.flatnonzero(starts)[row]
    shape = int(row[-1]) + 1, int(rank.max()) + 1
    boxes_GR4 = np.zeros((*shape, 4), np.float32)
    boxes_GR4[row, rank] = boxes_N4[order]
    keep_GR = np.zeros(shape, bool)
    keep_GR[row, rank] = True
    for start in range(0, shape[1], BLOCK):
        block = slice(start, start + BLOCK)
        for earlier in range(0, start, BLOCK):
            before = slice(earlier, earlier + BLOCK)
            beats = _overlaps(boxes_GR4[:, before], boxes_GR4[:, block], limit, over_smaller)
            keep_GR[:, block] &= ~(beats & keep_GR[:, before, None]).any(1)
        candidates = keep_GR[:, block].copy()
        beats = np.triu(_overlaps(boxes_GR4[:, block], boxes_GR4[:, block], limit, over_smaller), 1)
        while True:
            kept = candidates & ~(beats & keep_GR[:, block, None]).any(1)
            if (kept == keep_GR[:, block]).all():
                break
            keep_GR[:, block] = kept
    kept_N: Int64 = order[keep_GR[row, rank]]
    return kept_N
