"""From judged files to the numbers of a report: by source and overall, videos and pictures apart."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np

from training.calibration import Clips, fit_platt, folds_by_group
from training.evaluation.cases import age_band, is_small_number
from training.evaluation.judged import ANSWERS, FAILED, Judged
from training.evaluation.results import Calibration, GroupRow, Pairs, Ranking, Rate, Row, RuleRow
from training.metrics import (
    Bools,
    Floats,
    area_under_risk_coverage,
    auc,
    average_precision,
    balanced_accuracy,
    calibration_error_floor,
    class_weights,
    clustered_clopper_pearson,
    equal_error_rate,
    expected_calibration_error,
    interval_of_both,
    log_loss,
    one_class,
    reliability,
)
from worker.types import Label, MediaKind
from worker.verdict.aggregate import RULES

FAKE, REAL, UNCERTAIN = Label.FAKE.value, Label.REAL.value, Label.UNCERTAIN.value
DRAWS = 1000
FOLDS = 5
LEAST_FILES = 10
"""Scored files of each class without which no calibration is judged."""
Test = Callable[[Judged], bool]


def parts(judged: Sequence[Judged]) -> Iterator[tuple[str, list[Judged]]]:
    """Everything, each source, and each manipulation of a source that has several with all the source's real files."""
    if len({item.case.source for item in judged}) > 1:
        yield "all", list(judged)
    by_source: dict[str, list[Judged]] = defaultdict(list)
    for item in judged:
        by_source[item.case.source].append(item)
    for source, members in sorted(by_source.items()):
        yield source, members
        kinds = sorted({item.case.manipulation for item in members if item.case.fake})
        for kind in kinds if len(kinds) > 1 else []:
            yield f"{source}: {kind}", [item for item in members if not item.case.fake or item.case.manipulation == kind]


def rows(judged: Sequence[Judged], *, draws: int = DRAWS) -> list[Row]:
    """Videos first, then pictures, each by ``parts``."""
    return [
        row(name, kind, part, draws=draws)
        for kind in (MediaKind.VIDEO, MediaKind.PICTURE)
        for name, part in parts([item for item in judged if item.kind is kind])
    ]


def rate(judged: Sequence[Judged], test: Test) -> Rate | None:
    """Share of the files that pass the test; None for no files."""
    if not judged:
        return None
    return Rate.of(clustered_clopper_pearson([test(item) for item in judged], [item.case.group for item in judged]))


def sure_rate(judged: Sequence[Judged], test: Test) -> Rate:
    """``rate`` of one or more files."""
    found = rate(judged, test)
    if found is None:
        raise ValueError("no files to give a share of")
    return found


def answered(answer: str) -> Test:
    return lambda item: item.answer == answer


def unscored(item: Judged) -> bool:
    return item.score is None


def row(name: str, kind: MediaKind, judged: Sequence[Judged], *, draws: int = DRAWS) -> Row:
    """All numbers of one part. Raises ValueError for no files."""
    real, fake = [item for item in judged if not item.case.fake], [item for item in judged if item.case.fake]
    scored = [item for item in judged if item.score is not None]
    decided = [item for item in judged if item.answer in (FAKE, REAL)]
    half_N, called_N = _scores(scored) > 0.5, np.array([item.answer == FAKE for item in decided], dtype=bool)
    confusion: dict[Literal["real", "fake"], dict[str, int]] = {"real": _answers(real), "fake": _answers(fake)}
    return Row(
        name=name,
        kind=kind,
        real=len(real),
        fake=len(fake),
        groups=len({item.case.group for item in judged}),
        ranking=ranking(_fake(scored), _scores(scored), [item.case.group for item in scored], draws=draws),
        faces=_faces(scored, draws=draws) if kind is MediaKind.VIDEO else None,
        calibration=calibration(scored),
        accuracy_half=_mean(half_N == _fake(scored)),
        balanced_accuracy_half=balanced_accuracy(_fake(scored), half_N),
        accuracy_decided=_mean(called_N == _fake(decided)),
        balanced_accuracy_decided=balanced_accuracy(_fake(decided), called_N),
        false_alarms=rate(real, answered(FAKE)),
        detected=rate(fake, answered(FAKE)),
        missed=rate(fake, answered(REAL)),
        uncertain_real=rate(real, answered(UNCERTAIN)),
        uncertain_fake=rate(fake, answered(UNCERTAIN)),
        unscored=sure_rate(judged, unscored),
        decided=len(decided) / len(judged),
        confusion=confusion,
        calibrated=_mean(np.array([item.calibrated for item in scored])),
    )


