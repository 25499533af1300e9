"""Robustness curves: a bounded, stratified sample, degraded at each level and scanned whole.

Every finished scan is a line of ``robustness.jsonl``, so that a stopped run goes on; lines of another model, of other options or
of a file that was replaced since are not counted.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from training.evaluation.cases import sample
from training.evaluation.degrade import FAMILIES, Family, degrade
from training.evaluation.judged import Judged, judge
from training.evaluation.results import Level
from training.evaluation.summary import FAKE, UNCERTAIN, answered, ranking, rate, sure_rate, unscored
from worker.content import read_content
from worker.errors import ConfigError, VeriframeError
from worker.jobs import ItemScanner, failed
from worker.ports import FrameSource
from worker.report import Report
from worker.types import MediaKind

FILE = "robustness.jsonl"
Key = tuple[str, float, str]
"""Family, level, name of the case."""


class Line(BaseModel):
    """One scan of a degraded file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fingerprint: str
    family: str
    level: float
    name: str
    original_sha256: str | None = None
    """Of the file that was degraded, empty where it could not be read; None in lines of older versions."""
    report: Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One file to be degraded and scanned."""

    item: Judged
    family: Family
    level: float

    @property
    def key(self) -> Key:
        return self.family.name, self.level, self.item.case.name


def trials(judged: Sequence[Judged], *, videos: int, pictures: int) -> list[Trial]:
    """Each level of each family for a stratified sample of the files that got a score."""
    limits = {MediaKind.VIDEO: videos, MediaKind.PICTURE: pictures}
    found: list[Trial] = []
    for kind, limit in limits.items():
        usable = [item for item in judged if item.kind is kind and item.score is not None]
        names = {case.name for case in sample([item.case for item in usable], limit, together=True)} if limit else set()
        chosen = [item for item in usable if item.case.name in names]
        families = [family for family in FAMILIES if kind in family.kinds]
        found += [Trial(item=i, family=family, level=level) for family in families for level in family.levels for i in chosen]
    return found


def run(
    wanted: Sequence[Trial],
    path: Path,
    scanner: ItemScanner,
    frames: FrameSource,
    *,
    on_trial: Callable[[Trial], None] = lambda _: None,
    on_done: Callable[[], None] = lambda: None,
) -> dict[Key, Judged]:
    """``scans``, judged."""
    found = scans(wanted, path, scanner, frames, on_trial=on_trial, on_done=on_done)
    return {trial.key: judge(trial.item.case, found[trial.key]) for trial in wanted}


def scans(
    wanted: Sequence[Trial],
    path: Path,
    scanner: ItemScanner,
    frames: FrameSource,
    *,
    on_trial: Callable[[Trial], None] = lambda _: None,
    on_done: Callable[[], None] = lambda: None,
) -> dict[Key, Report]:
    """Scan what the file does not hold yet, appending to it; gives all of them. ``on_trial`` and ``on_done`` hear of each."""
    places = {trial.item.case.name: trial.item.case.path for trial in wanted}
    now = {name: _sha256(place, scanner.max_bytes) for name, place in places.items()}
    done = {
        (line.family, line.level, line.name): line.report
        for line in read_lines(path, scanner.fingerprint)
        if line.name in now and line.original_sha256 == now[line.name]
    }
    with path.open("a", encoding="utf-8") as file:
        for trial in wanted:
            on_trial(trial)
            if trial.key not in done:
                report = done[trial.key] = scan_degraded(trial, scanner, frames)
                family, at, name = trial.key
                line = Line(
                    fingerprint=scanner.fingerprint,
                    family=family,
                    level=at,
                    name=name,
                    original_sha256=now[name],
                    report=report,
                )
                file.write(line.model_dump_json() + "\n")
                file.flush()
            on_done()
    return {trial.key: done[trial.key] for trial in wanted}


def _sha256(path: Path, max_bytes: int) -> str:
    """Empty for what cannot be read: its copies fail, until it can be."""
    try:
        return read_content(path, max_bytes).sha256
    except VeriframeError:
        return ""


def read_lines(path: Path, fingerprint: str) -> Iterator[Line]:
    """Lines of this scanner. A killed run may leave its last line torn: it is cut off. Raises ConfigError for any other."""
    if not path.is_file():
        return
    whole, _, torn = path.read_bytes().rpartition(b"\n")  # in the midst of a character, maybe
    if torn:
        path.write_bytes(whole + b"\n" if whole else b"")
    for number, text in enumerate(whole.split(b"\n") if whole else (), 1):
        try:
            line = Line.model_validate_json(text)
        except ValidationError as exc:
            raise ConfigError(f"{path}:{number} is no scan of a degraded file: {exc}; remove the file to begin anew") from exc
        if line.fingerprint == fingerprint:
            yield line


def scan_degraded(trial: Trial, scanner: ItemScanner, frames: FrameSource) -> Report:
    """The report on a degraded copy; a file that cannot be degraded gives a failed one."""
    case = trial.item.case
    with tempfile.TemporaryDirectory(prefix="veriframe-") as folder:
        try:
            copy = degrade(frames, case.path, trial.family, trial.level, Path(folder))
        except VeriframeError as exc:
            return failed(case.path, exc)
        return scanner.scan(copy).report


def levels(wanted: Sequence[Trial], found: Mapping[Key, Judged], *, draws: int = 300) -> list[Level]:
    """The curves' points: for each kind the untouched files, then each family's levels."""
    points: list[Level] = []
    for kind in (MediaKind.VIDEO, MediaKind.PICTURE):
        of_kind = [trial for trial in wanted if trial.item.kind is kind]
        clean = {trial.item.case.name: trial.item for trial in of_kind}
        if not clean:
            continue
        points.append(level(kind, "none", 0.0, list(clean.values()), clean, draws=draws))
        for family, at in dict.fromkeys((trial.family.name, trial.level) for trial in of_kind):
            part = [found[family, at, name] for name in clean]
            points.append(level(kind, family, at, part, clean, draws=draws))
    return points


def level(
    kind: MediaKind, family: str, at: float, part: Sequence[Judged], clean: Mapping[str, Judged], *, draws: int = 300
) -> Level:
    """One point; ``part`` are the same cases as ``clean``."""
    scored = [item for item in part if item.score is not None]
    fake_N = np.array([item.case.fake for item in scored], dtype=bool)
    score_N = np.array([item.score for item in scored], dtype=np.float64)
    ranked = ranking(fake_N, score_N, [item.case.group for item in scored], draws=draws)
    real, fake = [item for item in part if not item.case.fake], [item for item in part if item.case.fake]
    return Level(
        kind=kind,
        family=family,
        level=at,
        real=len(real),
        fake=len(fake),
        auc=ranked.auc if ranked else float("nan"),
        interval=ranked.interval if ranked else (float("nan"), float("nan")),
        false_alarms=rate(real, answered(FAKE)),
        detected=rate(fake, answered(FAKE)),
        uncertain=sure_rate(part, answered(UNCERTAIN)),
        unscored=sure_rate(part, unscored),
        shift_real=_shift(real, clean),
        shift_fake=_shift(fake, clean),
    )


def _shift(part: Sequence[Judged], clean: Mapping[str, Judged]) -> float:
    """Mean change of the logit, over files scored in both; nan for none."""
    gaps = [
        item.logit - before for item in part if item.logit is not None and (before := clean[item.case.name].logit) is not None
    ]
    return float(np.mean(gaps)) if gaps else float("nan")
