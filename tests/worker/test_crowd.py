"""Of a crowd the largest faces alone are looked at: where another one could vote, the media are never called real."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.worker.grey_media import Clip, OneFace, scanner
from worker.types import Detections, Glance, Label, MediaKind, Reason
from worker.verdict.early import turn

MOST = 64


class Crowd(OneFace):
    """In every frame so many large faces, and one that is smaller."""

    def __init__(self, large: int, small_px: int = 48) -> None:
        super().__init__()
        self._boxes_N4 = np.array([[16, 16, 80, 80]] * large + [[16, 16, 16 + small_px, 16 + small_px]], np.float32)

    def detect_small(
        self, small_BHWC: Sequence[np.ndarray] | np.ndarray, divisor: int, glances: Sequence[Glance] | None = None
    ) -> Detections:
        frames, faces = len(small_BHWC), len(self._boxes_N4)
        n = frames * faces
        return Detections(
            boxes_N4=np.tile(self._boxes_N4, (frames, 1)),
            prob_N=np.full(n, 0.99, np.float32),
            landmarks_NK2=np.zeros((n, 5, 2), np.float32),
            frame_N=np.repeat(np.arange(frames, dtype=np.int64), faces),
            turn_N=np.zeros(n, np.int64),
        )


@pytest.mark.parametrize(
    ("large", "small_px", "swap_s", "label", "is_crowded"),
    [
        (MOST - 1, 48, (0.0, 0.0), Label.REAL, False),
        (MOST, 48, (0.0, 0.0), Label.UNCERTAIN, True),
        (MOST, 47, (0.0, 0.0), Label.REAL, False),
        (MOST, 48, (0.0, 4.0), Label.FAKE, True),
    ],
)
def test_a_face_that_could_vote_and_was_not_looked_at_takes_real_away(
    tmp_path: Path, large: int, small_px: int, swap_s: tuple[float, float], label: Label, is_crowded: bool
) -> None:
    path = tmp_path / "crowd.png"
    path.write_bytes(b"crowd")
    clip = Clip(kind=MediaKind.PICTURE, swap_s=swap_s)
    report = scanner(clip, detector=Crowd(large, small_px)).scan(path).report
    assert len(report.frames[0].faces) == MOST
    assert report.verdict is label
    assert report.sampling is not None
    assert report.sampling.crowded is is_crowded
    assert [reason.code for reason in report.reasons] == ([Reason.SPARSE_COVERAGE] if label is Label.UNCERTAIN else [])


class Growing(OneFace):
    """So many faces in the frames that a clip of four seconds has looked at when it is ``real`` early, a crowd in all others."""

    def __init__(self, faces: int) -> None:
        super().__init__()
        self._few, self._many = Crowd(faces - 1), Crowd(MOST)

    def detect_small(
        self, small_BHWC: Sequence[np.ndarray] | np.ndarray, divisor: int, glances: Sequence[Glance] | None = None
    ) -> Detections:
        found = [
            (self._few if turn(int(8 * glance.pts_s)) < 2 else self._many).detect_small([frame], divisor)
            for frame, glance in zip(small_BHWC, glances or (), strict=True)
        ]
        return Detections(
            boxes_N4=np.concatenate([one.boxes_N4 for one in found]),
            prob_N=np.concatenate([one.prob_N for one in found]),
            landmarks_NK2=np.concatenate([one.landmarks_NK2 for one in found]),
            frame_N=np.concatenate([one.frame_N + place for place, one in enumerate(found)]),
            turn_N=np.concatenate([one.turn_N for one in found]),
        )


@pytest.mark.parametrize(("faces", "label", "looked_at"), [(MOST // 2, Label.REAL, 11), (MOST // 2 + 1, Label.UNCERTAIN, 32)])
def test_many_faces_are_looked_for_a_crowd_in_all_frames(file: Path, faces: int, label: Label, looked_at: int) -> None:
    report = scanner(Clip(), detector=Growing(faces)).scan(file).report
    assert report.sampling is not None
    assert (report.verdict, report.sampling.decoded, report.sampling.crowded) == (label, looked_at, label is Label.UNCERTAIN)
