"""Judges scores by source: AUC with intervals over groups, decisions, coverage; from a CSV with a line for each file.

Columns: path, label (real, fake), source, manipulation, group, split, logit (mean over frames), and where a scan made them,
verdict (fake, real, uncertain, or empty where there is none).
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.metrics import auc, balanced_accuracy, grouped_interval
from worker.errors import ConfigError

COLUMNS = ("path", "label", "source", "manipulation", "group", "split", "logit", "verdict")
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One file and its score; ``verdict`` is empty where none was made."""

    path: str
    label: str
    source: str
    manipulation: str
    group: str
    split: str
    logit: float
    verdict: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table; nan where a class is missing or nothing was decided. ``called_fake``: share of logits above 0."""

    name: str
    real: int
    fake: int
    groups: int
    auc: float
    interval: tuple[float, float]
    called_fake: float
    coverage: float
    balanced_accuracy: float


def read_scores(path: Path) -> list[Scored]:
    """Raises ConfigError for a missing column or a logit that is no number."""
    try:
        with path.open(newline="") as file:
            return [_scored(row) for row in csv.DictReader(file)]
    except (OSError, KeyError, ValueError) as exc:
        raise ConfigError(f"{path}: not a table of scores ({', '.join(COLUMNS)}): {exc!r}") from exc


def _scored(row: Mapping[str, str]) -> Scored:
    text = {name: row[name] for name in COLUMNS if name not in ("logit", "verdict")}
    return Scored(**text, logit=float(row["logit"]), verdict=row.get("verdict") or "")


def write_scores(scores: Sequence[Scored], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([getattr(score, name) for name in COLUMNS] for score in scores)


def table(scores: Sequence[Scored], *, draws: int = 1000) -> list[Row]:
    """A line for each split and source, FF++ also by manipulation (against all its real clips)."""
    return [judge(name, part, draws=draws) for name, part in parts(scores)]


def parts(scores: Sequence[Scored]) -> Iterator[tuple[str, list[Scored]]]:
    by_source: dict[tuple[str, str], list[Scored]] = defaultdict(list)
    for score in scores:
        by_source[score.split, score.source].append(score)
    for (split, source), members in sorted(by_source.items()):
        yield f"{split} {source}", members
        kinds = sorted({score.manipulation for score in members if score.label == "fake"})
        for kind in kinds if len(kinds) > 1 else []:
            yield f"{split} {source}/{kind}", [score for score in members if score.label == "real" or score.manipulation == kind]


def judge(name: str, scores: Sequence[Scored], *, draws: int = 1000) -> Row:
    """Raises ValueError for no scores."""
    if not scores:
        raise ValueError(f"{name}: nothing was scored")
    fake = np.array([score.label == "fake" for score in scores])
    logit = np.array([score.logit for score in scores])
    groups = [score.group for score in scores]
    decided = np.array([score.verdict in ("fake", "real") for score in scores])
    called = np.array([score.verdict == "fake" for score in scores])
    known = any(score.verdict for score in scores)

    def resampled(rows: Ints) -> float:
        return auc(fake[rows], logit[rows])

    return Row(
        name=name,
        real=int((~fake).sum()),
        fake=int(fake.sum()),
        groups=len(set(groups)),
        auc=auc(fake, logit),
        interval=grouped_interval(groups, resampled, draws=draws),
        called_fake=float((logit > 0).mean()),
        coverage=float(decided.mean()) if known else float("nan"),
        balanced_accuracy=balanced_accuracy(fake[decided], called[decided]) if decided.any() else float("nan"),
    )


def markdown(rows: Sequence[Row]) -> str:
    """The table for a model card."""
    lines = [
        "| source | real | fake | groups | AUC (95 % interval) | logit > 0 | decided | balanced accuracy of decided |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        span = f"{_number(row.auc)} ({_number(row.interval[0])} to {_number(row.interval[1])})"
        counts = f"{row.real} | {row.fake} | {row.groups}"
        rest = f"{_number(row.called_fake)} | {_number(row.coverage)} | {_number(row.balanced_accuracy)}"
        lines.append(f"| {row.name} | {counts} | {span if not np.isnan(row.auc) else '-'} | {rest} |")
    return "\n".join(lines)


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"
