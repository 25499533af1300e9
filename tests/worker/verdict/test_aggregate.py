"""Rules, splice windows and segments, on made votes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.verdict.aggregate import (
    RULES,
    Windows,
    confident,
    consecutive,
    segments,
    track_evidence,
)

LOGITS = st.lists(st.floats(-12, 12, width=32), min_size=1, max_size=64).map(lambda x: np.array(x, dtype=np.float32))


def logit(p: float) -> float:
    return math.log(p / (1 - p))


@pytest.mark.parametrize("name", RULES)
@given(logits_n=LOGITS)
def test_a_rule_stays_within_its_votes(name: str, logits_n: np.ndarray) -> None:
    found = RULES[name](logits_n)
    assert logits_n.min() - 1e-3 <= found <= logits_n.max() + 1e-3


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("votes", [np.zeros(0, np.float32), np.array([0.0, np.nan], np.float32), np.array([np.inf], np.float32)])
def test_a_rule_refuses_no_votes_and_nonsense(name: str, votes: np.ndarray) -> None:
    with pytest.raises(ValueError, match="vote"):
        RULES[name](votes)


@given(logits_n=LOGITS, place=st.integers(0, 63), rise=st.floats(0, 8))
def test_mean_logit_rises_with_each_vote(logits_n: np.ndarray, place: int, rise: float) -> None:
    higher_n = logits_n.copy()
    higher_n[place % len(logits_n)] += rise
    assert RULES["mean_logit"](higher_n) >= RULES["mean_logit"](logits_n)


def test_confident_takes_the_mean_of_many_confident_fakes() -> None:
    logits_n = np.array([logit(0.9)] * 12 + [logit(0.4)] * 12, dtype=np.float32)
    assert confident(logits_n) == pytest.approx(logit(0.9), abs=1e-5)


@pytest.mark.parametrize(("fakes", "others"), [(11, 5), (12, 18)])
def test_confident_needs_more_than_eleven_and_more_than_two_in_five(fakes: int, others: int) -> None:
    logits_n = np.array([logit(0.9)] * fakes + [logit(0.4)] * others, dtype=np.float32)
    assert confident(logits_n) == pytest.approx(logit((fakes * 0.9 + others * 0.4) / (fakes + others)), abs=1e-5)


@pytest.mark.parametrize(("others", "p"), [(1, 0.1), (2, 0.1 + 0.6 / 10)])
def test_confident_leaves_out_the_rest_where_more_than_nine_in_ten_are_real(others: int, p: float) -> None:
    logits_n = np.array([logit(0.1)] * (20 - others) + [logit(0.7)] * others, dtype=np.float32)
    assert confident(logits_n) == pytest.approx(logit(p), abs=1e-5)


def test_weighted_ignores_undecided_votes() -> None:
    assert RULES["weighted"](np.array([0.0, 0.0, 2.0], np.float32)) == pytest.approx(2.0, abs=1e-5)
    assert RULES["weighted"](np.zeros(4, np.float32)) == 0.0


def test_consecutive_needs_two_in_a_row_or_a_tenth() -> None:
    votes_n = np.full(40, -1.0, np.float32)
    votes_n[[3, 20]] = 2.0
    assert consecutive(votes_n) == pytest.approx(-1.0)
    votes_n[4] = 2.0
    assert consecutive(votes_n) == pytest.approx(2.0)
    votes_n[4], votes_n[30] = -1.0, 2.0
    assert consecutive(votes_n) == pytest.approx(-1.0)
    votes_n[35] = 2.0
    assert consecutive(votes_n) == pytest.approx(2.0)


@pytest.mark.parametrize("span_s", [4.0, 30.0])
@pytest.mark.parametrize("rule", RULES)
def test_a_short_clip_is_left_to_the_rule(rule: str, span_s: float) -> None:
    rng = np.random.default_rng(1)
    logits_n = rng.normal(0, 2, 32).astype(np.float32)
    found = track_evidence(np.linspace(0, span_s, 32), logits_n, rule, Windows())
    assert found.logit == found.whole == RULES[rule](logits_n)
    assert found.n_windows == 1
    assert found.window_s is None


def long_track(rng: np.random.Generator, *, offset: float = -1.5) -> tuple[np.ndarray, np.ndarray]:
    times_n = np.sort(np.concatenate([np.arange(240) * 5.0 + 2.5, *(np.arange(8) + 100.0 * k + 6.2 for k in range(11))]))
    return times_n, rng.normal(offset, 0.8, len(times_n))


@pytest.mark.parametrize("seed", range(10))
def test_a_ten_second_splice_in_twenty_minutes_is_found(seed: int) -> None:
    times_n, logits_n = long_track(np.random.default_rng(seed))
    inside = (times_n >= 505) & (times_n < 515)
    logits_n[inside] += 3.5
    found = track_evidence(times_n, logits_n, windows=Windows())
    assert found.whole < -1.2, "a mean over the track drowns the splice"
    assert found.logit > 0.5
    assert found.window_s is not None
    assert found.window_s[0] < 515
    assert found.window_s[1] > 505
    assert found.level is not None
    assert any(s.start_s < 515 and s.end_s > 505 for s in segments(times_n, logits_n, found.level))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("outlier", [6.0, 20.0])
def test_one_outlier_frame_is_no_splice(seed: int, outlier: float) -> None:
    times_n, logits_n = long_track(np.random.default_rng(seed))
    clean = track_evidence(times_n, logits_n, windows=Windows())
    logits_n[int(np.searchsorted(times_n, 509))] = outlier
    found = track_evidence(times_n, logits_n, windows=Windows())
    assert found.logit < -0.5
    assert found.logit - clean.logit < 0.5


def test_long_real_tracks_seldom_gain() -> None:
    gains = []
    for seed in range(100):
        found = track_evidence(*long_track(np.random.default_rng(seed)), windows=Windows())
        gains.append(found.logit - found.whole)
    assert np.quantile(gains, 0.9) < 0.5


@given(shift=st.floats(-3, 3), seed=st.integers(0, 20))
def test_an_offset_of_the_whole_video_shifts_the_logit_alone(shift: float, seed: int) -> None:
    times_n, logits_n = long_track(np.random.default_rng(seed))
    logits_n[100:110] += 3.0
    plain, shifted = (track_evidence(times_n, x, windows=Windows()) for x in (logits_n, logits_n + shift))
    assert shifted.logit == pytest.approx(plain.logit + shift, abs=1e-6)


def test_the_second_pass_does_not_outweigh_the_first() -> None:
    times_n = np.arange(60) * 5.0
    logits_n = np.full(60, -2.0)
    extra_n = 100.5 + np.arange(30) * 0.1
    order = np.argsort(np.concatenate([times_n, extra_n]))
    all_times_n = np.concatenate([times_n, extra_n])[order]
    all_logits_n = np.concatenate([logits_n, np.zeros(30)])[order]
    found = track_evidence(all_times_n, all_logits_n, windows=Windows())
    assert found.whole == pytest.approx(-2.0 + 2.0 * 30 / 31 / 60)


def test_a_moment_that_was_looked_at_many_times_is_no_window() -> None:
    """Not the votes of a second, all alike, but those of several seconds tell a splice."""
    for length_s, stands_out in ((0.6, False), (8.0, True)):
        times_n = np.sort(np.concatenate([np.arange(60) * 2.0, 40.6 + np.linspace(0.0, length_s, 16)]))
        logits_n = np.where((times_n > 40.5) & (times_n < 41.0 + length_s), 4.0, -1.0) + 0.3 * np.sin(times_n**2)
        found = track_evidence(times_n, logits_n, windows=Windows())
        assert (found.logit > found.whole) == stands_out


def test_the_window_of_a_splice_is_told_by_all_its_votes() -> None:
    times_n = np.arange(0.0, 60.0, 0.25)
    inside_n = (times_n >= 20.0) & (times_n < 30.0)
    logits_n = np.where(inside_n, 4.0, -1.0) + np.where(np.arange(240) % 2, 1.0, -1.0)
    found = track_evidence(times_n, logits_n, windows=Windows())
    assert found.window_s is not None
    first_s, last_s = found.window_s
    assert 20.0 <= first_s < last_s < 30.0
    assert last_s - first_s > 4.0
    assert found.std == pytest.approx(np.std(logits_n[(times_n >= first_s) & (times_n <= last_s)], ddof=1))
    assert found.std > 0.9


def test_votes_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="rising"):
        track_evidence(np.array([1.0, 0.0]), np.zeros(2))


def test_segments_reach_half_way_to_their_neighbours() -> None:
    times_n = np.array([0.0, 2.0, 4.0, 5.0, 6.0, 10.0, 12.0])
    logits_n = np.array([-1.0, -1.0, 1.0, 3.0, 2.0, -1.0, -1.0])
    (found,) = segments(times_n, logits_n, 0.0)
    assert (found.start_s, found.end_s) == (3.0, 8.0)
    assert found.max_logit == 2.0


def test_segments_at_the_ends_of_a_track_reach_as_far_as_on_the_other_side() -> None:
    (found,) = segments(np.array([10.0, 12.0, 20.0, 26.0]), np.full(4, 1.0), 0.0)
    assert (found.start_s, found.end_s) == (9.0, 29.0)


def test_segments_are_clipped_to_the_window_and_skip_single_votes() -> None:
    (found,) = segments(np.array([0.5, 1.5, 2.5]), np.full(3, 1.0), 0.0, start_s=0.25, end_s=2.75)
    assert (found.start_s, found.end_s) == (0.25, 2.75)
    for place in range(9):
        assert segments(np.arange(9.0), np.where(np.arange(9) == place, 9.0, -1.0), 0.0) == ()


def test_a_segment_ends_where_the_face_was_not_there() -> None:
    """Looked at every 2 s: a vote that is missing once may be a face that was not found; beyond that it was away."""
    times_n = np.array([1.0, 3.0, 7.0, 111.0, 113.0, 200.0])
    found = segments(times_n, np.full(6, 6.0), 0.0, apart_s=2.0)
    assert [(one.start_s, one.end_s) for one in found] == [(0.0, 8.0), (110.0, 114.0), (199.0, 201.0)]
    assert len(segments(times_n, np.full(6, 6.0), 0.0, apart_s=60.0)) == 1


def test_one_vote_far_from_others_is_suspicious_only_if_it_is_high_itself_and_not_alone_in_that() -> None:
    times_n = np.array([0.0, 0.2, 0.4, 0.6, 20.0, 40.0, 40.2, 40.4])
    before, after = segments(times_n, np.where(times_n == 20.0, -9.0, 6.0), 0.0, apart_s=0.2)
    assert (before.end_s, after.start_s) == pytest.approx((0.7, 39.9))
    assert segments(times_n, np.where(times_n == 20.0, 9.0, -6.0), 0.0, apart_s=0.2) == ()


def test_segments_reach_the_ends_of_a_track() -> None:
    """Also over one low vote, there as anywhere."""
    for logits in ([9.0, 9.0, -1.0, -1.0, -1.0], [-1.0, 9.0, 9.0, -1.0, -1.0], [9.0, -1.0, 9.0, -1.0, -1.0]):
        (first,) = segments(np.arange(5.0), np.array(logits), 0.0)
        (last,) = segments(np.arange(5.0), np.array(logits[::-1]), 0.0)
        assert (first.start_s, last.end_s, first.max_logit) == (0.0, 4.5, 9.0)
