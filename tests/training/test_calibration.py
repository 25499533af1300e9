"""The fit against made clips whose true calibration is known."""

from dataclasses import replace

import numpy as np
import pytest

from training.calibration import (
    Clips,
    Ints,
    OutOfFold,
    Target,
    choose_thresholds,
    composites,
    crossfit,
    fit_chances,
    fit_platt,
    fit_single,
    folds_by_group,
    joined,
    temperatures,
    with_chances,
)
from training.longtracks import ClipVotes, Layout, long_tracks, look_at
from training.metrics import auc, grouped_interval
from training.scores import score
from worker.types import MediaKind, Strategy
from worker.verdict.aggregate import Windows
from worker.verdict.calibrate import Calibration


def made(n: int, seed: int, *, gap: float = 3.0, share_fake: float = 0.5, group_size: int = 2) -> Clips:
    """Two Gaussians of deviation 1, ``gap`` apart about 0: then p(fake | x) = sigmoid(gap * x) for equal shares."""
    rng = np.random.default_rng(seed)
    labels_n = (rng.random(n) < share_fake).astype(np.int64)
    groups = np.arange(n) // group_size
    logits_n = rng.normal((labels_n - 0.5) * gap, 1.0)
    return Clips(logits_n=logits_n, labels_n=labels_n, groups_n=np.array([f"g{g}" for g in groups]))


def fit(clips: Clips) -> Calibration:
    single = fit_single(
        clips, kind=MediaKind.VIDEO, rule="mean_logit", strategies=frozenset({Strategy.AUTO}), frames=(1, 640), seed=1
    )
    return with_chances(single, clips, seed=1)


@pytest.mark.parametrize("share_fake", [0.5, 0.8])
@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (3.0, -2.0)])
def test_platt_recovers_a_and_b_at_any_share(share_fake: float, scale: float, offset: float) -> None:
    clips = made(20_000, 0, gap=1.5, share_fake=share_fake)
    a, b = fit_platt(replace(clips, logits_n=(clips.logits_n - offset) * scale))
    assert a == pytest.approx(1.5 / scale, rel=0.05)
    assert b == pytest.approx(1.5 * offset, abs=0.08)


def test_platt_knows_the_temperature_of_each_clip() -> None:
    clips = made(20_000, 0, gap=1.5)
    quality_n = np.random.default_rng(1).uniform(0, 1, 20_000)
    temperature_n = temperatures(quality_n, 0.8, 2.0)
    assert temperature_n.min() == 1.0
    assert temperature_n.max() == pytest.approx(np.exp(1.6), rel=0.01)
    a, b = fit_platt(replace(clips, logits_n=clips.logits_n * temperature_n), temperature_n=temperature_n)
    assert a == pytest.approx(1.5, rel=0.05)
    assert b == pytest.approx(0.0, abs=0.08)


def test_platt_stays_finite_and_rising_on_few_clips() -> None:
    apart = Clips(logits_n=np.array([-3.0, -2.0, 2.0, 3.0]), labels_n=np.array([0, 0, 1, 1]), groups_n=np.array(list("abcd")))
    turned = replace(apart, labels_n=np.array([1, 1, 0, 0]))
    for clips in (apart, turned):
        a, b = fit_platt(clips)
        assert 0.0 < a < 5.0
        assert np.isfinite(b)


def test_clips_that_are_nothing_beside_the_prior_leave_logits_as_they_are() -> None:
    assert fit_platt(made(50, 0), penalty=1e9) == pytest.approx((1.0, 0.0), abs=1e-6)


def test_what_is_known_of_a_clip_goes_where_it_goes() -> None:
    first = replace(made(6, 0), chances_n=np.arange(6), quality_n=np.arange(6) / 10)
    both = joined(first, made(4, 0))
    assert both.counts_n.tolist() == [*range(6), 1, 1, 1, 1]
    assert both.qualities_n.tolist() == [*(np.arange(6) / 10), 1, 1, 1, 1]
    some = both.take(np.array([1, 4, 8]))
    assert (some.logits_n == both.logits_n[[1, 4, 8]]).all()
    assert (some.counts_n.tolist(), some.qualities_n.tolist()) == ([1, 4, 1], [0.1, 0.4, 1.0])


