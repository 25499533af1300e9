"""Pages of a folder of reports: one beside each report, and the index of them all.

What goes wrong with a page is logged and costs that page: the report is there, and a later run writes what is missing.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from worker.content import write_atomically
from worker.pages.index import write_index
from worker.pages.page import report_page
from worker.pages.rows import PAGE, PATIENCE_S, Rows
from worker.report import Report

log = logging.getLogger(__name__)

MOST_PICTURE_BYTES: Final = 4 << 20


class FolderPages:
    """What ``worker.output.folder.ReportFolder`` tells of each item that it keeps."""

    def __init__(self, root: Path, *, patience_s: float = PATIENCE_S) -> None:
        self._root, self._patience_s = root, patience_s

    def add(self, place: Path, report: Report, pictures: Mapping[str, bytes]) -> None:
        """Write the page of an item; ``pictures`` are those that the report names."""
        with _at_no_cost(place):
            (place / PAGE).unlink(missing_ok=True)  # rather none than one that says what an earlier run found
            self._write(place, report_page(report, pictures.get, up="../index.html"))

    def close(self) -> None:
        """Write the index of everything that the folder holds, of earlier runs too."""
        with _at_no_cost(self._root):
            try:
                self._write_index(Rows(self._root, patience_s=self._patience_s))
            except sqlite3.Error:  # another run over the same folder holds it for long
                self._write_index(Rows(self._root, private=True))

    def _write_index(self, opened: Rows) -> None:
        with opened as rows:
            rows.renew(self._fill_in)
            write_index(self._root, rows)

    def _fill_in(self, place: Path, report: Report) -> None:
        """Of a report that another version left without its page."""
        if not (place / PAGE).is_file():
            with _at_no_cost(place):
                self._write(place, report_page(report, lambda name: _picture(place, name), up="../index.html"))

    def _write(self, place: Path, html: str) -> None:
        write_atomically(place / PAGE, html.encode("utf-8", "xmlcharrefreplace"))


@contextlib.contextmanager
def _at_no_cost(place: Path) -> Iterator[None]:
    """Around the making of what is only another view of reports."""
    try:
        yield
    except OSError as exc:
        log.warning("no page is written in %s: %s", place, exc.strerror or exc)
    except Exception:  # the pages' outermost boundary: none may end a run over thousands of files
        log.exception("no page is written in %s", place)


def _picture(place: Path, name: str) -> bytes | None:
    """A picture beside a report; a report names no other place."""
    path = place / name
    if Path(name).name != name or not path.is_file() or path.stat().st_size > MOST_PICTURE_BYTES:
        return None
    return path.read_bytes()
