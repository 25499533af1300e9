"""Which whole frames are kept of a scan, and how many are encoded for it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from worker.key_frames import MOST_SIDE_PX, UNCODED, KeyFrames, reduced
from worker.types import UInt8


def frame(height: int = 36, width: int = 64, grey: int = 90) -> UInt8:
    return np.full((height, width, 3), grey, np.uint8)


def kept(store: KeyFrames, offers: list[tuple[int, float]]) -> list[int]:
    """Offer (track, logit) of frames 0, 1, ...; returns the frames that were kept."""
    for moment, (track, logit) in enumerate(offers):
        store.offer(track, logit, float(moment), frame())
    return [moment for moment in range(len(offers)) if store.jpeg(float(moment)) is not None]


def test_the_frame_of_the_worst_face_of_each_track_is_kept() -> None:
    assert kept(KeyFrames(), [(0, 1.0), (1, -5.0), (0, 3.0), (0, 2.0), (1, -6.0)]) == [1, 2]


def test_of_equal_logits_the_earlier_offer_stays() -> None:
    assert kept(KeyFrames(), [(0, 1.0)] * 4) == [0]


def test_a_frame_that_two_tracks_need_is_there_until_neither_does() -> None:
    store = KeyFrames()
    store.offer(0, 1.0, 7.0, frame())
    store.offer(1, 1.0, 7.0, frame())
    store.offer(0, 2.0, 8.0, frame())
    assert store.jpeg(7.0) is not None
    store.offer(1, 2.0, 8.0, frame())
    assert store.jpeg(7.0) is None
    assert store.jpeg(8.0) is not None


def test_of_many_tracks_the_worst_are_kept() -> None:
    assert kept(KeyFrames(capacity=3), [(track, float(track % 7)) for track in range(20)]) == [6, 12, 13]


def test_none_are_kept_where_none_are_wanted() -> None:
    assert kept(KeyFrames(capacity=0), [(0, 1.0), (1, 2.0)]) == []


def test_few_of_many_frames_are_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a scan pays: about log n, whatever the order in which scores come."""
    made: list[int] = []
    real = cv2.imencode
    monkeypatch.setattr(cv2, "imencode", lambda *given: made.append(1) or real(*given))  # type: ignore[func-returns-value]
    logits = np.random.default_rng(3).normal(size=2000)
    offers = [(track, float(logit)) for logit in logits for track in range(UNCODED + 1)]
    assert len(kept(KeyFrames(), offers)) == UNCODED + 1
    assert UNCODED + 1 <= len(made) <= UNCODED + 30


def test_of_few_tracks_only_the_frames_that_stay_are_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    real = cv2.imencode
    monkeypatch.setattr(cv2, "imencode", lambda *given: made.append(1) or real(*given))  # type: ignore[func-returns-value]
    store, same = KeyFrames(), frame()
    for moment in range(50):
        same[:] = 4 * moment
        for track in range(UNCODED):
            store.offer(track, float(moment * UNCODED + track), float(moment * UNCODED + track), same)
    assert not made
    jpegs = [store.jpeg(float(moment)) for moment in range(49 * UNCODED, 50 * UNCODED)]
    assert len(made) == UNCODED
    decoded = cv2.imdecode(np.frombuffer(jpegs[0] or b"", np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert decoded.mean() == pytest.approx(196, abs=2)


@pytest.mark.parametrize(
    ("size", "expected"), [((360, 640), (360, 640)), ((540, 960), (360, 640)), ((1280, 720), (640, 360)), ((4, 5000), (1, 640))]
)
def test_frames_are_made_smaller_never_larger(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert reduced(frame(*size)).shape == (*expected, 3)
    assert max(expected) <= MOST_SIDE_PX


def test_frames_are_rgb() -> None:
    store = KeyFrames()
    store.offer(0, 0.0, 1.0, np.full((32, 32, 3), (200, 40, 10), np.uint8))
    decoded = cv2.imdecode(np.frombuffer(store.jpeg(1.0) or b"", np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert decoded[16, 16, ::-1] == pytest.approx((200, 40, 10), abs=6)