def test_five_tracks_alarm_no_more_than_one() -> None:
    clips, fresh = made(600, 2), made(1500, 3)
    calibration = fit(clips)
    five = composites(fresh, 4, sizes=(5,), per_size=2000)
    real = five.logits_n[five.labels_n == 0]
    rate_one = np.mean([calibration.apply(x) > calibration.t_fake for x in fresh.logits_n[fresh.labels_n == 0]])
    rate_five = np.mean([calibration.apply(x, 5) > calibration.t_fake for x in real])
    uncorrected = np.mean([calibration.apply(x, 1) > calibration.t_fake for x in real])
    assert uncorrected > 3 * rate_one
    assert rate_five == pytest.approx(rate_one, abs=0.04)


def test_chances_that_do_not_inflate_cost_nothing() -> None:
    single, several = made(2000, 5), made(2000, 6)
    several = replace(several, chances_n=np.full(2000, 100, dtype=np.int64))
    assert fit_chances(joined(single, several), 1.0, 0.0) <= 0.05


def test_the_cost_of_chances_is_by_their_logarithm() -> None:
    single = made(2000, 5)
    several = [replace(single, logits_n=single.logits_n + 0.7 * np.log(k), chances_n=np.full(2000, k)) for k in (2, 30)]
    assert fit_chances(joined(single, joined(*several)), 1.0, 0.0) == pytest.approx(0.7)


def test_fit_chances_needs_both_kinds() -> None:
    with pytest.raises(ValueError, match="one chance and of several"):
        fit_chances(made(100, 0), 1.0, 0.0)


def test_composites_mix_groups_and_keep_their_labels() -> None:
    clips = made(60, 7)
    found = composites(clips, 8, sizes=(3,), per_size=100)
    assert set(found.chances_n.tolist() if found.chances_n is not None else []) == {3}
    assert found.labels_n.mean() == 0.5
    real_logits = clips.logits_n[clips.labels_n == 0]
    assert np.isin(found.logits_n[found.labels_n == 0], real_logits).all()
    with pytest.raises(ValueError, match="as many groups"):
        composites(made(6, 7), 8, sizes=(5,), per_size=2)


def test_a_fake_is_joined_with_other_people_only() -> None:
    clips = Clips(logits_n=np.array([1.0, 9.0, 0.0]), labels_n=np.array([1, 0, 0]), groups_n=np.array(["a", "a", "b"]))
    found = composites(clips, 0, sizes=(2,), per_size=20)
    assert set(found.logits_n[found.labels_n == 1]) == {1.0}


