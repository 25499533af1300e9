"""What idle threads look at before it is known to be needed: it changes nothing, and ends with the scan."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.worker.grey_media import ByGrey, Clip, OneFace, grey_engine, scanner
from worker.engine import Engine, EngineOpening
from worker.types import Detections, Frame, Glance, SamplingRequest


@pytest.mark.parametrize("swap_s", [(0.0, 0.0), (1.0, 2.4), (0.0, 9.0)], ids=["real", "uncertain", "fake"])
def test_idle_threads_look_at_what_is_kept_aside_and_change_nothing(file: Path, swap_s: tuple[float, float]) -> None:
    begun = threading.Event()

    class Tells(OneFace):
        def detect_small(
            self, small_BHWC: np.ndarray | Sequence[np.ndarray], divisor: int, glances: Sequence[Glance] | None = None
        ) -> Detections:
            found = super().detect_small(small_BHWC, divisor, glances)
            if sum(self.batches) > 6:  # more than are looked at first
                begun.set()
            return found

    class Slow(Clip):
        """Its last frame comes once some that were kept aside have been looked at."""

        def frames(self, request: SamplingRequest) -> Iterator[Frame]:
            *before, last = super().frames(request)
            yield from before
            assert begun.wait(timeout=60.0), "no thread took what was kept aside"
            yield last

    detector = Tells()
    ahead = scanner(Slow(swap_s=swap_s), detector=detector, threads=4).scan(file).report
    assert len(ahead.frames) <= sum(detector.batches) <= 32, "no frame is looked at twice"
    looked_at = sum(detector.batches)
    time.sleep(0.05)
    assert sum(detector.batches) == looked_at, "nothing goes on after the scan"
    in_turn = scanner(Clip(swap_s=swap_s), threads=1).scan(file).report
    for key in ("verdict", "score", "tracks", "segments", "frames", "sampling", "uncertainty"):
        assert getattr(ahead, key) == getattr(in_turn, key)


def test_what_was_begun_ahead_has_ended_when_the_report_is_there(file: Path) -> None:
    """Settled by its first frames, while one thread is still busy with others."""
    busy = threading.Semaphore(0)
    ended: list[bool] = []

    class OneIsSlow(OneFace):
        def detect_small(
            self, small_BHWC: np.ndarray | Sequence[np.ndarray], divisor: int, glances: Sequence[Glance] | None = None
        ) -> Detections:
            assert glances is not None
            if not ended and 0.3 < glances[0].pts_s < 1.0:  # of a later turn: the first batch of the first begins at 0.06
                busy.release()
                time.sleep(0.5)
                ended.append(True)
            return super().detect_small(small_BHWC, divisor, glances)

    class Slow(Clip):
        def frames(self, request: SamplingRequest) -> Iterator[Frame]:
            *before, last = super().frames(request)
            yield from before
            assert busy.acquire(timeout=60.0), "nothing was begun ahead"
            yield last

    report = scanner(Slow(swap_s=(0.0, 9.0)), detector=OneIsSlow(), threads=4).scan(file).report
    assert ended, "a look goes on after the scan"
    assert report.sampling is not None
    assert report.sampling.decoded == 6


def test_nothing_is_looked_at_ahead_before_the_classifier_is_open(file: Path) -> None:
    detector = OneFace()
    opened = threading.Event()

    class Slow(Clip):
        def frames(self, request: SamplingRequest) -> Iterator[Frame]:
            yield from super().frames(request)
            time.sleep(0.05)
            looked_at.append(sum(detector.batches))
            opened.set()

    def engine() -> Engine:
        assert opened.wait(timeout=60.0)
        return grey_engine(ByGrey())

    looked_at: list[int] = []
    scanner(Slow(), detector=detector, engine=EngineOpening(engine), threads=4).scan(file)
    assert len(looked_at) == 1
    assert looked_at[0] <= 6, "what is looked at first, and waits for the classifier with its faces"
