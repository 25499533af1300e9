"""One case and what the scan said of it, as plain numbers."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from training.evaluation.cases import Case, age_band
from training.evaluation.replay import faces_of, replay
from worker.output.csv import safe_cell
from worker.report import Report
from worker.types import Label, MediaKind, Verdict
from worker.verdict.aggregate import RULES
from worker.verdict.decide import Policy

FAILED = "failed"
ANSWERS = (Label.FAKE.value, Label.REAL.value, Label.UNCERTAIN.value, Label.NOT_APPLICABLE.value, FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """``answer``: the verdict, or ``failed``. ``score`` and ``logits`` are None and empty where nothing could be scored."""

    case: Case
    kind: MediaKind
    answer: str
    reasons: tuple[str, ...]
    score: float | None
    """Calibrated p(fake)."""
    calibrated: bool
    thresholds: tuple[float, float] | None
    logits: Mapping[str, float]
    """Uncalibrated logit of the decisive track by aggregation rule; empty where the report holds no faces."""
    face_logits: tuple[float, ...]
    piw: float | None

    @property
    def logit(self) -> float | None:
        return self.logits.get("mean_logit")


def judge(case: Case, report: Report) -> Judged:
    """What the report says, and what each rule of ``worker.verdict.aggregate`` would make of its faces."""
    answer = report.verdict.value if report.status == "completed" and report.verdict is not None else FAILED
    scored = report.score is not None
    limits = report.thresholds
    return Judged(
        case=case,
        kind=report.media.kind if report.media is not None else case.kind,
        answer=answer,
        reasons=tuple(reason.code.value for reason in report.reasons),
        score=report.score,
        calibrated=report.calibrated,
        thresholds=(limits.real_below, limits.fake_above) if limits else None,
        logits=_by_rule(report) if scored else {},
        face_logits=tuple(face.logit for face in faces_of(report) if face.logit is not None) if scored else (),
        piw=report.uncertainty.piw,
    )


def _by_rule(report: Report) -> dict[str, float]:
    found: dict[str, float] = {}
    for rule in RULES:
        verdict = replay(report, Policy(rule=rule))
        if isinstance(verdict, Verdict):
            found[rule] = max(track.logit for track in verdict.tracks)
    return found


def judge_all(cases: Sequence[Case], reports: Mapping[str, Report]) -> list[Judged]:
    """The cases that have a report, in the order of the cases."""
    return [judge(case, reports[case.name]) for case in cases if case.name in reports]


def write_csv(judged: Sequence[Judged], path: Path) -> None:
    """A line for each file, for a look in a spreadsheet, to which no cell is a formula: the case's fields, then the answer."""
    names = [field.name for field in fields(Case) if field.name not in ("path", "name")]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", *names, "age_band", "kind", "answer", "reasons", "score", "logit"])
        for item in judged:
            case = item.case
            answer = [item.kind.value, item.answer, "+".join(item.reasons), item.score, item.logit]
            told = [safe_cell(getattr(case, name)) for name in ("name", *names)]
            writer.writerow([*told, safe_cell(age_band(case.age)), *answer])
