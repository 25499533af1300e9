"""Poor faces tell less only where the data show it, out of fold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from training.calibration import Clips
from training.metrics import EDGE
from training.quality import QualityFit, fit_quality, fit_temperature


def made(n: int, seed: int, slope: float) -> Clips:
    """Logits whose truth is p = sigmoid(logit / exp(slope * (0.8 - quality))), in pairs of one group."""
    rng = np.random.default_rng(seed)
    quality_n = rng.uniform(0.1, 0.8, n)
    logits_n = rng.normal(0.0, 3.0, n)
    p_n = 1 / (1 + np.exp(-logits_n / np.exp(slope * (0.8 - quality_n))))
    labels_n = (rng.random(n) < p_n).astype(np.int64)
    return Clips(logits_n=logits_n, labels_n=labels_n, groups_n=np.array([f"g{i // 2}" for i in range(n)]), quality_n=quality_n)


def test_the_slope_that_was_made_is_found() -> None:
    assert fit_temperature(made(4000, 0, 3.0), [0.3, 0.8]) == (0.8, pytest.approx(3.0, abs=1.0))
    assert fit_temperature(made(4000, 0, 0.0), [0.8])[1] <= 0.5


def test_it_is_kept_where_it_helps_out_of_fold_and_said() -> None:
    good, poor = made(300, 1, 0.0), made(300, 2, 4.0)
    good = replace(good, quality_n=np.full(300, 0.8))
    found = fit_quality(good, poor, n_folds=3)
    assert found.kept
    assert found.full == 0.8
    assert found.used == (0.8, found.slope)
    assert found.tempered < found.plain - found.gain_error
    assert "kept" in str(found)
    assert "300 degraded copies" in str(found)


def test_it_is_left_out_where_quality_says_nothing() -> None:
    clips = made(400, 3, 0.0)
    found = fit_quality(clips, n_folds=3)
    assert not found.kept
    assert found.full <= np.median(clips.qualities_n), "at most half of the clips count as poor"
    assert found.used == (1.0, 0.0)
    assert "not kept" in str(found)


@pytest.mark.parametrize(("slope", "gain", "kept"), [(2.0, 0.02, True), (2.0, 0.005, False), (0.0, 0.02, False)])
def test_it_is_kept_where_it_helps_by_more_than_a_standard_error(slope: float, gain: float, kept: bool) -> None:
    found = QualityFit(full=0.8, slope=slope, plain=0.5, tempered=0.5 - gain, gain_error=0.01, n=9, n_degraded=9)
    assert found.kept == kept


def people(*rows: tuple[float, float, bool, float], times: int = 10) -> Clips:
    """Of each (quality, logit, whether fake, of which person) so many clips."""
    quality_n, logits_n, labels_n, groups = (np.repeat(column, times) for column in zip(*rows, strict=True))
    return Clips(
        logits_n=logits_n, labels_n=labels_n.astype(np.int64), groups_n=groups.astype(int).astype(str), quality_n=quality_n
    )


def test_a_person_is_judged_by_what_was_fitted_on_others() -> None:
    """Two people whose logits lie 6 apart are badly judged by each other, and by both well enough."""
    apart = people((0.8, -1.0, False, 1), (0.8, 1.0, True, 1), (0.8, 5.0, False, 2), (0.8, 7.0, True, 2))
    assert fit_quality(apart).plain > 2.0


def test_a_temperature_that_only_one_person_needs_helps_nobody_else() -> None:
    """Of whom half of the poor copies look like what they are not."""
    good = [(0.8, 3.0 if fake else -3.0, fake, group) for fake in (False, True) for group in (1, 2)]
    poor = [(0.2, logit, fake, group) for _, logit, fake, group in (*good, (0.8, -3.0, True, 1), (0.8, 3.0, False, 1))]
    found = fit_quality(people(*good), people(*poor))
    assert found.slope > 0.0
    assert found.tempered > found.plain


@pytest.mark.parametrize(("logit", "least", "most"), [(2.0, 1.0, 3.0), (40.0, -0.49 * np.log(EDGE), -0.51 * np.log(EDGE))])
def test_a_and_b_are_those_of_the_clips_as_they_are(logit: float, least: float, most: float) -> None:
    """Copies that say the contrary do not lower them; none counts for more than a probability next to 0."""
    clips = people(*((0.8, logit if fake else -logit, fake, group) for fake in (False, True) for group in (1, 2, 3)))
    found = fit_quality(clips, replace(clips, labels_n=1 - clips.labels_n))
    assert least < found.plain < most


def test_both_classes_count_alike_however_many_clips_they_have() -> None:
    rng = np.random.default_rng(0)
    fake = np.arange(200) % 2 == 1
    clips = Clips(
        logits_n=np.where(fake, rng.normal(1.0, 3.0, 200), rng.normal(-1.0, 0.5, 200)),
        labels_n=fake.astype(np.int64),
        groups_n=np.array([f"g{n}" for n in range(200)]),
    )
    many_real = clips.take(np.repeat(np.arange(200), np.where(fake, 1, 5)))
    assert fit_quality(many_real).plain == pytest.approx(fit_quality(clips).plain, rel=0.05)


def test_the_error_of_the_gain_is_that_of_people() -> None:
    """More clips of the same people tell no more, and people who are all alike leave no doubt."""
    clips = made(80, 4, 3.0)
    once, twice = fit_quality(clips), fit_quality(clips.take(np.repeat(np.arange(80), 2)))
    assert twice.gain_error == pytest.approx(once.gain_error, rel=0.15)
    rows = [*[(0.8, 3.0, True), (0.8, -3.0, False)] * 3, *((0.2, logit, fake) for logit in (-3.0, 3.0) for fake in (False, True))]
    alike = fit_quality(people(*((*row, group) for group in (1, 2, 3) for row in rows)))
    assert alike.plain - alike.tempered > 0.1
    assert alike.gain_error == pytest.approx(0.0, abs=1e-6)
