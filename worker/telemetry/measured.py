"""The networks with a tally beside them: the same ports, the same answers, and every batch counted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from worker.ports import Classifier, FaceDetector
from worker.telemetry.catalogue import BATCH, FACES_SEEN
from worker.telemetry.port import Telemetry
from worker.types import Detections, Glance, Scores, UInt8


class MeasuredClassifier:
    """A ``Classifier`` that tells how many crops came at a time."""

    def __init__(self, classifier: Classifier, telemetry: Telemetry) -> None:
        self.name = classifier.name
        self._classifier, self._telemetry = classifier, telemetry

    def scores(self, crops_FHWC: UInt8) -> Scores:
        if len(crops_FHWC):
            self._telemetry.observe(BATCH, len(crops_FHWC))
        return self._classifier.scores(crops_FHWC)


class MeasuredDetector:
    """A ``FaceDetector`` that tells how many faces each frame showed."""

    def __init__(self, detector: FaceDetector, telemetry: Telemetry) -> None:
        self._detector, self._telemetry = detector, telemetry

    def detect_small(
        self, small_BHWC: UInt8 | Sequence[UInt8], divisor: int, glances: Sequence[Glance] | None = None
    ) -> Detections:
        found = self._detector.detect_small(small_BHWC, divisor, glances)
        for faces in np.bincount(found.frame_N, minlength=len(small_BHWC)).tolist():
            self._telemetry.observe(FACES_SEEN, faces)
        return found
