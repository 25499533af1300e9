"""Which moments are looked at: counts, coverage and the choice between key frames and decoding between them."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.frames.sampling import (
    MAX_TIMES,
    Clip,
    Plan,
    decode_cost,
    even_times,
    first_pass_count,
    fps_times,
    frames_asked,
    nearest_keys,
    plan,
    thin,
)
from worker.types import SamplingRequest, Strategy


def clip(duration_s: float, key_period_s: float, fps: float = 30.0) -> Clip:
    keys = tuple(i * key_period_s for i in range(int(duration_s / key_period_s) + 1) if i * key_period_s < duration_s)
    return Clip(duration_s=duration_s, fps=fps, keys_s=keys)


@pytest.mark.parametrize(
    ("duration_s", "max_frames", "count"),
    [(4, None, 32), (160, None, 32), (600, None, 120), (1800, None, 360), (10_000, None, 512), (1800, 32, 32), (4, 5, 5)],
)
def test_first_pass_count(duration_s: float, max_frames: int | None, count: int) -> None:
    assert first_pass_count(duration_s, max_frames) == count


@given(start_s=st.floats(0, 1000), length_s=st.floats(0.1, 10_000), count=st.integers(1, 512))
def test_even_times_cover_first_and_last_stretch(start_s: float, length_s: float, count: int) -> None:
    times = even_times(start_s, start_s + length_s, count)
    stretch_s = length_s / count
    assert len(times) == count
    assert times[0] - start_s == pytest.approx(stretch_s / 2, rel=1e-6, abs=1e-9)
    assert start_s + length_s - times[-1] == pytest.approx(stretch_s / 2, rel=1e-3, abs=1e-6)
    assert all(0 < b - a < 1.001 * stretch_s + 1e-6 for a, b in pairwise(times))


def test_fps_times_start_at_the_start_and_keep_the_bound() -> None:
    assert fps_times(0.0, 2.0, 2.0, None) == (0.0, 0.5, 1.0, 1.5)
    assert fps_times(1.0, 2.0, 3.0, None) == pytest.approx((1.0, 4 / 3, 5 / 3))
    assert fps_times(0.0, 100.0, 30.0, 4) == (12.5, 37.5, 62.5, 87.5)


@pytest.mark.parametrize("max_frames", [None, 7])
@pytest.mark.parametrize(("duration_s", "fps"), [(4.0, 2.0), (4.0, 30.0), (10 / 3, 3.0), (0.0, 5.0), (0.1, 1.0)])
def test_frames_asked_counts_the_moments_of_a_rate(duration_s: float, fps: float, max_frames: int | None) -> None:
    request = SamplingRequest(strategy=Strategy.FPS, fps=fps, max_frames=max_frames)
    assert frames_asked(request, duration_s, 10_000) == len(fps_times(0.0, duration_s, fps, max_frames))


@pytest.mark.parametrize(
    ("start_s", "end_s", "count"),
    [(0.0, None, 32), (0.0, 99.0, 32), (1.0, 1.2, 5), (2.5, 3.0, 13), (9.9, None, 3), (0.0, 0.01, 1), (10.0, None, 1)],
)
def test_of_a_window_no_more_frames_are_asked_than_lie_in_it(start_s: float, end_s: float | None, count: int) -> None:
    assert frames_asked(SamplingRequest(start_s=start_s, end_s=end_s), 10.0, 250) == count


@pytest.mark.parametrize("n_frames", [0, 1, 5, 31])
def test_of_a_whole_file_no_more_frames_are_asked_than_it_has(n_frames: int) -> None:
    for duration_s in (0.0, 1 / 3, n_frames / 30):
        assert frames_asked(SamplingRequest(), duration_s, n_frames) == max(1, n_frames)


@pytest.mark.parametrize(("duration_s", "fps"), [(3600.0, 1e8), (1e9, 30.0), (3600.0, 1e308)])
def test_absurd_rates_and_lengths_are_counted_without_being_listed(duration_s: float, fps: float) -> None:
    request = SamplingRequest(strategy=Strategy.FPS, fps=fps)
    tracemalloc.start()
    try:
        assert frames_asked(request, duration_s, 100) == 100
        assert frames_asked(request, duration_s, 1 << 40) == MAX_TIMES
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    assert len(fps_times(0.0, duration_s, fps, 5)) == 5


def test_an_absurd_number_of_frames_asks_for_a_bounded_one() -> None:
    request = SamplingRequest(strategy=Strategy.UNIFORM, max_frames=MAX_TIMES + 1)
    assert len(plan(request, clip(10, 1.0)).times_s) == MAX_TIMES
    assert frames_asked(request, 10.0) == MAX_TIMES
    assert frames_asked(request, 10.0, 30) == 30


def test_nearest_keys_are_distinct_and_rise() -> None:
    assert nearest_keys((0.0, 1.0, 5.0), (0.1, 0.4, 0.6, 4.0, 9.0)) == (0.0, 1.0, 5.0)
    assert nearest_keys((), (1.0,)) == ()


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50, unique=True), st.integers(1, 60))
def test_thin_keeps_order_and_bound(times: list[float], count: int) -> None:
    kept = thin(sorted(times), count)
    assert len(kept) == min(len(times), count)
    assert list(kept) == sorted(set(kept))


def test_auto_takes_key_frames_of_a_long_video_with_many() -> None:
    made = plan(SamplingRequest(), clip(1800, 2.0))
    assert made.keys_only
    assert len(made.times_s) == 360
    assert max(b - a for a, b in pairwise(made.times_s)) <= 6.0


@pytest.mark.parametrize("key_period_s", [2.0, 4.0, 10.0])
def test_auto_decodes_between_the_few_key_frames_of_a_short_clip(key_period_s: float) -> None:
    made = plan(SamplingRequest(), clip(4.1, key_period_s))
    assert not made.keys_only
    assert len(made.times_s) == 32


def test_auto_bounds_its_cost_where_key_frames_are_rare() -> None:
    rare = clip(3600, 60.0)
    assert decode_cost(rare, even_times(0, 3600, 512)) > 100_000
    made = plan(SamplingRequest(), rare)
    assert made.keys_only
    assert len(made.times_s) == 60


def test_the_bound_counts_pixels() -> None:
    """512 moments of an hour with a key frame every 20 s."""
    small, large = (replace(clip(3600, 20.0), pixels=pixels) for pixels in (320 * 180, 1280 * 720))
    assert 20_000 < decode_cost(small, even_times(0, 3600, 512)) < 320_000
    assert not plan(SamplingRequest(), small).keys_only
    assert plan(SamplingRequest(), large).keys_only


def test_key_frames_that_leave_half_the_video_unseen_are_not_enough() -> None:
    keys_s = tuple(float(i) for i in range(300))
    lopsided = Clip(duration_s=600, fps=30, keys_s=keys_s, pixels=320 * 180)
    made = plan(SamplingRequest(), lopsided)
    assert not made.keys_only
    assert made.times_s[-1] > 595
    assert plan(SamplingRequest(), replace(lopsided, fps=60, pixels=1920 * 1080)).keys_only


def test_key_frames_alone_all_count_where_moments_lie_between_them() -> None:
    keys_s = tuple(i / 25 for i in range(32))
    assert nearest_keys(keys_s, even_times(0.0, 1.28, 32)) == keys_s


@pytest.mark.parametrize("strategy", list(Strategy))
@pytest.mark.parametrize("max_frames", [None, 1, 7])
def test_every_strategy_keeps_window_and_bound(strategy: Strategy, max_frames: int | None) -> None:
    request = SamplingRequest(strategy=strategy, max_frames=max_frames, fps=2.0, start_s=20.0, end_s=50.0)
    times = plan(request, clip(100, 1.0)).times_s
    assert times
    assert list(times) == sorted(set(times))
    assert all(20.0 <= time < 50.0 for time in times)
    assert max_frames is None or len(times) <= max_frames


@pytest.mark.parametrize(
    ("strategy", "fps", "max_frames", "times_s", "keys_only"),
    [
        (Strategy.FPS, 0.5, None, (20.0, 22.0, 24.0), False),
        (Strategy.FPS, None, None, (20.0, 21.0, 22.0, 23.0, 24.0, 25.0), False),
        (Strategy.FPS, 2.0, 3, (21.0, 23.0, 25.0), False),
        (Strategy.UNIFORM, None, 3, (21.0, 23.0, 25.0), False),
        (Strategy.UNIFORM, None, None, even_times(20.0, 26.0, 32), False),
        (Strategy.KEYFRAMES, None, None, (20.0, 22.0, 24.0), True),
        (Strategy.KEYFRAMES, None, 1, (22.0,), True),
        (Strategy.AUTO, None, 3, (20.0, 22.0, 24.0), True),
        (Strategy.AUTO, None, None, even_times(20.0, 26.0, 32), False),
    ],
)
def test_the_moments_of_every_strategy(
    strategy: Strategy, fps: float | None, max_frames: int | None, times_s: tuple[float, ...], keys_only: bool
) -> None:
    request = SamplingRequest(strategy=strategy, fps=fps, max_frames=max_frames, start_s=20.0, end_s=26.0)
    assert plan(request, clip(100, 2.0)) == Plan(times_s=times_s, keys_only=keys_only)
    if strategy is not Strategy.KEYFRAMES:
        assert frames_asked(request, 100.0) == len(times_s)


def test_what_is_asked_of_a_window_hangs_on_its_own_length() -> None:
    window, most = SamplingRequest(start_s=1000.0, end_s=1600.0), SamplingRequest(max_frames=700)
    assert len(plan(window, clip(3600, 60.0, fps=1.0)).times_s) == frames_asked(window, 3600.0) == 120
    assert frames_asked(most, 100.0) == 32
    even = replace(most, strategy=Strategy.UNIFORM)
    assert len(plan(even, clip(100, 2.0)).times_s) == frames_asked(even, 100.0) == 700
    assert frames_asked(replace(most, strategy=Strategy.KEYFRAMES), 100.0) is None
    assert len(plan(SamplingRequest(strategy=Strategy.KEYFRAMES), clip(3600, 2.0)).times_s) == 512


def test_half_the_moments_with_a_key_frame_of_their_own_are_enough() -> None:
    """Of 320 moments, every 5 s."""
    enough, few = (plan(SamplingRequest(), replace(clip(1600, key_s), pixels=320 * 180)) for key_s in (8.5, 11.0))
    assert (enough.keys_only, len(enough.times_s)) == (True, 189)
    assert (few.keys_only, len(few.times_s)) == (False, 320)


def test_of_what_can_only_be_read_from_its_start_key_frames_stand_in_for_few_moments_too() -> None:
    wanted, hour = SamplingRequest(times_s=(3.0, 1801.0)), clip(3600, 20.0)
    assert plan(wanted, hour) == Plan(times_s=(3.0, 1801.0))
    assert plan(wanted, replace(hour, restarts=True)) == Plan(times_s=(0.0, 1800.0), keys_only=True)
    assert plan(wanted, replace(hour, restarts=True, pixels=320 * 180)) == Plan(times_s=(3.0, 1801.0))
    assert decode_cost(replace(hour, restarts=True), (3.0,)) == 3600 * 30


def test_wanted_times_are_sorted_kept_once_and_inside_the_window() -> None:
    made = plan(SamplingRequest(times_s=(5.0, 1.0, 5.0, 9.9, 10.0, 99.0)), clip(10, 1.0))
    assert made.times_s == (1.0, 5.0, 9.9)
    assert not made.keys_only
    assert plan(SamplingRequest(times_s=(1.9, 2.0, 3.0, 4.0), start_s=2.0, end_s=4.0), clip(10, 1.0)).times_s == (2.0, 3.0)


def test_a_window_past_the_end_is_empty_and_a_clip_without_length_has_one_moment() -> None:
    assert plan(SamplingRequest(start_s=20.0), clip(10, 1.0)).times_s == ()
    assert plan(SamplingRequest(), Clip(duration_s=0.0, fps=0.0, keys_s=(0.0,))).times_s == (0.0,)
