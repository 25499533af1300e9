"""From judged files to numbers: known answers on made-up reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from training.evaluation import summary
from training.evaluation.cases import Case
from training.evaluation.judged import Judged, judge, judge_all, write_csv
from worker.report import Report
from worker.types import MediaKind
from worker.verdict.aggregate import RULES

Make = Callable[..., Judged]


@pytest.fixture
def few(judged: Make, case: Callable[..., Case], failed: Callable[[Path], Report]) -> list[Judged]:
    """Two sources: x with both classes, every answer and a failed file; y real only."""
    torn = case("fake", "x6.mp4", source="x")
    return [
        judged("real", -2.0, "x1.mp4", source="x"),
        judged("real", 2.0, "x2.mp4", source="x"),
        judged("real", None, "x3.mp4", source="x"),
        judged("fake", 3.0, "x4.mp4", source="x"),
        judged("fake", 0.1, "x5.mp4", source="x"),
        judge(torn, failed(torn.path)),
        judged("real", -3.0, "y1.mp4", source="y"),
    ]


def test_files_without_a_score_are_counted_and_never_ranked(few: list[Judged]) -> None:
    found = {row.name: row for row in summary.rows(few, draws=10)}
    row = found["x"]
    assert (row.real, row.fake) == (3, 3)
    assert row.ranking is not None
    assert row.ranking.auc == pytest.approx(3 / 4)
    assert (row.unscored.count, row.unscored.total) == (2, 6)
    assert row.decided == pytest.approx(3 / 6)
    assert row.confusion["real"] == {"fake": 1, "real": 1, "uncertain": 0, "not_applicable": 1}
    assert row.confusion["fake"] == {"fake": 1, "real": 0, "uncertain": 1, "not_applicable": 0, "failed": 1}


def test_shares_are_of_all_files_of_the_class(few: list[Judged]) -> None:
    row = next(row for row in summary.rows(few, draws=10) if row.name == "x")
    assert row.false_alarms is not None
    assert row.detected is not None
    assert row.uncertain_fake is not None
    assert (row.false_alarms.count, row.false_alarms.total) == (1, 3)
    assert (row.detected.count, row.detected.total) == (1, 3)
    assert (row.uncertain_fake.count, row.uncertain_fake.total) == (1, 3)
    assert row.accuracy_decided == pytest.approx(2 / 3)
    assert row.balanced_accuracy_decided == pytest.approx(3 / 4)
    assert row.accuracy_half == pytest.approx(3 / 4)


def test_every_share_is_of_its_own_class_and_answer(judged: Make) -> None:
    logits = {"real": (-2.0, -2.0, 0.0, 2.0, 2.0, 2.0), "fake": (-2.0, -2.0, -2.0, -2.0, -0.1, 0.1, 0.6, 2.0)}
    files = [judged(label, at, f"{label}{n}.mp4", f"g{n}") for label, its in logits.items() for n, at in enumerate(its)]
    files[0] = replace(files[0], calibrated=False)
    (row,) = summary.rows(files, draws=10)
    shares = (row.false_alarms, row.uncertain_real, row.detected, row.missed, row.uncertain_fake)
    assert [(share.count, share.total) for share in shares if share] == [(3, 6), (1, 6), (1, 8), (4, 8), (3, 8)]
    assert (row.groups, row.calibrated) == (8, pytest.approx(13 / 14))
    assert row.accuracy_half == pytest.approx(6 / 14)
    assert row.balanced_accuracy_half == pytest.approx((3 / 6 + 3 / 8) / 2)
    assert row.accuracy_decided == pytest.approx(3 / 10)
    assert row.balanced_accuracy_decided == pytest.approx((2 / 5 + 1 / 5) / 2)


def test_single_faces_are_ranked_in_videos_alone(judged: Make) -> None:
    """Each a sample of its file's label, however many a file has."""
    files = [judged("real", -2.0, "a.mp4"), judged("fake", 1.0, "b.mp4")]
    files = [replace(files[0], face_logits=(-3.0, -1.0, 2.0, 2.0)), replace(files[1], face_logits=(1.0,))]
    faces = [summary.row("x", kind, files, draws=10).faces for kind in (MediaKind.VIDEO, MediaKind.PICTURE)]
    assert faces[0] is not None
    assert (faces[0].auc, faces[1]) == (pytest.approx(1 / 2), None)


