"""The moments that a second pass looks at, on made votes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.types import Coverage, Face, MediaKind, Strategy
from worker.verdict.second_pass import SecondPass, second_pass_times


def face(time_s: float, value: float | None, track: int = 0) -> Face:
    return Face(pts_s=time_s, box_xyxy=(0, 0, 100, 100), det_prob=1.0, track=track, quality=1.0, logit=value)


def coverage(gap_s: float, end_s: float, start_s: float = 0.0) -> Coverage:
    return Coverage(
        kind=MediaKind.VIDEO,
        strategy=Strategy.AUTO,
        requested=240,
        decoded=240,
        with_face=240,
        max_gap_s=gap_s,
        start_s=start_s,
        end_s=end_s,
    )


def test_the_second_pass_goes_where_the_votes_stick_out() -> None:
    rng = np.random.default_rng(3)
    times_n = np.arange(240) * 5.0 + 2.5
    logits_n = rng.normal(-1.5, 0.5, 240)
    logits_n[120:122] += 3.0
    found = np.array(second_pass_times([face(t, x) for t, x in zip(times_n, logits_n, strict=True)], coverage(5.0, 1200.0)))
    near = np.abs(found - 605.0) < 6.6
    assert near.sum() >= 7
    assert len(found) <= 128
    assert (np.diff(found) > 0).all()


def test_each_track_is_measured_against_its_own_median() -> None:
    rng = np.random.default_rng(4)
    times_n = np.arange(100) * 5.0
    low, high = rng.normal(-4.0, 0.2, 100), rng.normal(1.0, 0.2, 100)
    low[40:42] += 3.0
    faces = [face(t, x, 0) for t, x in zip(times_n, low, strict=True)] + [
        face(t, x, 1) for t, x in zip(times_n, high, strict=True)
    ]
    found = np.array(second_pass_times(faces, coverage(5.0, 500.0), budget=8))
    assert (np.abs(found - 202.5) < 7).all()


def test_tracks_seen_once_are_looked_at_again() -> None:
    faces = [face(10.0 * k, 0.1 * k, track=k) for k in range(40)]
    found = second_pass_times(faces, coverage(10.0, 400.0), budget=16)
    assert found == pytest.approx((379.6, 380.4, 389.6, 390.4))


@given(
    times=st.lists(st.floats(0, 300), min_size=0, max_size=60),
    budget=st.integers(0, 40),
    n_tracks=st.integers(1, 5),
    start_s=st.floats(0, 50),
    end_s=st.floats(60, 300),
)
def test_the_second_pass_keeps_to_budget_and_window(
    times: list[float], budget: int, n_tracks: int, start_s: float, end_s: float
) -> None:
    faces = [face(t, math.sin(t), track=i % n_tracks) for i, t in enumerate(times)]
    found = second_pass_times(faces, coverage(5.0, end_s, start_s), budget)
    assert len(found) <= budget
    assert all(start_s <= t < end_s for t in found)
    apart_s = SecondPass().few_step_s / 2
    assert all(abs(t - other) >= apart_s for i, t in enumerate(found) for other in (*times, *found[:i])), "nothing is seen twice"


def test_a_plateau_is_one_moment() -> None:
    faces = [face(10.0 * k, logit) for k, logit in enumerate([-3.0, -3.0, 2.0, 2.0, -3.0, -3.0])]
    assert second_pass_times(faces, coverage(10.0, 60.0)) == pytest.approx([26.5 + k for k in range(8)])


def test_a_track_is_looked_at_again_around_its_votes_or_around_its_highest_moment() -> None:
    few = SecondPass().few_votes
    faces = [face(10.0 * k, 2.0 if k == 1 else -3.0) for k in range(few)]
    assert second_pass_times(faces, coverage(10.0, 60.0)) == pytest.approx([6.5 + k for k in range(8)])
    assert second_pass_times(faces[: few - 1], coverage(10.0, 60.0)) == pytest.approx([9.6, 10.4])


@pytest.mark.parametrize(("gap_s", "moments"), [(1.0, 0), (1.01, 8)])
def test_a_dense_first_pass_needs_no_second(gap_s: float, moments: int) -> None:
    """However rarely it found the face."""
    faces = [face(10.0 * k, 2.0 if k == 2 else -3.0) for k in range(5)]
    assert len(second_pass_times(faces, coverage(gap_s, 50.0))) == moments
