"""Pages of a folder of reports: one beside each report, and the index of them all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from worker.content import write_atomically
from worker.pages.index import write_index
from worker.pages.page import report_page
from worker.pages.rows import PAGE, Rows
from worker.report import Report

MOST_PICTURE_BYTES: Final = 4 << 20


class FolderPages:
    """What ``worker.output.folder.ReportFolder`` tells of each item that it keeps."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def add(self, place: Path, report: Report, pictures: Mapping[str, bytes]) -> None:
        """Write the page of an item; ``pictures`` are those that the report names. Raises OSError."""
        self._write(place, report_page(report, pictures.get, up="../index.html"))

    def close(self) -> None:
        """Write the index of everything that the folder holds, of earlier runs too. Raises OSError."""
        with Rows(self._root) as rows:
            rows.renew(self._fill_in)
            write_index(self._root, rows)

    def _fill_in(self, place: Path, report: Report) -> None:
        """Of a report that another version left without its page."""
        if not (place / PAGE).is_file():
            self._write(place, report_page(report, lambda name: _picture(place, name), up="../index.html"))

    def _write(self, place: Path, html: str) -> None:
        write_atomically(place / PAGE, html.encode("utf-8", "xmlcharrefreplace"))


def _picture(place: Path, name: str) -> bytes | None:
    """A picture beside a report; a report names no other place."""
    path = place / name
    if Path(name).name != name or not path.is_file() or path.stat().st_size > MOST_PICTURE_BYTES:
        return None
    return path.read_bytes()
