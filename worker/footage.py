"""From scans of a user's own real files to offsets of the score, what they promise and cost, and a settings file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import yaml

from worker import __version__
from worker.assemble import printable
from worker.content import write_atomically
from worker.errors import ConfigError
from worker.model.spec import Calibration, ModelSpec
from worker.output.text import shown_score
from worker.report import Report
from worker.settings import MOST_OFFSET, CalibrationSettings, Settings
from worker.types import MediaKind, Reason
from worker.verdict.offset import (
    CONFIDENCE,
    LEAST_FILES,
    PRIOR_FILES,
    Offset,
    OwnFile,
    alarms_left_out,
    files_needed,
    fit_offset,
    largest_offset,
    rate_bound,
    share_above,
)

HEADER = "# Settings for veriframe scan --config, written by veriframe calibrate."
HELD_BACK = frozenset({Reason.LOW_QUALITY, Reason.HIGH_UNCERTAINTY})
PROMISE = 0.05
"""The rate of false alarms that the shipped thresholds aim at."""
OF_SCANS = frozenset({"decode", "sampling", "faces", "model", "verdict", "calibration", "output"})
"""The sections that a scan of files is made with; those of the service may hold passwords."""
SHOWN = 5
"""Files named as the least real."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """One kind's files, what the checkpoint says of held-out ones, and the offset."""

    kind: MediaKind
    files: tuple[OwnFile, ...]
    entry: Calibration
    most: float
    offset: Offset

    @property
    def expected(self) -> float:
        return median(self.entry.real_log_odds)


def sort_reports(reports: Sequence[Report]) -> tuple[dict[MediaKind, list[OwnFile]], Counter[str]]:
    """Files with a score, by kind; and how many have none, by the reason (``failed``, ``no_face`` ...)."""
    files: dict[MediaKind, list[OwnFile]] = {kind: [] for kind in MediaKind}
    without: Counter[str] = Counter()
    for report in reports:
        if report.status != "completed":
            without[report.status] += 1
        elif report.media is None or report.odds is None or report.thresholds is None:
            without.update(reason.code.value for reason in report.reasons)
        else:
            file = OwnFile(
                name=report.source.path or "",
                log_odds=report.odds.log_odds,
                temperature=report.odds.temperature,
                thresholds=(report.thresholds.real_below, report.thresholds.fake_above),
                held_back=any(reason.code in HELD_BACK for reason in report.reasons),
            )
            files[report.media.kind].append(file)
    return files, without


def expectations(spec: ModelSpec) -> dict[MediaKind, Calibration]:
    """The calibration of each kind that knows what real files look like. Raises ConfigError where there is none."""
    found = {entry.media: entry for entry in reversed(spec.calibrations) if entry.real_log_odds}
    known = {kind: found[kind] for kind in MediaKind if kind in found}
    if not known:
        raise ConfigError(
            f"{spec.name} {spec.version} does not say what it expects of real files, so there is nothing to compare yours with: "
            "calibrate the checkpoint first (veriframe release calibrate)"
        )
    return known


def fit(files: Mapping[MediaKind, Sequence[OwnFile]], known: Mapping[MediaKind, Calibration]) -> list[Fitted]:
    """An offset for each kind with enough files. Raises ConfigError where no kind has."""
    found: list[Fitted] = []
    for kind, entry in known.items():
        if len(files[kind]) >= LEAST_FILES:
            most = largest_offset(entry.real_log_odds, entry.fake_log_odds, MOST_OFFSET)
            offset = fit_offset([file.log_odds for file in files[kind]], median(entry.real_log_odds), most)
            found.append(Fitted(kind=kind, files=tuple(files[kind]), entry=entry, most=most, offset=offset))
    if not found:
        counts = ", ".join(f"{kind.value} {len(files[kind])}" for kind in known)
        raise ConfigError(f"too few files with a face: {counts}; an offset needs {LEAST_FILES} or more of one kind")
    return found


