"""Numbers that judge scores, against closed forms, scikit-learn and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from training.metrics import (
    LEAST_GROUPS,
    area_under_risk_coverage,
    auc,
    average_precision,
    balanced_accuracy,
    calibration_error_floor,
    class_weights,
    clopper_pearson,
    clustered_clopper_pearson,
    equal_error_rate,
    expected_calibration_error,
    grouped_interval,
    interval_of_both,
    least_groups,
    log_loss,
    reliability,
    risk_coverage,
)


def test_auc_equals_scikit_learns_with_ties() -> None:
    rng = np.random.default_rng(0)
    fake = rng.random(300) < 0.4
    score = np.round(rng.normal(fake * 0.7, 1), 1)
    assert auc(fake, score) == pytest.approx(roc_auc_score(fake, score), abs=1e-12)
    score[0] = np.nan
    assert np.isnan(auc(fake, score))


def test_a_missing_class_can_be_ranked_by_nothing() -> None:
    fake = np.ones(3, bool)
    for statistic in (auc, average_precision, equal_error_rate, expected_calibration_error, calibration_error_floor):
        assert np.isnan(statistic(fake, np.array([0.1, 0.2, 0.3])))
    assert np.isnan(balanced_accuracy(fake, fake))
    assert reliability(fake, np.zeros(3)) is None


def test_an_interval_is_of_the_draws_in_which_there_is_something_to_rank() -> None:
    fake, groups = np.array([True, False, True, False]), ["a", "b", "c", "d"]
    low, high = grouped_interval(groups, lambda rows: auc(fake[rows], np.array([0.9, 0.1, 0.4, 0.6])[rows]))
    assert 0 <= low < high <= 1
    assert np.isnan(grouped_interval(groups, lambda rows: float("nan"), draws=10)).all()


def test_few_groups_make_a_wider_interval_than_many() -> None:
    rng = np.random.default_rng(0)
    place = rng.normal(0, 1, 10).repeat(20)
    one = grouped_interval([str(n // 20) for n in range(200)], lambda rows: float(place[rows].mean()), draws=300)
    many = grouped_interval([str(n) for n in range(200)], lambda rows: float(place[rows].mean()), draws=300)
    assert one[1] - one[0] > 2 * (many[1] - many[0])


def test_an_interval_leaves_out_a_fortieth_of_the_draws_on_either_side() -> None:
    place = np.random.default_rng(0).normal(0, 1, 64)
    low, high = grouped_interval([str(n) for n in range(64)], lambda rows: float(place[rows].mean()))
    assert (high - low) / 2 == pytest.approx(1.96 * place.std() / 8, rel=0.08)


def test_fakes_are_compared_with_real_files_where_both_are_of_enough_groups() -> None:
    """However many the groups of the other."""
    fake, score = np.arange(60) < 20, np.arange(60.0)
    for few, many in ((LEAST_GROUPS - 1, 40), (LEAST_GROUPS, LEAST_GROUPS)):
        for groups in (
            [f"fake {n % few}" if n < 20 else f"real {n % many}" for n in range(60)],
            [f"fake {n % many}" if n < 20 else f"real {n % few}" for n in range(60)],
        ):
            assert least_groups(fake, groups) == few
            found = interval_of_both(fake, groups, lambda rows: float(score[rows].mean()), draws=10)
            assert np.isnan(found).all() == (few < LEAST_GROUPS)
    assert least_groups(np.ones(60, bool), [str(n) for n in range(60)]) == 0


@pytest.mark.parametrize("distance", [0.5, 1.0, 2.0])
def test_equal_error_rate_of_two_gaussians_is_the_tail_beyond_the_middle(distance: float) -> None:
    place = stats.norm.ppf((np.arange(4000) + 0.5) / 4000)
    fake = np.arange(8000) >= 4000
    assert equal_error_rate(fake, np.concatenate([place, place + distance])) == pytest.approx(
        stats.norm.cdf(-distance / 2), abs=1e-3
    )


def test_equal_error_rate_lies_on_the_line_between_two_steps() -> None:
    # from (0, 0) straight to (1, 1) for scores that are all alike
    assert equal_error_rate(np.array([True, False, False]), np.zeros(3)) == pytest.approx(0.5)
    assert equal_error_rate(np.array([True, False]), np.array([1.0, 0.0])) == 0


def test_average_precision_does_not_depend_on_the_shares_of_the_classes() -> None:
    rng = np.random.default_rng(1)
    fake, score = np.arange(400) < 200, rng.normal(size=400)
    score[fake] += 1
    many_real = np.concatenate([np.flatnonzero(fake), *[np.flatnonzero(~fake)] * 5])
    assert average_precision(fake[many_real], score[many_real]) == pytest.approx(average_precision(fake, score))


def test_log_loss_weighs_both_classes_alike() -> None:
    fake = np.array([True, False, False, False])
    p = np.array([0.5, 0.1, 0.1, 0.1])
    assert log_loss(fake, p) == pytest.approx((-np.log(0.5) - np.log(0.9)) / 2)
    assert log_loss(np.array([True, True]), np.array([1.0, 0.0])) == pytest.approx(-np.log(1e-7) / 2, rel=1e-6)
    assert class_weights(fake).mean() == pytest.approx(1)
    assert np.isnan(log_loss(fake[:0], p[:0]))


def test_decisions_are_judged_in_each_class() -> None:
    fake = np.array([True] * 2 + [False] * 8)
    assert balanced_accuracy(fake, np.array([True, False] + [True] + [False] * 7)) == pytest.approx((1 / 2 + 7 / 8) / 2)


def test_a_calibration_error_is_the_distance_of_share_and_score() -> None:
    fake = np.array([True] * 30 + [False] * 70)
    # both classes alike: every score 0.8, half of the weight is fake
    assert expected_calibration_error(fake, np.full(100, 0.8)) == pytest.approx(0.3)
    # two clean halves, each 0.1 off
    assert expected_calibration_error(fake, np.where(fake, 0.9, 0.1), bins=2) == pytest.approx(0.1)


def test_bins_hold_equal_mass_and_never_split_equal_scores() -> None:
    rng = np.random.default_rng(0)
    fake = np.arange(400) % 2 == 0
    found = reliability(fake, rng.random(400), bins=8)
    assert found is not None
    assert found.weight_B == pytest.approx(np.full(8, 1 / 8))
    lumped = reliability(fake, np.repeat([0.2, 0.9], [300, 100]), bins=8)
    assert lumped is not None
    assert lumped.p_B == pytest.approx([0.2, 0.9])
    assert lumped.weight_B == pytest.approx([0.75, 0.25])


@pytest.mark.parametrize(("files", "bins"), [(10, 2), (100, 5), (1000, 15)])
def test_there_is_a_bin_for_twenty_files(files: int, bins: int) -> None:
    found = reliability(np.arange(files) % 2 == 0, np.random.default_rng(0).random(files))
    assert found is not None
    assert len(found.weight_B) == bins


def test_the_floor_of_calibrated_scores_is_low_however_few_are_fake() -> None:
    """Probabilities are for equal shares."""
    rng = np.random.default_rng(0)
    fake = rng.random(4000) < 0.05
    logit = rng.normal(np.where(fake, 1.0, -1.0), 2**0.5)  # whose log odds are their own value
    p = 1 / (1 + np.exp(-logit))
    floor = calibration_error_floor(fake, p, draws=20)
    assert expected_calibration_error(fake, p) == pytest.approx(floor, abs=0.02)
    assert floor < 0.05


def test_calibrated_scores_lie_at_the_floor_and_overconfident_ones_above() -> None:
    rng = np.random.default_rng(0)
    p = rng.beta(0.7, 0.7, 3000)
    fake = rng.random(3000) < p
    floor = calibration_error_floor(fake, p, draws=30)
    assert expected_calibration_error(fake, p) < 2 * floor
    odds = p / (1 - p)
    assert expected_calibration_error(fake, odds**3 / (1 + odds**3)) > 4 * floor


def test_the_floor_falls_with_the_number_of_files() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(2000)
    fake = rng.random(2000) < p
    assert calibration_error_floor(fake[:60], p[:60], draws=30) > 2 * calibration_error_floor(fake, p, draws=30)


def test_risk_over_coverage_by_hand() -> None:
    coverage, risk = risk_coverage(np.array([0.9, 0.9, 0.5, 0.1]), np.array([False, True, False, True]))
    assert coverage == pytest.approx([0.5, 0.75, 1.0])
    assert risk == pytest.approx([0.5, 1 / 3, 0.5])
    assert area_under_risk_coverage(np.array([0.9, 0.9, 0.5, 0.1]), np.array([False, True, False, True])) == pytest.approx(
        0.5 * 0.5 + 0.25 / 3 + 0.25 * 0.5
    )


def test_a_file_counts_by_its_weight() -> None:
    """One that weighs twice is as good as two."""
    sure, wrong = np.array([0.2, 0.9, 0.5]), np.array([True, False, True])
    weighed = risk_coverage(sure, wrong, np.array([1.0, 2.0, 3.0]))
    several = risk_coverage(sure.repeat([1, 2, 3]), wrong.repeat([1, 2, 3]))
    assert weighed[0] == pytest.approx(several[0])
    assert weighed[1] == pytest.approx(several[1])


def test_foreseen_errors_make_a_smaller_area_than_unforeseen_ones() -> None:
    wrong = np.arange(100) >= 80
    assert area_under_risk_coverage(-np.arange(100.0), wrong) < 0.05
    assert area_under_risk_coverage(np.arange(100.0), wrong) > 0.4


@pytest.mark.parametrize(("count", "total"), [(0, 20), (1, 20), (7, 20), (20, 20)])
def test_clopper_pearson_equals_scipys(count: int, total: int) -> None:
    exact = stats.binomtest(count, total).proportion_ci(0.95, method="exact")
    assert clopper_pearson(count, total) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_shares_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="no share"):
        clopper_pearson(3, 2)
    with pytest.raises(ValueError, match="0 alarms"):
        clustered_clopper_pearson([], [])


@pytest.mark.parametrize("count", [0, 3, 30])
def test_files_of_their_own_groups_get_the_plain_interval(count: int) -> None:
    found = clustered_clopper_pearson([n < count for n in range(30)], [str(n) for n in range(30)])
    exact = stats.binomtest(count, 30).proportion_ci(0.95, method="exact")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=1e-9)
    assert found.effective == 30


def test_groups_whose_files_agree_count_once_each() -> None:
    alarms = np.repeat(np.arange(20) < 4, 10)
    found = clustered_clopper_pearson(alarms, [str(n // 10) for n in range(200)])
    exact = stats.binomtest(4, 20).proportion_ci(0.95, method="exact")
    assert found.share == 0.2
    # nineteen independent differences from the mean, and the correction for few groups
    few = (stats.t.ppf(0.975, 199) / stats.t.ppf(0.975, 19)) ** 2
    assert found.effective == pytest.approx(19 * 200 / 199 * few)
    assert found.low < exact.low < exact.high < found.high


@pytest.mark.parametrize("groups", [1, 2])
def test_any_files_are_worth_one_at_least(groups: int) -> None:
    alarms = [True, False] if groups == 1 else [True] * 10 + [False] * 10
    found = clustered_clopper_pearson(alarms, [str(n * groups // len(alarms)) for n in range(len(alarms))])
    assert (found.groups, found.effective, found.share) == (groups, 1.0, 0.5)
    assert found.low < 0.05
    assert found.high > 0.95


def test_files_of_mixed_groups_count_fully_but_for_the_few_groups() -> None:
    found = clustered_clopper_pearson([n % 2 == 0 for n in range(200)], [str(n // 10) for n in range(200)])
    assert found.effective == pytest.approx(200 * (stats.t.ppf(0.975, 199) / stats.t.ppf(0.975, 19)) ** 2)


def test_59_groups_without_an_alarm_promise_five_per_cent_however_many_files_they_hold() -> None:
    for each in (1, 7):
        found = clustered_clopper_pearson([False] * 59 * each, [str(n // each) for n in range(59 * each)])
        assert found.low == 0
        assert found.upper == pytest.approx(1 - 0.05 ** (1 / 59), abs=1e-9)
        assert found.upper < 0.05


def test_bounds_never_fall_where_one_more_group_has_an_alarm() -> None:
    groups = [str(n // 7) for n in range(28 * 7)]
    found = [clustered_clopper_pearson([n % 7 == 0 and n < 7 * count for n in range(28 * 7)], groups) for count in range(5)]
    assert [one.upper for one in found] == sorted(one.upper for one in found)
    assert [one.high for one in found] == sorted(one.high for one in found)
    assert found[1].upper == found[0].upper
    mirrored = [clustered_clopper_pearson([n % 7 > 0 or n >= 7 * count for n in range(28 * 7)], groups) for count in range(5)]
    assert [one.low for one in mirrored] == pytest.approx([1 - one.high for one in found])


def test_the_interval_covers_the_truth_among_clustered_files() -> None:
    rng = np.random.default_rng(0)
    groups = [str(n // 6) for n in range(240)]
    plain = clustered = 0
    for _ in range(150):
        alarms = rng.random(240) < rng.beta(0.4, 3.6, 40).repeat(6)  # mean 0.1, much alike within a group
        found = clustered_clopper_pearson(alarms, groups)
        clustered += found.low <= 0.1 <= found.high
        low, high = clopper_pearson(int(alarms.sum()), 240)
        plain += low <= 0.1 <= high
    assert clustered / 150 > 0.92
    assert plain / 150 < 0.9
