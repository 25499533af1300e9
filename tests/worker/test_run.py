"""How long a scan holds the memory of its frames, with the tests' own frames, faces and scores behind its ports."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tests.worker.grey_media import Clip, OneFace, scanner
from worker.run import Progress
from worker.types import Detections, Frame, Glance, SamplingRequest

BATCH = 6


class Watched(Clip):
    """Remembers which of its frames are still held: of those noted already, when each further one is decoded."""

    given, noted = 0, 0
    came = threading.Condition()

    def frames(self, request: SamplingRequest) -> Iterator[Frame]:
        frames: list[weakref.ref[np.ndarray]] = []
        self.held: list[int] = []
        for frame in super().frames(request):
            frames.append(weakref.ref(frame.small_HWC))
            self.held.append(_alive(frames[: self.noted]))
            self._tell(len(frames))
            yield frame
        self._tell(1000)

    def _tell(self, given: int) -> None:
        with self.came:
            self.given = given
            self.came.notify_all()

    def note(self, progress: Progress) -> None:
        self.noted = progress.decoded


def _alive(frames: Sequence[weakref.ref[np.ndarray]]) -> int:
    """How many; the thread that looked at them may take a moment to let them go."""
    for _ in range(100):
        if not any(frame() is not None for frame in frames):
            return 0
        time.sleep(0.001)
    return sum(frame() is not None for frame in frames)


class Late(OneFace):
    """Looks at a batch when the two behind it are decoded."""

    def __init__(self, clip: Watched) -> None:
        super().__init__()
        self._clip = clip

    def detect_small(
        self, small_BHWC: np.ndarray | Sequence[np.ndarray], divisor: int, glances: Sequence[Glance] | None = None
    ) -> Detections:
        with self._clip.came:
            least = BATCH * (len(self.batches) + 3)
            assert self._clip.came.wait_for(lambda: self._clip.given >= least, timeout=30.0)
        return super().detect_small(small_BHWC, divisor, glances)


def test_frames_that_were_noted_are_not_held_while_others_are_decoded(file: Path) -> None:
    clip = Watched()
    with scanner(clip, detector=Late(clip), exhaustive=True, threads=1) as scanning:
        report = scanning.scan(file, on_progress=clip.note).report
    assert report.sampling is not None
    assert report.sampling.with_face == 32
    assert clip.noted == 32
    assert clip.held == [0] * 32
