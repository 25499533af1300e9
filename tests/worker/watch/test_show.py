"""A watch's table says of each window, and of the whole, what was not looked at."""

from __future__ import annotations

import io

import pytest

from tests.worker.pages.reports import PART, watched
from worker.types import Label
from worker.watch.events import WindowResult
from worker.watch.show import Table


@pytest.mark.parametrize(
    ("dropped_ms", "crowded", "missed"),
    [(0, False, "-"), (4000, False, "4 s"), (0, True, "faces"), (120_000, True, "120 s, faces")],
)
def test_a_window_says_what_it_missed(dropped_ms: int, crowded: bool, missed: str) -> None:
    out = io.StringIO()
    window = WindowResult(
        number=0,
        start_ms=0,
        end_ms=10_000,
        verdict=Label.UNCERTAIN,
        frames=20,
        with_face=20,
        dropped_ms=dropped_ms,
        crowded=crowded,
    )
    Table(out).window(window, [])
    head, row = out.getvalue().splitlines()
    assert len(row) == head.index("missed") + len("missed"), "below its name"
    assert row.endswith(f" 20  {missed.rjust(12)}")


def test_the_whole_says_what_was_not_looked_at() -> None:
    told = []
    for crowded in (False, True):
        out = io.StringIO()
        Table(out).report(watched(sampling=PART.model_copy(update={"crowded": crowded})))
        told.append(out.getvalue().splitlines()[1:])
    assert told == [["not looked at: 2 s outage"], ["not looked at: 2 s outage, smaller faces of a crowd"]]