def test_the_surest_files_are_those_far_from_a_half_or_of_narrow_intervals(judged: Make) -> None:
    """A few wrong ones among many right ones: unsure ones cost less than sure ones."""

    def found(wrong: float, width: float) -> summary.Calibration:
        sure = [judged(label, sign * 3, f"{label}{n}.mp4") for n in range(12) for label, sign in (("real", -1), ("fake", 1))]
        odd = [judged("real", wrong, "odd.mp4"), judged("fake", -wrong, "odd2.mp4")]
        files = [replace(item, piw=0.1) for item in sure] + [replace(item, piw=width) for item in odd]
        calibration = summary.calibration(files)
        assert calibration is not None
        return calibration

    unsure, sure = found(0.1, 0.5), found(5.0, 0.01)
    assert unsure.aurc < 0.01 < 0.1 < sure.aurc
    assert unsure.aurc_piw is not None
    assert sure.aurc_piw is not None
    assert unsure.aurc_piw < 0.01 < 0.1 < sure.aurc_piw


def test_a_source_of_one_class_has_alarms_and_no_auc(few: list[Judged]) -> None:
    row = next(row for row in summary.rows(few, draws=10) if row.name == "y")
    assert row.ranking is None
    assert row.calibration is None
    assert row.detected is None
    assert row.false_alarms is not None
    assert row.false_alarms.share == 0


def test_few_groups_or_files_give_no_interval_and_no_calibration(judged: Make) -> None:
    few = [judged(label, float(n), f"{label}{n}.mp4", f"g{n % 4}") for n in range(9) for label in ("real", "fake")]
    (row,) = summary.rows(few, draws=10)
    assert row.ranking is not None
    assert np.isnan(row.ranking.interval).all()
    assert row.calibration is None
    (more,) = summary.rows([*few, judged("real", 1.0, "r.mp4", "g5"), judged("fake", 1.0, "f.mp4", "g5")], draws=10)
    assert more.ranking is not None
    assert not np.isnan(more.ranking.interval).any()
    assert more.calibration is not None


def test_videos_and_pictures_are_judged_apart(judged: Make) -> None:
    files = [judged("real", -1.0, "a.mp4"), judged("fake", 1.0, "b.jpg", kind=MediaKind.PICTURE)]
    assert [(row.kind, row.real, row.fake) for row in summary.rows(files, draws=10)] == [
        (MediaKind.VIDEO, 1, 0),
        (MediaKind.PICTURE, 0, 1),
    ]


def test_a_manipulation_is_set_against_all_real_files(judged: Make) -> None:
    files = [judged("real", -1.0, f"r{n}.mp4") for n in range(3)]
    files += [judged("fake", 1.0, "a.mp4", manipulation="swap"), judged("fake", -2.0, "b.mp4", manipulation="reenact")]
    found = {row.name: row for row in summary.rows(files, draws=10)}
    assert list(found) == ["one", "one: reenact", "one: swap"]
    assert [(row.real, row.fake) for row in found.values()] == [(3, 2), (3, 1), (3, 1)]
    assert found["one: reenact"].ranking is not None
    assert found["one: reenact"].ranking.auc == 0


def overconfident(judged: Make, seed: int = 0) -> list[Judged]:
    """60 clips in 30 groups, whose logits are six times too large."""
    rng = np.random.default_rng(seed)
    return [
        judged(label, float(6 * rng.normal(sign, 1.4)), f"{label}{n}.mp4", f"g{n}")
        for n in range(30)
        for label, sign in (("real", -1), ("fake", 1))
    ]


def test_cross_fitting_mends_overconfident_scores_without_seeing_them(judged: Make) -> None:
    found = summary.calibration(overconfident(judged))
    assert found is not None
    assert found.log_loss_crossfit is not None
    assert found.log_loss_crossfit < 0.8 * found.log_loss
    assert found.aurc_piw is None
    assert sum(weight for _, _, weight in found.bins) == pytest.approx(1)


def test_a_score_is_cross_fitted_on_other_groups_only(judged: Make) -> None:
    """Turning one group's logits over changes its own cross-fitted scores as a fixed curve would: the curve does not follow."""
    files = overconfident(judged)
    before = summary.crossfit_scores(files)
    group = files[0].case.group
    turned = [
        judged(item.case.label, -(item.logit or 0.0), item.case.name, item.case.group) if item.case.group == group else item
        for item in files
    ]
    after = summary.crossfit_scores(turned)
    assert before is not None
    assert after is not None
    own = np.array([item.case.group == group for item in files])
    logits = np.array([item.logit for item in files])
    a_before = np.diff(np.log(before / (1 - before))[own]) / np.diff(logits[own])
    a_after = np.diff(np.log(after / (1 - after))[own]) / np.diff(-logits[own])
    assert a_before == pytest.approx(a_after)


