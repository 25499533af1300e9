"""What a scan tells while it is under way, and how whoever is told, or a signal, ends it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.worker.grey_media import Clip, OneFace, scanner
from worker.errors import LeaseLost
from worker.run import Progress
from worker.types import Detections, Glance, Label


def test_progress_reaches_what_was_wanted(file: Path) -> None:
    seen: list[Progress] = []
    scanner(Clip(), exhaustive=True).scan(file, on_progress=seen.append)
    assert [progress.decoded for progress in seen] == sorted(progress.decoded for progress in seen)
    assert (seen[-1].decoded, seen[-1].wanted) == (32, 32)


def test_interrupts_pass_through(file: Path) -> None:
    class Interrupted(OneFace):
        def detect_small(
            self, small_BHWC: Sequence[np.ndarray] | np.ndarray, divisor: int, glances: Sequence[Glance] | None = None
        ) -> Detections:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scanner(Clip(), detector=Interrupted()).scan(file)


@pytest.mark.parametrize("stage", ["infer", "decode"])
def test_who_is_told_of_progress_may_end_the_scan(file: Path, stage: str) -> None:
    """A cancelled or lost scan of the queue: nothing is looked at any more when ``scan`` comes back."""
    detector = OneFace()

    def cancel(progress: Progress) -> None:
        if progress.stage == stage and detector.batches:
            raise LeaseLost("another worker has it")

    report = scanner(Clip(duration_s=600.0), detector=detector, exhaustive=True).scan(file, on_progress=cancel).report
    assert report.error is not None
    assert report.error.message == "another worker has it"
    looked_at = sum(detector.batches)
    assert 0 < looked_at <= 4 * 6, "no more than was under way"


def test_a_scan_may_be_ended_before_its_file_is_read_or_opened(file: Path) -> None:
    for at in (1, 2):
        clip, words = Clip(), 0

        def cancel(progress: Progress, last: int = at) -> None:
            nonlocal words
            words += 1
            if words == last:
                raise LeaseLost("another worker has it")

        missing = file.with_name("gone.mp4") if at == 1 else file  # it would be a failure of another kind to read it
        report = scanner(clip).scan(missing, on_progress=cancel).report
        assert report.error is not None
        assert report.error.message == "another worker has it"
        assert clip.passes == []


def test_a_scan_may_be_ended_between_its_maps(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    told: list[Progress] = []

    def cancel(progress: Progress) -> None:
        told.append(progress)
        if len(told) > 1 and told[-2].decoded == progress.decoded == 32 and progress.stage == "infer":
            raise LeaseLost("another worker has it")

    report = scanner(Clip(), exhaustive=True).scan(file, on_progress=cancel, explain=True).report
    assert report.error is not None
    assert report.error.message == "another worker has it"
    assert (told[-1].decoded, told[-1].wanted) == (32, 32), "no step back"
    assert "maps" not in caplog.text


def test_no_thread_outlives_the_scanner(file: Path) -> None:
    before = set(threading.enumerate())
    with scanner(Clip()) as opened:
        assert opened.scan(file).report.verdict is Label.REAL
        own = set(threading.enumerate()) - before
        assert own
    assert not any(thread.is_alive() for thread in own)