def _fake(judged: Sequence[Judged]) -> Bools:
    return np.array([item.case.fake for item in judged], dtype=bool)


def _scores(judged: Sequence[Judged]) -> Floats:
    return np.array([item.score for item in judged if item.score is not None], dtype=np.float64)


def _mean(values: Bools) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _answers(judged: Sequence[Judged]) -> dict[str, int]:
    counts = Counter(item.answer for item in judged)
    return {answer: counts[answer] for answer in ANSWERS if counts[answer] or answer != FAILED}


def ranking(fake_N: Bools, score_N: Floats, groups: Sequence[str], *, draws: int = DRAWS) -> Ranking | None:
    """None where a class is missing; without an interval (nan) where one has few groups."""
    if one_class(fake_N):
        return None
    return Ranking(
        auc=auc(fake_N, score_N),
        interval=interval_of_both(fake_N, groups, lambda rows: auc(fake_N[rows], score_N[rows]), draws=draws),
        ap=average_precision(fake_N, score_N),
        eer=equal_error_rate(fake_N, score_N),
    )


def _faces(scored: Sequence[Judged], *, draws: int) -> Ranking | None:
    logit_N = np.array([logit for item in scored for logit in item.face_logits], dtype=np.float64)
    fake_N = np.repeat(_fake(scored), [len(item.face_logits) for item in scored])
    groups = [item.case.group for item in scored for _ in item.face_logits]
    return ranking(fake_N, logit_N, groups, draws=min(draws, 200))


def calibration(scored: Sequence[Judged]) -> Calibration | None:
    """None where a class has few files: no probability can then be checked."""
    fake_N, p_N = _fake(scored), _scores(scored)
    diagram = reliability(fake_N, p_N)
    if diagram is None or min(fake_N.sum(), (~fake_N).sum()) < LEAST_FILES:
        return None
    wrong_N, weight_N = (p_N > 0.5) != fake_N, class_weights(fake_N)
    width_N = np.array([np.nan if item.piw is None else item.piw for item in scored])
    crossfit_N, elsewhere_N = crossfit_scores(scored), crossfit_scores(scored, by_source=True)
    bins = np.stack([diagram.p_B, diagram.fake_B, diagram.weight_B], axis=1)
    return Calibration(
        log_loss=log_loss(fake_N, p_N),
        ece=diagram.ece,
        ece_floor=calibration_error_floor(fake_N, p_N),
        ece_crossfit=None if crossfit_N is None else expected_calibration_error(fake_N, crossfit_N),
        log_loss_crossfit=None if crossfit_N is None else log_loss(fake_N, crossfit_N),
        ece_other_sources=None if elsewhere_N is None else expected_calibration_error(fake_N, elsewhere_N),
        aurc=area_under_risk_coverage(np.abs(p_N - 0.5), wrong_N, weight_N),
        aurc_piw=None if np.isnan(width_N).any() else area_under_risk_coverage(-width_N, wrong_N, weight_N),
        bins=tuple((float(p), float(share), float(weight)) for p, share, weight in bins),
    )


