"""What every backend checks and cuts before its runtime sees the crops."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from worker.types import Scores, UInt8


class BatchedClassifier(ABC):
    """A ``worker.ports.Classifier``; its runtime gets at most ``max_batch`` crops of ``size`` x ``size`` pixels at a time."""

    def __init__(self, *, name: str, size: int, max_batch: int) -> None:
        if max_batch < 1:
            raise ValueError(f"max_batch {max_batch} must be positive")
        self.name = name
        self._size, self._max_batch = size, max_batch

    def scores(self, crops_FHWC: UInt8) -> Scores:
        """uint8 RGB crops [F, size, size, 3] -> log p(fake) - log p(real) and, of a head that draws, that of every draw.

        Raises ValueError for other input, ModelError where the runtime or its card fails.
        """
        crops_FHWC = checked(crops_FHWC, self._size)
        parts = [self._score(crops_FHWC[i : i + self._max_batch]) for i in range(0, len(crops_FHWC), self._max_batch)]
        if not parts:
            return Scores(logit_F=np.zeros(0, np.float32))
        draws = [part.draws_FN for part in parts if part.draws_FN is not None]
        return Scores(logit_F=np.concatenate([part.logit_F for part in parts]), draws_FN=np.concatenate(draws) if draws else None)

    @abstractmethod
    def _score(self, crops_FHWC: UInt8) -> Scores:
        """The scores of one contiguous part, of at least one crop."""


def checked(crops_FHWC: UInt8, size: int) -> UInt8:
    """The crops, contiguous. Raises ValueError unless they are uint8 [F, size, size, 3]."""
    shape = crops_FHWC.shape
    if crops_FHWC.dtype != np.uint8 or len(shape) != 4 or shape[1:] != (size, size, 3):
        raise ValueError(f"crops must be uint8 [F, {size}, {size}, 3], not {crops_FHWC.dtype} {list(shape)}")
    return np.ascontiguousarray(crops_FHWC)
