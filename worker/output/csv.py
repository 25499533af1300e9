"""One row for each report as CSV (RFC 4180), safe to open in a spreadsheet.

A cell that a spreadsheet would take for a formula (it begins with ``= + - @``, a tab or a return) gets an apostrophe in front:
https://owasp.org/www-community/attacks/CSV_Injection
"""

from __future__ import annotations

import csv
from typing import TextIO

from worker.output.row import row_of
from worker.report import Report

COLUMNS = (
    "path",
    "status",
    "verdict",
    "score",
    "calibrated",
    "reasons",
    "tracks",
    "worst_ms",
    "duration_s",
    "seconds",
    "error_code",
    "error_message",
    "model",
    "sha256",
    "id",
    "start_s",
    "end_s",
    "more_videos",
    "undecodable_s",
    "crowded",
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def safe_cell(text: str) -> str:
    return "'" + text if text.startswith(_FORMULA) else text


def _seconds(duration_s: float | None) -> str | None:
    return None if duration_s is None else f"{duration_s:.3f}"


class CsvSink:
    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._rows = csv.writer(out, lineterminator="\n")
        self._rows.writerow(COLUMNS)

    def write(self, report: Report) -> None:
        row = row_of(report)
        cells: list[str | float | None] = [
            safe_cell(row.path),
            row.status,
            row.verdict,
            row.score,
            str(row.calibrated).lower(),
            " ".join(row.reasons),
            row.tracks,
            row.worst_ms,
            _seconds(row.duration_s),
            _seconds(row.seconds),
            row.error_code,
            safe_cell(row.error_message),
            safe_cell(f"{report.model.name} {report.model.version}") if report.model else None,
            report.sha256,
            report.id,
            _seconds(row.start_s),
            _seconds(row.end_s),
            row.more_videos,
            _seconds(row.undecodable_s),
            None if row.crowded is None else str(row.crowded).lower(),
        ]
        self._rows.writerow(cells)
        self._out.flush()

    def close(self) -> None:
        self._out.flush()
