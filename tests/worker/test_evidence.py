"""Which crops are kept of a scan, and how many."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from worker import evidence
from worker.evidence import UNCODED, EvidenceStore
from worker.types import UInt8


def crop(grey: int = 0) -> UInt8:
    return np.full((32, 32, 3), grey, np.uint8)


def offered(store: EvidenceStore, offers: list[tuple[int, float]]) -> list[int]:
    """Offer (track, logit) of faces 0, 1, ...; returns the faces that were kept."""
    for face, (track, logit) in enumerate(offers):
        store.offer(track, face, logit, crop())
    return [face for face in range(len(offers)) if store.jpeg(face) is not None]


def test_the_worst_of_each_track_are_kept() -> None:
    quiet = [(1, -5.0), (1, -4.0), (1, -6.0)]
    loud = [(0, 9.0 + 0.1 * k) for k in range(500)]
    assert offered(EvidenceStore(2), [*quiet, *loud]) == [0, 1, 501, 502]
    assert offered(EvidenceStore(2), [*loud, *quiet]) == [498, 499, 500, 501]


def test_of_equal_logits_the_earlier_stay() -> None:
    assert offered(EvidenceStore(2), [(0, 1.0)] * 5) == [0, 1]


@pytest.mark.parametrize("n_tracks", [3, 4, 8, 100])
def test_the_number_of_crops_is_bounded_and_shared_out(n_tracks: int) -> None:
    offers = [(k % n_tracks, float(k % 7)) for k in range(5 * n_tracks)]
    kept = offered(EvidenceStore(3, capacity=8), offers)
    per_track = [sum(offers[face][0] == track for face in kept) for track in range(n_tracks)]
    assert len(kept) == 8
    if n_tracks <= 8:
        assert min(per_track) >= 1
        assert max(per_track) - min(per_track) <= 1
    else:
        assert {offers[face][1] for face in kept} == {6.0}


def test_none_are_kept_where_none_are_wanted() -> None:
    assert offered(EvidenceStore(0), [(0, 1.0), (0, 2.0)]) == []


def test_a_crop_is_a_jpeg_of_its_own_face_in_rgb() -> None:
    store = EvidenceStore(1)
    store.offer(0, 7, 0.0, np.full((32, 32, 3), (200, 40, 10), np.uint8))
    data = store.jpeg(7)
    assert data is not None
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert decoded[16, 16, ::-1] == pytest.approx((200, 40, 10), abs=6)


def test_only_crops_that_are_asked_for_are_encoded_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []

    def encode(rgb_HWC: UInt8, quality: int) -> bytes:
        encoded.append(int(rgb_HWC[0, 0, 0]))
        return b"JPEG"

    monkeypatch.setattr(evidence, "encoded", encode)
    store = EvidenceStore(30)
    same = crop()  # as one array of a batch may be used again
    for face in range(40):
        same[:] = face
        store.offer(0, face, float(face), same)
    assert encoded == []
    assert [store.jpeg(face) for face in (39, 12, 39, 3)] == [b"JPEG", b"JPEG", b"JPEG", None]
    assert encoded == [39, 12]


def test_crops_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[UInt8] = []
    monkeypatch.setattr(evidence, "encoded", lambda rgb_HWC, quality: encoded.append(rgb_HWC) or b"JPEG")
    store = EvidenceStore(UNCODED + 10)
    for face in range(UNCODED):
        store.offer(0, face, float(face), crop())
    assert len(encoded) == 0
    store.offer(0, UNCODED, 1e3, crop())
    assert len(encoded) == 1
    store.jpeg(0)  # makes room for one
    store.offer(0, UNCODED + 1, 1e3, crop())
    assert len(encoded) == 2
    for face in range(UNCODED + 2, UNCODED + 10):
        store.offer(0, face, 1e3, crop())
    assert len(encoded) == 10
    store.offer(0, UNCODED + 10, 1e4, crop())  # the lowest, face 0, goes: it had been encoded
    assert len(encoded) == 11
    store.offer(0, UNCODED + 11, 1e4, crop())  # face 1, which waited, makes room
    assert len(encoded) == 11