def test_a_source_with_an_offset_shows_when_it_is_calibrated_on_the_others(judged: Make) -> None:
    files = [
        judged(label, float(sign * 2 + n % 3 - 1 + offset), f"{source}{label}{n}.mp4", source=source)
        for source, offset in (("x", 0.0), ("y", 0.0), ("z", 4.0))
        for n in range(20)
        for label, sign in (("real", -1), ("fake", 1))
    ]
    mixed, own = summary.calibration(files), summary.calibration(files[:40])
    assert mixed is not None
    assert own is not None
    assert own.ece_other_sources is None
    assert mixed.ece_other_sources is not None
    assert mixed.ece_crossfit is not None
    assert mixed.ece_other_sources > mixed.ece_crossfit + 0.03


def test_too_few_groups_are_not_cross_fitted(judged: Make) -> None:
    files = [judged(label, 1.0, f"{label}{n}.mp4", f"g{n}") for n in range(4) for label in ("real", "fake")]
    assert summary.crossfit_scores(files) is None


def test_each_rule_is_recomputed_from_the_faces(case: Callable[..., Case], report: Callable[..., Report]) -> None:
    votes = [-3.0, -3.0, -3.0, 2.0, 2.0]
    real, fake = case("real", "r.mp4"), case("fake", "f.mp4")
    files = [judge(real, report(real.path, [-1.2] * 5)), judge(fake, report(fake.path, votes))]
    for rule, apply in RULES.items():
        assert files[1].logits[rule] == pytest.approx(apply(np.array(votes)), abs=1e-5)
    auc_of = {row.rule: row.ranking.auc for row in summary.rules(files, draws=10)}
    assert auc_of["mean_logit"] == 1
    assert auc_of["consecutive"] == 1
    below = [judge(real, report(real.path, [-0.9] * 5)), judge(fake, report(fake.path, votes))]
    assert {row.rule: row.ranking.auc for row in summary.rules(below, draws=10)}["mean_logit"] == 0


def test_fakes_are_set_against_their_own_originals(judged: Make) -> None:
    files = [
        judged("real", 2.0, "bright.mp4"),
        judged("fake", 2.5, "bright-fake.mp4", original="bright.mp4"),
        judged("real", -2.0, "dark.mp4"),
        judged("fake", -3.0, "dark-fake.mp4", original="dark.mp4"),
        judged("fake", 5.0, "lone.mp4", original="elsewhere.mp4"),
        judged("fake", None, "faceless.mp4", original="dark.mp4"),
        judged("fake", -2.0, "same.mp4", original="dark.mp4"),
    ]
    (found,) = summary.pairs(files)
    assert (found.above.count, found.above.total) == (1, 3), "as high is not above"
    assert found.mean_difference == pytest.approx(-0.5 / 3)


def test_groups_of_people_count_real_files_only(judged: Make) -> None:
    files = [
        judged("real", 2.0, "1.jpg", sex="female", age="30", race="Asian"),
        judged("real", -2.0, "2.jpg", sex="female", age="9", race="Black"),
        judged("real", 0.0, "3.jpg", sex="male", age="104", race="Asian"),
        judged("fake", 3.0, "4.jpg", sex="male", age="30", race="Asian"),
        judged("real", 3.0, "5.jpg"),
        judged("real", None, "6.jpg", sex="male", age="70", race="White"),
    ]
    found = {(row.axis, row.value): row for row in summary.demographics(files)}
    assert (found["sex", "female"].false_alarms.count, found["sex", "female"].false_alarms.total) == (1, 2)
    assert (found["sex", "male"].uncertain.count, found["sex", "male"].unscored.count) == (1, 1)
    assert found["sex", "male"].mean_score == pytest.approx(0.5)
    assert found["sex", "female"].mean_score == pytest.approx(0.5)
    assert [value for axis, value in found if axis == "age"] == ["0-12", "20-39", "60 and more"]
    assert found["sex and race", "female, Asian"].false_alarms.share == 1
    assert summary.demographics(files[4:5]) == []


def test_what_is_no_age_is_a_group_of_its_own(judged: Make) -> None:
    files = [judged("real", 0.0, f"{age}.jpg", age=age) for age in ("1987", "²", "30", "9")]
    assert {row.value for row in summary.demographics(files)} == {"0-12", "20-39", "1987", "²"}


def test_the_table_of_scores_holds_every_file(few: list[Judged], tmp_path: Path) -> None:
    write_csv(few, tmp_path / "scores.csv")
    lines = (tmp_path / "scores.csv").read_text("utf-8").splitlines()
    assert len(lines) == 1 + len(few)
    assert "x3.mp4,real,x" in lines[3]
    assert "not_applicable,no_face,," in lines[3]


def test_cases_without_a_report_are_passed_over(case: Callable[..., Case], report: Callable[..., Report]) -> None:
    cases = [case("real", "a.mp4"), case("real", "b.mp4")]
    assert [item.case.name for item in judge_all(cases, {"b.mp4": report(cases[1].path, [1.0] * 3)})] == ["b.mp4"]
