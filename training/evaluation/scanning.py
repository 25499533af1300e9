"""Reports for the cases: from whole scans, kept in a folder so that a stopped run goes on, or from finished reports."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from pydantic import ValidationError
from rich.console import Console

from training.evaluation.cases import Case
from training.evaluation.replay import why_not_whole
from worker.batch import Batch, Tally
from worker.errors import ConfigError
from worker.jobs import BuildScanner
from worker.output.folder import ReportFolder
from worker.output.jsonl import JsonLinesSink
from worker.output.sink import Sink
from worker.progress import Bar
from worker.report import Report, Source
from worker.settings import Settings
from worker.source.files import Item

REPORTS = "reports.jsonl"
STORE = "scans"


class Keep:
    """A sink that writes reports as JSON lines and keeps them."""

    def __init__(self, out: TextIO) -> None:
        self._lines: Sink = JsonLinesSink(out)
        self.reports: list[Report] = []

    def write(self, report: Report) -> None:
        self._lines.write(report)
        self.reports.append(report)

    def close(self) -> None:
        self._lines.close()


class Stopped(Exception):
    """A signal ended the scans; what is finished is kept for the next run."""

    def __init__(self, tally: Tally) -> None:
        super().__init__(f"{tally}; the next run with the same --out goes on")
        self.exit_code = tally.stopped


def scan_cases(
    cases: Sequence[Case], out: Path, *, build: BuildScanner, settings: Settings, workers: int, quiet: bool
) -> dict[str, Report]:
    """A report for each case by its name. Scans that ``out`` holds of the same bytes, model and options are not done again.

    Raises Stopped, ConfigError or ModelError.
    """
    items = [Item(path=place) for place in dict.fromkeys(case.path.resolve() for case in cases)]  # decoders open no link
    folder = ReportFolder(out / STORE)
    console = Console(stderr=True)
    with (out / REPORTS).open("w", encoding="utf-8") as file:
        keep = Keep(file)
        batch = Batch(
            build=build,
            settings=settings,
            workers=workers,
            resume=True,
            folder=folder,
            sink=keep,
            bar=Bar(console, total=len(items), live=console.is_terminal and not quiet),
        )
        tally = batch.run(items)
    if tally.stopped:
        raise Stopped(tally)
    return match(cases, keep.reports)


def read_reports(paths: Sequence[Path]) -> list[Report]:
    """Reports of ``veriframe scan --exhaustive --format jsonl``.

    Raises ConfigError for a line that is none, and for a scan of less than all: ended early by its verdict, or of a part.
    """
    reports: list[Report] = []
    for path in paths:
        try:
            with path.open(encoding="utf-8") as file:
                lines = list(file)  # not splitlines(), which cuts at U+2028, too: names may hold it
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError(f"cannot read {path}: {exc}") from exc
        for number, line in enumerate(lines, 1):
            try:
                report = Report.model_validate_json(line)
            except ValidationError as exc:
                raise ConfigError(f"{path}:{number} is no report of `veriframe scan --format jsonl`: {exc}") from exc
            if why := why_not_whole(report):
                raise ConfigError(f"{path}:{number} {why}")
            reports.append(report)
    return reports


def match(cases: Sequence[Case], reports: Sequence[Report]) -> dict[str, Report]:
    """Report of each case by the case's name, as far as there is one: by its place, which several cases may link to, else by the
    end of its path. Of several on one file the last.

    Raises ConfigError where nothing matches, where reports come from several checkpoints, and where two on different files end
    like one case and not both failed.
    """
    hashes = {report.model.sha256 for report in reports if report.model is not None}
    if len(hashes) > 1:
        raise ConfigError(f"the reports come from {len(hashes)} checkpoints: evaluate one at a time")
    by_place: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        for place in {_place(Source.of(case.path)), _place(Source.of(case.path.resolve()))}:
            by_place[place].append(case.name)
    by_name = {case.name: case.name for case in cases}
    exact: dict[str, Report] = {}
    alike: dict[str, list[Report]] = defaultdict(list)
    for report in reports:
        if names := by_place.get(_place(report.source)):
            exact |= dict.fromkeys(names, report)
        elif name := _by_end(report.source.path or "", by_name):
            alike[name].append(report)
    found = exact | {name: _on_one_file(name, ends) for name, ends in alike.items() if name not in exact}
    if not found:
        raise ConfigError("none of the reports is on a file of the manifest")
    return found


def _on_one_file(name: str, reports: Sequence[Report]) -> Report:
    """The last. Raises ConfigError where they are on several files, by their places and bytes, unless all failed: whichever of
    these the case is, it has no verdict."""
    last = reports[-1]
    if all(report.status == "failed" for report in reports):
        return last
    for report in reports:
        if _place(report.source) != _place(last.source) and _sha256(report) != (_sha256(last) or "not known"):
            raise ConfigError(
                f"{name}: both {report.source.path} and {last.source.path} end alike: give the report on one of them"
            )
    return last


def _sha256(report: Report) -> str | None:
    return report.media.sha256 if report.media is not None else None


def _place(source: Source) -> str:
    """What names the file exactly: its URL where its name is not UTF-8."""
    return source.url or source.path or ""


def _by_end(path: str, by_name: Mapping[str, str]) -> str | None:
    """The case whose name is the end of the path, whole components compared, the longest first."""
    parts = Path(path).parts
    return next((name for start in range(len(parts)) if (name := by_name.get("/".join(parts[start:])))), None)
