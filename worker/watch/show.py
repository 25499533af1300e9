"""Windows and events as they come, on standard output: JSON lines, or the lines of a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, Protocol, TextIO

from worker.output.jsonl import json_line
from worker.output.text import shown_score
from worker.report import Report
from worker.watch.events import WatchEvent, WindowResult

_ROW: Final = "{:>9}  {:<14}  {:>5}  {:>6}  {:>6}  {:>12}  {}"


class Show(Protocol):
    """Each call is on the screen when it returns."""

    def window(self, window: WindowResult, events: Sequence[WatchEvent]) -> None: ...

    def report(self, report: Report) -> None: ...


class JsonLines:
    """Events, one a line; ``windows``: each window before its events, with ``"kind": "window"``; last the report."""

    def __init__(self, out: TextIO, *, windows: bool) -> None:
        self._out, self._windows = out, windows

    def window(self, window: WindowResult, events: Sequence[WatchEvent]) -> None:
        if self._windows:
            self._line({"kind": "window", **window.model_dump(mode="json")})
        for event in events:
            self._line(event.model_dump(mode="json"))

    def report(self, report: Report) -> None:
        self._out.write(json_line(report) + "\n")
        self._out.flush()

    def _line(self, data: dict[str, Any]) -> None:
        self._out.write(json.dumps(data) + "\n")
        self._out.flush()


class Table:
    """A line for each window, with the tracks that were told fake, and what changed."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._has_begun = False

    def window(self, window: WindowResult, events: Sequence[WatchEvent]) -> None:
        if not self._has_begun:
            self._print("until", "verdict", "score", "frames", "faces", "missed", "changes")
            self._has_begun = True
        self._print(
            _clock(window.end_ms),
            window.verdict,
            "-" if window.score is None else shown_score(window.score),
            str(window.frames),
            str(window.with_face),
            _missed(window),
            "; ".join(_told(event) for event in events),
        )

    def report(self, report: Report) -> None:
        score = "" if report.score is None else f" ({shown_score(report.score)})"
        why = "".join(f", {reason.code}" for reason in report.reasons)
        self._out.write(f"whole: {report.verdict or report.status}{score}{why}\n")
        if report.error is not None:
            self._out.write(f"failed: {report.error.code}: {report.error.message}\n")
        missed = [f"{ms / 1000:.0f} s {cause}" for cause, ms in (report.watch.missed_ms if report.watch else {}).items()]
        if report.sampling is not None and report.sampling.crowded:
            missed.append("smaller faces of a crowd")
        if missed:
            self._out.write(f"not looked at: {', '.join(missed)}\n")
        self._out.flush()

    def _print(self, *cells: str) -> None:
        self._out.write(_ROW.format(*cells).rstrip() + "\n")
        self._out.flush()


def _clock(ms: int) -> str:
    minutes, seconds = divmod(ms // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"


def _missed(window: WindowResult) -> str:
    """Of its time, and of its faces."""
    time = [f"{window.dropped_ms / 1000:.0f} s"] if window.dropped_ms else []
    return ", ".join([*time, *(["faces"] if window.crowded else [])]) or "-"


def _told(event: WatchEvent) -> str:
    if event.kind == "track_seen":
        return f"track {event.track} seen"
    if event.kind == "stream_ended":
        return f"ended ({event.detail['ending']})"
    return f"{'whole' if event.track is None else f'track {event.track}'} {event.verdict}"
