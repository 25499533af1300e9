"""The offset of own footage: how it is fitted, bounded and costed; the binomial bound against scipy."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from worker.verdict.offset import (
    LEAST_FILES,
    PRIOR_FILES,
    OwnFile,
    alarms_left_out,
    at_most,
    files_needed,
    fit_offset,
    largest_offset,
    rate_bound,
    share_above,
)


def own(log_odds: float, *, temperature: float = 1.0, held_back: bool = False) -> OwnFile:
    return OwnFile(name="a", log_odds=log_odds, temperature=temperature, thresholds=(0.3, 0.7), held_back=held_back)


@given(n=st.integers(1, 400), share=st.floats(0, 1), confidence=st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_the_bound_is_clopper_and_pearsons(n: int, share: float, confidence: float) -> None:
    alarms = int(share * n)
    known = 1.0 if alarms == n else float(stats.beta.ppf(confidence, alarms + 1, n - alarms))
    assert rate_bound(alarms, n, confidence) == pytest.approx(known, abs=1e-8)


@given(n=st.integers(1, 500), share=st.floats(0, 1), p=st.floats(0, 1))
def test_the_tail_is_the_binomials(n: int, share: float, p: float) -> None:
    assert at_most(int(share * n), n, p) == pytest.approx(float(stats.binom.cdf(int(share * n), n, p)), abs=1e-9)


def test_fifty_nine_files_without_an_alarm_promise_five_percent() -> None:
    assert files_needed(0.05) == 59
    assert files_needed(0.01) == 299
    assert rate_bound(0, 59) <= 0.05 < rate_bound(0, 58)


@given(rate=st.floats(0.01, 0.5), alarms=st.integers(0, 6))
def test_one_file_less_would_not_do(rate: float, alarms: int) -> None:
    n = files_needed(rate, alarms)
    assert rate_bound(alarms, n) <= rate + 1e-9
    assert n - 1 <= alarms or rate_bound(alarms, n - 1) > rate - 1e-9


@pytest.mark.parametrize(("alarms", "n"), [(2, 1), (-1, 5)])
def test_impossible_counts_are_refused(alarms: int, n: int) -> None:
    with pytest.raises(ValueError, match="alarms among"):
        rate_bound(alarms, n)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_nothing_promises_no_alarm_at_all_or_is_sure(share: float) -> None:
    with pytest.raises(ValueError, match="at confidence"):
        rate_bound(1, 5, share)
    with pytest.raises(ValueError, match="no number of files"):
        files_needed(share)
    assert files_needed(0.96) == 1, "a rate that one file bounds"


def test_few_files_move_it_little_and_a_fake_among_them_hardly() -> None:
    many, few = fit_offset([1.0] * 990, 0.0, 2.0), fit_offset([1.0] * 10, 0.0, 2.0)
    assert many.value == pytest.approx(-0.99)
    assert few.value == pytest.approx(-10 / (10 + PRIOR_FILES))
    assert few.distance == 1.0
    assert fit_offset([1.0] * 10 + [50.0], 0.0, 2.0).value == pytest.approx(-11 / 21)
    assert fit_offset([-1.0] * 10, 0.0, 2.0).value > 0


def test_it_is_capped_and_says_so() -> None:
    found = fit_offset([9.0] * 50, 0.0, 1.5)
    assert (found.value, found.capped, found.distance) == (-1.5, True, 9.0)
    low = fit_offset([-9.0] * 50, 0.0, 1.5)
    assert (low.value, low.capped, low.distance) == (1.5, True, -9.0)
    assert not fit_offset([1.0] * 50, 0.0, 1.5).capped
    with pytest.raises(ValueError, match="needs files"):
        fit_offset([], 0.0, 1.0)


def test_the_cap_keeps_a_usual_fake_from_looking_usually_real() -> None:
    assert largest_offset([-2.0, -1.0, 0.0], [0.0, 1.0, 2.0], 2.0) == 1.0
    assert largest_offset([-9.0, -8.0, 0.0], [0.0, 8.0, 9.0], 2.0) == 2.0
    assert largest_offset([0.0, 1.0, 2.0], [0.0, 0.5, 2.0], 2.0) == 0.0
    assert largest_offset([-2.0, -1.0, 0.0], [], 2.0) == 1.0


def test_a_file_is_left_out_of_the_offset_that_judges_it() -> None:
    """Two files decide the median: with itself among them, the higher one escapes."""
    files = [own(0.0)] * 4 + [own(1.5)] * 5
    together = fit_offset([file.log_odds for file in files], 0.0, 5.0).value
    assert sum(file.alarms(together) for file in files) == 5 * own(1.5).alarms(together)
    assert own(1.5).alarms(together) != own(1.5).alarms(fit_offset([0.0] * 4 + [1.5] * 4, 0.0, 5.0).value)
    assert alarms_left_out(files, 0.0, 5.0) == 5
    assert len(files) >= LEAST_FILES


def test_alarms_are_those_that_a_scan_would_call_fake() -> None:
    assert own(1.0).alarms(0.0)
    assert not own(0.8).alarms(0.0)
    assert own(0.8).alarms(0.1)
    assert not own(1.0, held_back=True).alarms(0.0)
    assert not own(1.0, temperature=2.0).alarms(0.0)
    assert own(1.0, temperature=2.0).score(1.0) == pytest.approx(own(1.0).score(0.0))
    assert own(own(0.0).level).score(0.0) == pytest.approx(0.7)
    assert not replace(own(1.0), thresholds=(0.3, own(1.0).score(0.0))).alarms(0.0), "at the threshold"


def test_poor_faces_tell_nothing_and_lie_between_the_thresholds() -> None:
    """Also where 0.5 does not."""
    poor = [replace(own(5.0, temperature=1e9), thresholds=thresholds) for thresholds in ((0.3, 0.7), (0.6, 0.9))]
    assert [file.score(0.0) for file in poor] == pytest.approx([0.5, 0.75])


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=30), st.floats(-6, 6))
def test_the_share_above_any_level_is_one(values: list[float], level: float) -> None:
    assert 0.0 <= share_above(sorted(values), level) <= 1.0


def test_the_share_above_a_level_falls_evenly_between_quantiles() -> None:
    quantiles = [0.0, 1.0, 3.0]
    assert [share_above(quantiles, level) for level in (-1.0, 0.0, 0.5, 1.0, 2.0, 3.0)] == [1.0, 1.0, 0.75, 0.5, 0.25, 0.0]
    assert share_above([0.0, 1.0, 1.0, 2.0], 1.0) == pytest.approx(1 / 3)
    assert share_above([0.0, 0.0, 1.0], 0.0) == 0.5
    assert share_above([0.0, 1.0, 1.0], 1.0) == 0.0
