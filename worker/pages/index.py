"""The index of a folder of reports: tables of so many rows, a file each, once in every order, so that sorting needs no script."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from worker import __version__
from worker.content import write_atomically
from worker.pages.render import content_policy, environment, style
from worker.pages.rows import ORDERS, PAGE, Row, Rows
from worker.pages.timeline import moment

INDEX: Final = "index.html"
FOLDER: Final = "index"
"""Of all tables but the first."""
PER_TABLE: Final = 500
TITLES: Final = {"verdict": "Verdict", "score": "Score", "name": "Name"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """All items of one verdict, and the address of the first of them."""

    tone: str
    mark: str
    verdict: str
    count: int
    href: str


def write_index(root: Path, rows: Rows, *, per_table: int = PER_TABLE) -> None:
    """Write all tables; those of an earlier index that are no more are deleted. Raises OSError."""
    folder = root / FOLDER
    folder.mkdir(exist_ok=True)
    counts = rows.counts()
    count = sum(number for *_, number in counts)
    last = max(1, math.ceil(count / per_table))
    template = environment().get_template("index.html.j2")
    written = set()
    for order in ORDERS:
        found = rows.in_order(order)
        for number in range(1, last + 1):
            name = table_name(order, number)
            up = "" if name == INDEX else "../"
            html = template.render(
                rows=list(islice(found, per_table)),
                order=order,
                titles=TITLES,
                number=number,
                last=last,
                first_row=(number - 1) * per_table + 1,
                count=count,
                groups=list(_groups(counts, per_table, up)),
                href=lambda order, number, up=up: up + table_name(order, number),
                place=lambda row, up=up: f"{up}{row.place}/{PAGE}",
                length=_length,
                version=__version__,
                style=style(),
                policy=content_policy(),
            )
            write_atomically(root / name, html.encode("utf-8"))
            written.add(Path(name).name)
    for left in folder.glob("*.html"):
        if left.name not in written:
            left.unlink(missing_ok=True)


def table_name(order: str, number: int) -> str:
    """Path of a table below the folder; the first one of all is ``index.html``."""
    return INDEX if (order, number) == ("verdict", 1) else f"{FOLDER}/{order}-{number}.html"


def _groups(counts: list[tuple[str, str, str, int]], per_table: int, up: str) -> Iterator[Group]:
    before = 0
    for tone, mark, verdict, count in counts:
        yield Group(tone=tone, mark=mark, verdict=verdict, count=count, href=up + table_name("verdict", before // per_table + 1))
        before += count


def _length(row: Row) -> str:
    return "" if row.length_s is None else moment(round(1000 * row.length_s), 1000)
