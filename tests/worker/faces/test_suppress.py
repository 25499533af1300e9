from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.faces.suppress import BLOCK, suppress
from worker.types import Float32, Int64


def overlap(a: Float32, b: Float32, over_smaller: bool) -> np.float32:
    one = np.float32(over_smaller)
    w = min(a[2], b[2]) - max(a[0], b[0]) + one
    h = min(a[3], b[3]) - max(a[1], b[1]) + one
    if w <= 0 or h <= 0:
        return np.float32(0)
    area_a, area_b = (a[2] - a[0] + one) * (a[3] - a[1] + one), (b[2] - b[0] + one) * (b[3] - b[1] + one)
    return np.float32(w * h / (min(area_a, area_b) if over_smaller else area_a + area_b - w * h))


def one_by_one(boxes: Float32, score: Float32, group: Int64, limit: float, over_smaller: bool) -> list[int]:
    """The textbook's loop."""
    kept: list[int] = []
    for i in np.lexsort((-score, group)):
        if all(group[i] != group[j] or overlap(boxes[j], boxes[i], over_smaller) <= np.float32(limit) for j in kept):
            kept.append(int(i))
    return kept


def boxes_of(rng: np.random.Generator, n: int, spread: int) -> Float32:
    start = rng.integers(0, spread, (n, 2))
    return np.hstack([start, start + rng.integers(1, 40, (n, 2))]).astype(np.float32)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 60), groups=st.integers(1, 5), over_smaller=st.booleans())
def test_equals_the_greedy_loop(seed: int, n: int, groups: int, over_smaller: bool) -> None:
    rng = np.random.default_rng(seed)
    boxes, score, group = boxes_of(rng, n, 60), rng.random(n, np.float32), rng.integers(0, groups, n)
    kept = suppress(boxes, score, group, 0.5, over_smaller=over_smaller)
    assert kept.tolist() == one_by_one(boxes, score, group, 0.5, over_smaller)


def test_equals_the_greedy_loop_beyond_a_block() -> None:
    rng = np.random.default_rng(0)
    n = 3 * BLOCK
    boxes, score = boxes_of(rng, n, 150), rng.random(n, np.float32)
    group = (rng.random(n) < 0.1).astype(np.int64)
    kept = suppress(boxes, score, group, 0.3)
    assert kept.tolist() == one_by_one(boxes, score, group, 0.3, False)
    assert len(kept) < n


def test_a_suppressed_box_suppresses_nothing() -> None:
    boxes = np.array([[0, 0, 10, 10], [3, 0, 13, 10], [6, 0, 16, 10]], np.float32)
    score = np.array([0.9, 0.8, 0.7], np.float32)
    assert suppress(boxes, score, np.zeros(3, np.int64), 0.5).tolist() == [0, 2]


def test_overlap_of_just_the_limit_is_kept() -> None:
    boxes = np.array([[0, 0, 30, 10], [10, 0, 40, 10]], np.float32)  # IoU exactly one half
    score = np.array([0.9, 0.8], np.float32)
    assert suppress(boxes, score, np.zeros(2, np.int64), 0.5).tolist() == [0, 1]
    assert suppress(boxes, score, np.zeros(2, np.int64), 0.49).tolist() == [0]


def test_groups_do_not_meet() -> None:
    boxes = np.repeat(np.array([[0, 0, 10, 10]], np.float32), 3, axis=0)
    assert suppress(boxes, np.array([0.5, 0.6, 0.7], np.float32), np.array([2, 0, 1]), 0.5).tolist() == [1, 2, 0]


@pytest.mark.parametrize("over_smaller", [False, True])
def test_no_boxes(over_smaller: bool) -> None:
    empty = np.empty(0, np.float32)
    assert len(suppress(np.empty((0, 4), np.float32), empty, np.empty(0, np.int64), 0.5, over_smaller=over_smaller)) == 0
