"""Networks that are counted give what they give alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.worker.telemetry.recorded import Recorded
from worker.telemetry.measured import MeasuredClassifier, MeasuredDetector
from worker.types import Detections, Glance, Scores, UInt8


class Means:
    name = "means"

    def scores(self, crops_FHWC: UInt8) -> Scores:
        if not len(crops_FHWC):
            return Scores(logit_F=np.zeros(0, np.float32))
        return Scores(logit_F=crops_FHWC.reshape(len(crops_FHWC), -1).mean(axis=1, dtype=np.float32))


class Finds:
    """So many faces in each frame."""

    def __init__(self, *faces: int) -> None:
        self._faces = faces

    def detect_small(
        self, small_BHWC: UInt8 | Sequence[UInt8], divisor: int, glances: Sequence[Glance] | None = None
    ) -> Detections:
        frame_N = np.repeat(np.arange(len(self._faces)), self._faces)
        n = len(frame_N)
        return Detections(
            boxes_N4=np.zeros((n, 4), np.float32),
            prob_N=np.zeros(n, np.float32),
            landmarks_NK2=np.zeros((n, 5, 2), np.float32),
            frame_N=frame_N,
            turn_N=np.zeros(n, np.int64),
        )


def test_crops_of_each_call_are_counted() -> None:
    told = Recorded()
    measured = MeasuredClassifier(Means(), told)
    crops = np.arange(5 * 2 * 2 * 3, dtype=np.uint8).reshape(5, 2, 2, 3)
    np.testing.assert_array_equal(measured.scores(crops).logit_F, Means().scores(crops).logit_F)
    measured.scores(crops[:2])
    assert len(measured.scores(crops[:0])) == 0
    assert measured.name == "means"
    assert told.seen == {("batch_crops",): [5, 2]}


def test_faces_of_each_frame_are_counted_also_where_there_are_none() -> None:
    told = Recorded()
    frames = np.zeros((4, 8, 8, 3), np.uint8)
    assert len(MeasuredDetector(Finds(2, 0, 1), told).detect_small(frames, 1)) == 3
    assert told.seen == {("faces_per_frame",): [2, 0, 1, 0]}
