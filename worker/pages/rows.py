"""What the index of a folder says of each item, held in a small database beside the items: as much memory for 100,000 as for ten.

The reports are the truth: rows are made of those that have changed, and of all where there is no database.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Final, Self

from pydantic import ValidationError

from worker.output.text import escaped, shown_address
from worker.pages import words
from worker.pages.page import name_of
from worker.report import Report
from worker.types import Label

PAGE: Final = "page.html"
"""An item's page, beside its report."""
DATABASE: Final = ".index.sqlite"
VERSION: Final = 5
PATIENCE_S: Final = 30.0
"""For another run's use of the database."""
PLACE = re.compile(r"(.+-)?[0-9a-f]{16}")
"""Names of items' folders (``worker.output.folder``)."""
RANKS: Final = {Label.FAKE: 0, Label.UNCERTAIN: 1, None: 2, Label.NOT_APPLICABLE: 3, Label.REAL: 4}
"""What deserves a look comes first; None: no verdict, as the scan failed."""
ORDERS: Final[dict[str, str]] = {
    "verdict": "rank, score IS NULL, score DESC, sort_name, place",
    "score": "score IS NULL, score DESC, sort_name, place",
    "name": "sort_name, place",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Plain text without hidden characters. ``source``: the folder, or the bare address. ``length_s`` None: no video.

    ``stamp``: of the report's file."""

    place: str
    stamp: str
    rank: int
    tone: str
    mark: str
    verdict: str
    by_human: bool
    score: float | None
    name: str
    sort_name: str
    source: str
    tracks: int
    length_s: float | None
    why: str


_COLUMNS = ", ".join(field.name for field in fields(Row))


def row_of(place: str, stamp: str, report: Report) -> Row:
    head, source = words.headline(report), report.source
    name, address = escaped(name_of(report)), shown_address(source.url) if source.url else ""
    calibration = "" if report.calibrated or report.score is None else words.NOT_CALIBRATED
    stretches = words.SOME_STRETCHES if head is words.REAL_WITH_STRETCHES else ""
    why = " ".join(filter(None, (stretches, *words.reasons(report), *words.left_out(report), calibration)))
    if report.error is not None:
        why = f"{words.error(report.error.code)} ({escaped(report.error.message)})"
    return Row(
        place=place,
        stamp=stamp,
        rank=RANKS[report.verdict],
        tone=words.tone(report),
        mark=head.mark,
        verdict=head.name,
        by_human=report.decided_by == "human",
        score=report.score,
        name=name,
        sort_name=name.casefold(),
        source=escaped(posixpath.dirname(source.path)) if source.path is not None else address,
        tracks=len(report.tracks),
        length_s=report.media.duration_s if report.media is not None and report.media.kind.value == "video" else None,
        why=why,
    )


class Rows:
    """The rows of a folder; a context manager that closes the database.

    Another run's use of the same one is waited for ``patience_s`` at most: then sqlite3.Error, of any method. ``private``: in a
    temporary file, empty before ``renew``.
    """

    def __init__(self, root: Path, *, private: bool = False, patience_s: float = PATIENCE_S) -> None:
        self._root = root
        self._database = _opened(root / DATABASE, private, patience_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._database.close()

    def renew(self, on_read: Callable[[Path, Report], None] = lambda place, report: None) -> None:
        """Read the reports that have changed or have no page, and forget those that are gone. ``on_read`` hears of each that was
        read."""
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")  # one that begins to write later is refused where another waits to commit
            self._database.execute("CREATE TEMP TABLE here (place TEXT PRIMARY KEY)")
            for place, stamp in _places(self._root):
                known = self._database.execute("SELECT stamp FROM rows WHERE place = ?", (place,)).fetchone()
                if known is None or known[0] != stamp or not (self._root / place / PAGE).is_file():
                    report = _read(self._root / place)
                    if report is None:
                        continue
                    self._put(row_of(place, stamp, report))
                    on_read(self._root / place, report)
                self._database.execute("INSERT INTO here VALUES (?)", (place,))
            self._database.execute("DELETE FROM rows WHERE place NOT IN (SELECT place FROM here)")
            self._database.execute("DROP TABLE here")

    def in_order(self, order: str) -> Iterator[Row]:
        """All rows; ``order`` is one of ``ORDERS``."""
        for values in self._database.execute(f"SELECT {_COLUMNS} FROM rows ORDER BY {ORDERS[order]}"):
            yield Row(**dict(zip((field.name for field in fields(Row)), values, strict=True)))

    def counts(self) -> list[tuple[str, str, str, int]]:
        """Tone, mark, verdict and how many have it, in the order ``verdict``."""
        return self._database.execute(
            "SELECT tone, mark, verdict, COUNT(*) FROM rows GROUP BY rank, tone, mark, verdict ORDER BY rank, verdict"
        ).fetchall()

    def _put(self, row: Row) -> None:
        marks = ", ".join("?" * len(fields(Row)))
        self._database.execute(f"INSERT OR REPLACE INTO rows ({_COLUMNS}) VALUES ({marks})", astuple(row))


def _opened(path: Path, private: bool, patience_s: float) -> sqlite3.Connection:
    """The database of an earlier run, or a new one; a private one in a temporary file where the folder cannot hold any."""
    for place in () if private else (str(path), str(path)):
        try:
            return _prepared(place, patience_s)
        except sqlite3.Error as exc:  # damaged, or of a file system without locks: it holds nothing that reports do not
            if exc.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:  # in use: a new one would take over its journal
                break
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
    try:
        return _prepared("", patience_s)
    except sqlite3.Error as exc:
        raise OSError(f"no index of {path.parent} can be made: {exc}") from exc


def _prepared(place: str, patience_s: float) -> sqlite3.Connection:
    database = sqlite3.connect(place, timeout=patience_s)
    try:
        _prepare(database)
    except sqlite3.Error:
        database.close()
        raise
    return database


def _prepare(database: sqlite3.Connection) -> None:
    database.execute("PRAGMA synchronous = OFF")
    database.execute("PRAGMA temp_store = FILE")
    if database.execute("PRAGMA user_version").fetchone()[0] != VERSION:
        database.execute("DROP TABLE IF EXISTS rows")
        database.execute(f"PRAGMA user_version = {VERSION}")
    database.execute(f"CREATE TABLE IF NOT EXISTS rows ({_COLUMNS}, PRIMARY KEY (place)) WITHOUT ROWID")


def _places(root: Path) -> Iterator[tuple[str, str]]:
    """Names of the items' folders that hold a report, and the stamp of that."""
    with os.scandir(root) as entries:
        for entry in entries:
            if PLACE.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    state = os.stat(Path(entry.path) / "report.json")
                    yield entry.name, f"{state.st_mtime_ns} {state.st_ctime_ns} {state.st_size} {state.st_ino}"


def _read(place: Path) -> Report | None:
    try:
        return Report.model_validate_json((place / "report.json").read_bytes(), extra="ignore")
    except (OSError, ValidationError):
        return None
