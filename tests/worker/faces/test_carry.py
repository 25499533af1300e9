"""Carried faces are those of full detection; where anything speaks against carrying, all of the frame is looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.faces.carry import EVERY, MAX_GAP_S, CarryingDetector, anchors, pairs, stretches
from worker.faces.detect import MtcnnDetector
from worker.faces.track import FrameSighting, describe_frame
from worker.types import Detections, Glance, UInt8


class Counting(MtcnnDetector):
    """Counts the frames that were detected in full."""

    full = 0

    def detect_small(
        self, small_BHWC: UInt8 | Sequence[UInt8], divisor: int, glances: Sequence[Glance] | None = None
    ) -> Detections:
        self.full += len(small_BHWC)
        return super().detect_small(small_BHWC, divisor, glances)


@pytest.fixture(scope="module")
def shared_detector() -> Iterator[Counting]:
    with Counting(threads=1) as detector:
        yield detector


@pytest.fixture
def detector(shared_detector: Counting) -> Counting:
    shared_detector.full = 0
    return shared_detector


def moving(pair_HWC: UInt8, count: int) -> list[UInt8]:
    """Two people who move by 4 pixels from frame to frame."""
    return [np.roll(pair_HWC, 4 * step, axis=1) for step in range(count)]


def seen(frames: Sequence[UInt8], step_s: float = 0.2) -> list[FrameSighting]:
    return [describe_frame(step_s * number, frame, ()) for number, frame in enumerate(frames)]


def test_carried_faces_are_those_of_full_detection(detector: Counting, pair_HWC: UInt8) -> None:
    frames = moving(pair_HWC, 6)
    carried = CarryingDetector(detector).detect_small(frames, 2, seen(frames))
    assert detector.full == 2
    full = detector.detect_small(frames, 2)
    np.testing.assert_array_equal(carried.frame_N, full.frame_N)
    for frame in range(6):
        ours, theirs = carried.boxes_N4[carried.frame_N == frame], full.boxes_N4[full.frame_N == frame]
        assert pairs(ours, theirs, 0.75) is not None


def test_a_batch_is_answered_alike_whatever_came_before(detector: Counting, pair_HWC: UInt8) -> None:
    frames, carrying = moving(pair_HWC, 4), CarryingDetector(detector)
    first = carrying.detect_small(frames, 1, seen(frames))
    grey = [np.full_like(pair_HWC, 90)] * 3
    carrying.detect_small(grey, 1, seen(grey))
    np.testing.assert_array_equal(carrying.detect_small(frames, 1, seen(frames)).boxes_N4, first.boxes_N4)


def test_a_face_that_comes_is_looked_for_from_the_anchor_before(detector: Counting, pair_HWC: UInt8) -> None:
    alone_HWC = pair_HWC.copy()
    alone_HWC[:, 360:] = 90
    frames = [alone_HWC, alone_HWC, pair_HWC, pair_HWC]
    found = CarryingDetector(detector).detect_small(frames, 1, seen(frames))
    assert detector.full == 4
    assert np.bincount(found.frame_N).tolist() == [1, 1, 2, 2]


def test_a_face_that_is_gone_between_two_anchors_is_not_made_up(detector: Counting, pair_HWC: UInt8) -> None:
    hidden_HWC = pair_HWC.copy()
    hidden_HWC[:, 360:] = 90
    frames = [pair_HWC, hidden_HWC, pair_HWC]
    found = CarryingDetector(detector).detect_small(frames, 1, seen(frames))
    assert np.bincount(found.frame_N).tolist() == [2, 1, 2]


def test_frames_with_turned_faces_are_detected_in_full(detector: Counting, pair_HWC: UInt8) -> None:
    frames = [np.rot90(frame, 2) for frame in moving(pair_HWC, 4)]
    found = CarryingDetector(detector).detect_small(frames, 1, seen(frames))
    assert detector.full == 4
    assert found.turn_N.tolist() == [2] * 8


def test_frames_not_glanced_at_far_apart_or_without_faces_are_detected_in_full(detector: Counting, pair_HWC: UInt8) -> None:
    carrying = CarryingDetector(detector)
    frames, empty = moving(pair_HWC, 3), [pair_HWC * 0] * 3
    for shown, glances in ((frames, None), (frames, seen(frames, 2.0)), (empty, seen(empty))):
        detector.full = 0
        carrying.detect_small(shown, 1, glances)
        assert detector.full == 3


def test_no_frames(detector: Counting) -> None:
    assert len(CarryingDetector(detector).detect_small([], 1, [])) == 0


def test_stretches_end_at_cuts_gaps_and_steps_back() -> None:
    dark, light = np.full((60, 80, 3), 20, np.uint8), np.full((60, 80, 3), 220, np.uint8)
    shown = [(0.0, dark), (0.5, dark), (1.0, light), (1.5, light), (1.5 + 1.1 * MAX_GAP_S, light), (0.2, light), (0.2, light)]
    found = stretches([describe_frame(pts_s, picture, ()) for pts_s, picture in shown])
    assert found == [range(0, 2), range(2, 4), range(4, 5), range(5, 6), range(6, 7)]


@given(start=st.integers(0, 50), length=st.integers(1, 100))
def test_anchors_hold_both_ends_and_are_never_far_apart(start: int, length: int) -> None:
    marks = anchors(range(start, start + length))
    assert marks[0] == start
    assert marks[-1] == start + length - 1
    assert all(0 < after - before <= EVERY for before, after in pairwise(marks))
    assert len(marks) <= 2 + length // EVERY


def test_boxes_pair_off_only_without_rest() -> None:
    boxes = np.array([[0, 0, 10, 10], [50, 0, 60, 10]], np.float32)
    assert pairs(boxes, boxes[::-1] + 1, 0.5) == [1, 0]
    assert pairs(boxes, boxes[:1], 0.5) is None
    assert pairs(boxes, np.stack([boxes[0], boxes[0]]), 0.5) is None
    assert pairs(boxes, boxes + 8, 0.5) is None
    assert pairs(boxes[:0], boxes[:0], 0.5) == []
