"""Maps of what scores hang on, as a scan makes them: their time, and that they cost no verdict."""

from __future__ import annotations

import threading
from datetime import datetime
from pathlib import Path

import numpy as np

from tests.worker.grey_media import ByGrey, Clip, scanner
from worker.errors import ModelError
from worker.report import now
from worker.types import Scores


class FailsAfter(ByGrey):
    """A card that fails when more than ``left`` crops were scored."""

    def __init__(self) -> None:
        self.left, self.asked = 10**6, 0
        self._lock = threading.Lock()

    def scores(self, crops_FHWC: np.ndarray) -> Scores:
        with self._lock:
            self.asked += len(crops_FHWC)
            if self.asked > self.left:
                raise ModelError("the card failed")
        return super().scores(crops_FHWC)


def test_maps_are_made_where_they_are_asked_for_and_take_their_time(file: Path) -> None:
    result = scanner(Clip(swap_s=(1.0, 2.0))).scan(file, explain=True)
    (track,) = (track for track in result.report.tracks if track.evidence)
    assert [item.explanation is not None for item in track.evidence] == [True, False]
    assert result.crops[str(track.evidence[0].explanation)][:2] == b"\xff\xd8"
    timings = result.report.timings_ms
    assert timings is not None
    assert timings.total >= timings.infer > 0


def test_a_scan_is_finished_when_its_maps_are(file: Path) -> None:
    scored: list[datetime] = []

    class Notes(ByGrey):
        def scores(self, crops_FHWC: np.ndarray) -> Scores:
            scored.append(now())
            return super().scores(crops_FHWC)

    report = scanner(Clip(), classifier=Notes(), threads=1).scan(file, explain=True).report
    assert report.finished_at is not None
    assert report.finished_at >= scored[-1]


def test_maps_that_cannot_be_made_cost_no_verdict(file: Path) -> None:
    failing = FailsAfter()
    one = scanner(Clip(swap_s=(1.0, 2.0)), classifier=failing, threads=1)  # nothing is looked at ahead, so both scans score alike
    one.scan(file)
    failing.left, failing.asked = failing.asked, 0
    result = one.scan(file, explain=True)
    assert failing.asked > failing.left, "maps were begun"
    assert (result.report.status, result.report.error) == ("completed", None)
    evidence = [item for track in result.report.tracks for item in track.evidence]
    assert {name for item in evidence for name in (item.crop, item.frame) if name} == set(result.crops)
    assert all(item.explanation is None for item in evidence)