def test_folds_split_no_group_and_balance_the_classes() -> None:
    clips = made(200, 9, group_size=4)
    fold_n = folds_by_group(clips.groups_n, clips.labels_n, 5, seed=0)
    for name in np.unique(clips.groups_n):
        assert len(set(fold_n[clips.groups_n == name].tolist())) == 1
    counts = np.bincount(fold_n, minlength=5)
    assert counts.min() >= 28
    assert (fold_n != folds_by_group(clips.groups_n, clips.labels_n, 5, seed=1)).any()
    fake_n = np.arange(80) // 4 % 2  # ten groups of each class
    of_fold = folds_by_group((np.arange(80) // 4).astype(str), fake_n, 5, seed=0)
    assert np.bincount(2 * of_fold + fake_n).tolist() == [8] * 10
    with pytest.raises(ValueError, match="groups"):
        folds_by_group(clips.groups_n[:8], clips.labels_n[:8], 5, seed=0)


def test_crossfit_never_shows_a_clip_its_own_group() -> None:
    clips = made(80, 10, group_size=4)
    seen: list[set[str]] = []

    def spy(part: Clips) -> Calibration:
        seen.append(set(part.groups_n.tolist()))
        return Calibration(
            kind=MediaKind.VIDEO,
            rule="r",
            strategies=frozenset(),
            frames=(0, 0),
            a=1.0 + len(seen),
            b=0.0,
            t_real=0.4,
            t_fake=0.6,
        )

    found = crossfit(clips, spy, n_folds=4)
    for p, logit, group in zip(found.p_n, clips.logits_n, clips.groups_n, strict=True):
        used = int(np.argmin([abs(1 / (1 + np.exp(-(2.0 + i) * logit)) - p) for i in range(4)]))
        assert group not in seen[used]
    copies = clips.take(np.arange(0, len(clips.labels_n), 3))
    seen.clear()
    of_copies = crossfit(clips, spy, n_folds=4, judged=copies)
    assert (of_copies.p_n == found.p_n[::3]).all()
    with pytest.raises(ValueError, match="no clip of the group"):
        crossfit(clips.take(clips.groups_n != copies.groups_n[0]), spy, n_folds=4, judged=copies)


def test_crossfit_knows_the_quality_of_what_is_judged() -> None:
    judged = replace(made(40, 10), quality_n=np.linspace(0, 1, 40))
    like = Calibration(
        kind=MediaKind.VIDEO,
        rule="r",
        strategies=frozenset(),
        frames=(0, 0),
        a=1.0,
        b=0.0,
        quality_slope=1.0,
        t_real=0.2,
        t_fake=0.9,
    )
    found = crossfit(made(40, 10), lambda part: like, n_folds=2, judged=judged)
    assert found.p_n == pytest.approx(1 / (1 + np.exp(-judged.logits_n / np.exp(1 - judged.qualities_n))))
    assert (found.t_real_n == 0.2).all()
    assert (found.t_fake_n == 0.9).all()


def fit_to(clips: Clips, target: Target, quality: tuple[float, float] = (1.0, 0.0)) -> Calibration:
    return fit_single(
        clips, kind=MediaKind.VIDEO, rule="r", strategies=frozenset(), frames=(1, 1), target=target, quality=quality
    )


def test_the_fit_takes_poor_faces_as_a_scan_will() -> None:
    clips = made(2000, 0, gap=1.5)
    quality_n = np.linspace(0, 1, 2000)
    found = fit_to(
        replace(clips, logits_n=clips.logits_n * temperatures(quality_n, 0.8, 2.0), quality_n=quality_n), Target(), (0.8, 2.0)
    )
    assert (found.a, found.b) == pytest.approx((1.5, 0.0), abs=0.15)
    assert (found.quality_full, found.quality_slope) == (0.8, 2.0)


def test_the_fit_keeps_to_its_target_on_people_whom_it_has_not_seen() -> None:
    """Two people whose logits lie 6 apart: of either, all clips look real or fake by what the other one shows."""
    clips = joined(made(40, 0, group_size=40), made(40, 0, group_size=40))
    clips = replace(clips, logits_n=clips.logits_n + np.repeat([0.0, 6.0], 40), groups_n=np.repeat(["a", "b"], 40))
    sure = fit_to(clips, Target(fpr=0.0, fnr=0.0, coverage=0.0))
    assert sure.t_real < 0.1
    assert sure.t_fake > 0.99
    assert fit_to(clips, Target(fpr=0.6, fnr=0.6, coverage=0.0)).t_fake < 0.9


def test_thresholds_keep_to_the_target() -> None:
    clips = made(4000, 11, gap=2.0)
    p_n = 1 / (1 + np.exp(-2.0 * clips.logits_n))
    t_real, t_fake = choose_thresholds(p_n, clips.labels_n, Target(fpr=0.05, fnr=0.05, coverage=0.0))
    assert (p_n[clips.labels_n == 0] > t_fake).mean() == pytest.approx(0.05, abs=0.002)
    assert (p_n[clips.labels_n == 1] < t_real).mean() == pytest.approx(0.05, abs=0.002)
    low, high = choose_thresholds(p_n, clips.labels_n, Target(fpr=0.05, fnr=0.05, coverage=0.9))
    assert t_real < low < high < t_fake
    assert ((p_n < low) | (p_n > high)).mean() >= 0.89


def test_coverage_is_of_both_classes_alike_and_shrinks_the_band_from_both_sides() -> None:
    """Of few fakes half lie in a band that holds hardly a real clip."""
    real, fake = [0.05] * 99 + [0.8], [0.2, 0.3, 0.4, 0.6, 0.7] + [0.95] * 5
    p_n, labels_n = np.array(real + fake), np.repeat([0, 1], [100, 10])
    assert choose_thresholds(p_n, labels_n, Target(fpr=0, fnr=0, coverage=0.70)) == pytest.approx((0.2, 0.8))
    assert choose_thresholds(p_n, labels_n, Target(fpr=0, fnr=0, coverage=0.75)) == pytest.approx((0.203, 0.797))


def test_thresholds_of_separate_classes_meet() -> None:
    p_n = np.array([0.1, 0.2, 0.8, 0.9])
    t_real, t_fake = choose_thresholds(p_n, np.array([0, 0, 1, 1]), Target())
    assert t_real == t_fake == 0.5


@pytest.mark.parametrize(("fpr", "fnr", "found"), [(0, 0, (0.1, 0.9)), (1, 0, (0.1, 0.2)), (0, 1, (0.8, 0.9))])
def test_thresholds_of_no_and_of_any_mistakes(fpr: float, fnr: float, found: tuple[float, float]) -> None:
    p_n = np.array([0.1, 0.2, 0.8, 0.9])
    assert choose_thresholds(p_n, np.array([1, 0, 1, 0]), Target(fpr=fpr, fnr=fnr, coverage=0)) == pytest.approx(found)


def test_honest_scores_of_the_whole_fit() -> None:
    clips = made(300, 12, gap=2.5, share_fake=0.67)
    found = score(clips, crossfit(clips, fit, n_folds=4), n_bootstrap=100)
    assert found.n_real + found.n_fake == 300
    assert found.auc_interval[0] < found.auc < found.auc_interval[1]
    assert found.auc == pytest.approx(0.96, abs=0.03)
    assert found.coverage >= 0.65
    assert found.balanced_accuracy >= 0.85
    assert found.fpr <= 0.12


def test_uninformative_logits_score_as_such() -> None:
    clips = made(200, 13, gap=0.0)
    found = score(clips, crossfit(clips, fit, n_folds=4), n_bootstrap=100)
    assert found.auc == pytest.approx(0.5, abs=0.12)
    assert found.balanced_accuracy < 0.65


def test_scores_without_decided_clips_are_not_a_number() -> None:
    clips = made(40, 14)
    found = score(clips, OutOfFold(p_n=np.full(40, 0.5), t_real_n=np.full(40, 0.4), t_fake_n=np.full(40, 0.6)), n_bootstrap=10)
    assert found.coverage == 0.0
    assert np.isnan(found.balanced_accuracy)


def test_the_interval_widens_where_clips_of_a_group_agree() -> None:
    pairs = Clips(
        logits_n=np.tile(made(40, 16).logits_n, 10),
        labels_n=np.tile(made(40, 16).labels_n, 10),
        groups_n=np.tile(np.arange(40).astype(str), 10),
    )

    def part(rows: Ints) -> float:
        return auc(pairs.labels_n[rows] == 1, pairs.logits_n[rows])

    wide = grouped_interval(pairs.groups_n.tolist(), part, draws=100)
    narrow = grouped_interval([str(i) for i in range(400)], part, draws=100)
    assert wide[1] - wide[0] > 2 * (narrow[1] - narrow[0])


@pytest.mark.parametrize(
    "bad", [{"labels_n": np.zeros(10, dtype=np.int64)}, {"logits_n": np.full(10, np.nan)}, {"logits_n": np.zeros(9)}]
)
def test_unusable_tables_are_refused(bad: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match=r"both classes.*10 fake|both classes.*10 real|finite|logits"):
        replace(made(10, 0), **bad)


def votes(fake: bool, group: str, seed: int) -> ClipVotes:
    rng = np.random.default_rng(seed)
    return ClipVotes(logits_n=rng.normal(1.5 if fake else -1.5, 0.7, 32), step_s=0.125, fake=fake, group=group)


def test_long_tracks_show_the_splice_and_give_a_calibration() -> None:
    clips = [votes(k % 2 == 1, f"g{k // 2}", k) for k in range(20)]
    found = long_tracks(clips, 0, 40, Layout(), Windows())
    assert found.chances_n is not None
    assert set(found.chances_n.tolist()) == {120}
    real, fake = found.logits_n[found.labels_n == 0], found.logits_n[found.labels_n == 1]
    assert (fake[:, None] > real).mean() > 0.9
    assert 0.0 <= fit_chances(joined(made(200, 17), found), 1.0, 0.0) < 1.0


def test_a_looped_clip_without_a_splice_keeps_its_mean() -> None:
    clip = votes(False, "g", 3)
    found = look_at(clip, None, 0.0, Layout(), Windows())
    assert found.whole == pytest.approx(clip.logits_n.mean(), abs=0.3)
    assert found.logit - found.whole < 1.0