def settings_text(settings: Settings, fitted: Sequence[Fitted], model_sha256: str, folder: Path) -> str:
    """YAML of the settings of scans that are not at their defaults, with the offsets as their section ``calibration``."""
    offsets = {f"offset_{one.kind.value}": round(one.offset.value, 4) for one in fitted}
    section = CalibrationSettings.model_validate({"model_sha256": model_sha256, **offsets})
    scans = settings.model_copy(update={"calibration": section})
    kept = scans.model_dump(mode="json", exclude_defaults=True, include=set(OF_SCANS))
    notes = [HEADER, f"# veriframe {__version__}; real files of {printable(str(folder))}."]
    for one in fitted:
        alarms = alarms_left_out(one.files, one.expected, one.most)
        notes.append(f"# {one.kind.value}: {len(one.files)} files, {alarms} called fake with the offset of the others.")
    return "\n".join(notes) + "\n\n" + yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)


def write_settings(path: Path, text: str) -> None:
    """Over an earlier one of ours. Raises ConfigError where that is impossible."""
    try:
        write_atomically(path, text.encode("utf-8", "backslashreplace"))
    except OSError as exc:
        raise ConfigError(f"--out {path}: {exc.strerror}") from exc


def check_writable(path: Path) -> None:
    """Raises ConfigError where ``path`` holds something that is not ours to write over."""
    try:
        if path.exists() and not path.read_bytes().startswith(HEADER.encode()):
            raise ConfigError(f"--out {path}: a file that veriframe calibrate did not write; name another")
    except OSError as exc:
        raise ConfigError(f"--out {path}: {exc.strerror}") from exc


def told(one: Fitted) -> Iterator[str]:
    """What was found of one kind, in lines for people."""
    n, value, distance = len(one.files), one.offset.value, one.offset.distance
    direction = "more fake" if distance > 0 else "more real"
    yield (
        f"{one.kind.value}: {n} files with a score; their median log odds lie {distance:+.2f} from those of held-out real ones "
        f"({one.expected:+.2f}): they look {direction} than expected"
    )
    yield f"  offset {value:+.2f} (minus the distance, times {n}/({n} + {PRIOR_FILES}), at most {one.most:.2f} either way)"
    before, after = sum(file.alarms(0.0) for file in one.files), alarms_left_out(one.files, one.expected, one.most)
    yield f"  called fake: {before} of {n} before; {after} of {n} after, each with the offset that the others give"
    yield from _promise(after, n)
    yield from _cost(one)
    if one.offset.capped or abs(distance) > one.most:
        yield (
            f"  WARNING: a distance of {distance:+.2f} is implausibly great. Either there are fakes among these files, or they "
            "are unlike all that the model was made for, and no offset will mend that"
        )
    suspects = sorted((file for file in one.files if file.alarms(value)), key=lambda file: -file.log_odds)
    if suspects:
        yield "  still called fake; look whether they are, take fakes out and run again:"
        yield from (f"    {shown_score(file.score(value))}  {printable(file.name)}" for file in suspects[:SHOWN])
        if len(suspects) > SHOWN:
            yield f"    and {len(suspects) - SHOWN} more"


def _promise(alarms: int, n: int) -> Iterator[str]:
    bound, sure = rate_bound(alarms, n), f"{CONFIDENCE:.0%}"
    plural = "" if alarms == 1 else "s"
    yield f"  {n} files with {alarms} alarm{plural}: at {sure} confidence, at most {bound:.1%} of such real files are called fake"
    if bound > PROMISE:
        yield (
            f"  {files_needed(PROMISE)} files without an alarm promise at most {PROMISE:.0%} ({files_needed(PROMISE, 1)} with "
            f"one, {files_needed(PROMISE, 2)} with two); {files_needed(0.01)} without one promise 1%"
        )
    yield "  files of the same people, place or camera count for less than their number"


def _cost(one: Fitted) -> Iterator[str]:
    fakes, value = one.entry.fake_log_odds, one.offset.value
    if not fakes:
        yield "  cost: unknown, the checkpoint does not hold the scores of held-out fakes"
        return
    level = one.files[0].level
    before, after = round(100 * share_above(fakes, level)), round(100 * share_above(fakes, level - value))
    lost = f"{before - after}% are lost" if value < 0 else f"{after - before}% are gained, for more false alarms elsewhere"
    yield f"  cost: of held-out fakes {before}% were called fake, {after}% with this offset ({lost})"
