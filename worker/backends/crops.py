"""What every backend checks and cuts before its runtime sees the crops."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from worker.types import Float32, UInt8


def checked(crops_FHWC: UInt8, size: int) -> UInt8:
    """The crops, contiguous. Raises ValueError unless they are uint8 [F, size, size, 3]."""
    shape = crops_FHWC.shape
    if crops_FHWC.dtype != np.uint8 or len(shape) != 4 or shape[1:] != (size, size, 3):
        raise ValueError(f"crops must be uint8 [F, {size}, {size}, 3], not {crops_FHWC.dtype} {list(shape)}")
    return np.ascontiguousarray(crops_FHWC)


def in_batches(score: Callable[[UInt8], Float32], crops_FHWC: UInt8, max_batch: int) -> Float32:
    """``score`` over consecutive parts of at most ``max_batch`` crops: float32 [F]."""
    logits_F = np.empty(len(crops_FHWC), np.float32)
    for start in range(0, len(crops_FHWC), max_batch):
        part = slice(start, start + max_batch)
        logits_F[part] = score(crops_FHWC[part])
    return logits_F