def crossfit_scores(scored: Sequence[Judged], rule: str = "mean_logit", *, by_source: bool = False) -> Floats | None:
    """p of each file [N] by Platt scaling on the other folds of groups, or on the other sources.

    None where a logit is missing, or there are too few groups or sources for every fit to see both classes.
    """
    logits = [item.logits.get(rule) for item in scored]
    known = [logit for logit in logits if logit is not None]
    fake_N = _fake(scored)
    groups_N = np.array([item.case.group for item in scored])
    sources, source_N = np.unique([item.case.source for item in scored], return_inverse=True)
    if len(known) < len(scored) or one_class(fake_N) or len(set(groups_N.tolist())) < FOLDS or (by_source and len(sources) == 1):
        return None
    clips = Clips(logits_n=np.array(known), labels_n=fake_N.astype(np.int64), groups_n=groups_N)
    fold_N = source_N if by_source else folds_by_group(clips.groups_n, clips.labels_n, FOLDS, seed=0)
    folds = np.unique(fold_N)
    if any(one_class(fake_N[fold_N != fold]) for fold in folds):
        return None
    p_N = np.zeros(len(known))
    for fold in folds:
        held = fold_N == fold
        a, b = fit_platt(clips.take(~held))
        p_N[held] = 0.5 * (1 + np.tanh(0.5 * (a * clips.logits_n[held] + b)))
    return p_N


def rules(judged: Sequence[Judged], *, draws: int = DRAWS) -> list[RuleRow]:
    """Each aggregation rule on the videos: all of them and each source that has both classes."""
    found: list[RuleRow] = []
    videos = [item for item in judged if item.kind is MediaKind.VIDEO and item.logits]
    for name, part in parts(videos):
        if ": " in name:
            continue
        for rule in RULES:
            logit_N = np.array([item.logits[rule] for item in part])
            ranked = ranking(_fake(part), logit_N, [item.case.group for item in part], draws=draws)
            if ranked is not None:
                p_N = crossfit_scores(part, rule)
                loss = None if p_N is None else log_loss(_fake(part), p_N)
                found.append(RuleRow(rule=rule, part=name, files=len(part), ranking=ranked, log_loss_crossfit=loss))
    return found


def pairs(judged: Sequence[Judged]) -> list[Pairs]:
    """Fakes whose original was judged too, by source and manipulation."""
    logit_of = {item.case.name: item.logit for item in judged if item.logit is not None}
    both = [item for item in judged if item.case.fake and item.case.name in logit_of and item.case.original in logit_of]
    gap = {item.case.name: logit_of[item.case.name] - logit_of[item.case.original] for item in both}
    found: list[Pairs] = []
    for name, part in parts([item for item in judged if item.case.name in gap]):
        above = sure_rate(part, lambda item: gap[item.case.name] > 0)
        mean = float(np.mean([gap[item.case.name] for item in part]))
        found.append(Pairs(name=name, above=above, mean_difference=mean))
    return found


def demographics(judged: Sequence[Judged]) -> list[GroupRow]:
    """Real faces by apparent sex, age, race, and sex with race, as far as the manifest labels them."""
    axes: dict[str, Callable[[Judged], str]] = {
        "sex": lambda item: item.case.sex,
        "age": lambda item: age_band(item.case.age),
        "race": lambda item: item.case.race,
        "sex and race": lambda item: f"{item.case.sex}, {item.case.race}" if item.case.sex and item.case.race else "",
    }
    real = [item for item in judged if not item.case.fake]
    found: list[GroupRow] = []
    for axis, value_of in axes.items():
        members: dict[str, list[Judged]] = defaultdict(list)
        for item in real:
            members[value_of(item)].append(item)
        found += [_group(axis, value, part) for value, part in sorted(members.items(), key=_in_order) if value]
    return found


def _in_order(entry: tuple[str, list[Judged]]) -> tuple[int, str]:
    digits = entry[0].partition("-")[0].partition(" ")[0]
    return (int(digits), "") if is_small_number(digits) else (0, entry[0])


def _group(axis: str, value: str, part: Sequence[Judged]) -> GroupRow:
    scores = _scores([item for item in part if item.score is not None])
    return GroupRow(
        axis=axis,
        value=value,
        false_alarms=sure_rate(part, answered(FAKE)),
        uncertain=sure_rate(part, answered(UNCERTAIN)),
        unscored=sure_rate(part, unscored),
        mean_score=float(scores.mean()) if len(scores) else float("nan"),
    )
