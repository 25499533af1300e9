"""A file that grows while it is read, on the test's clock."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path

import pytest

from tests.worker.source.live.streams import Clock, made
from worker.errors import EmptyMedia, SourceError, UnsupportedMedia
from worker.source.client import never
from worker.source.live.growing import GrowingFile
from worker.source.live.patience import Patience
from worker.source.live.pieces import Gap, Piece
from worker.types import Json

GREYS = [100, 150] * 6


def read(path: Path, clock: Clock, position: Json | None = None) -> list[Piece | Gap]:
    patience = Patience(10, now=clock.now, sleep=clock.sleep)
    reader = GrowingFile(path, cut_s=2, patience=patience, position=position)
    return [item for item in reader.items(never) if item is not None]


@pytest.mark.parametrize("muxer", ["mpegts", "flv"])
def test_it_is_read_as_it_grows_and_ends_when_it_does_not(muxer: str, tmp_path: Path) -> None:
    data = made(tmp_path / "made", muxer, GREYS)["made"]
    path = tmp_path / "growing"
    path.write_bytes(b"")
    written = 0

    def grow(now_s: float) -> None:
        nonlocal written
        with path.open("ab") as file:
            written += file.write(data[written : written + 777])

    clock = Clock(grow)
    items = read(path, clock)
    assert [round(item.start_s, 1) for item in items] == [0, 2, 4, 6, 8, 10]
    assert [round(item.end_s, 1) for item in items] == [2, 4, 6, 8, 10, 12]
    assert clock.now_s > 10 + 0.1 * len(data) / 777
    for place, item in enumerate(items):
        assert read(path, Clock(), item.position) == items[place + 1 :]


@pytest.mark.parametrize(("before", "after"), [("mpegts", "mpegts"), ("flv", "flv"), ("mpegts", "flv")])
@pytest.mark.parametrize(("start_s", "gaps", "again_s"), [(0, [], 6), (9, [(6, 9)], 9)])
def test_one_that_is_cut_to_nothing_and_written_anew_is_read_from_its_beginning(
    before: str, after: str, start_s: float, gaps: list[tuple[float, float]], again_s: float, tmp_path: Path
) -> None:
    """In its middle for whoever reads it, or between two watches. Its clock says what was missed, or that it began anew."""
    path = tmp_path / "growing"
    path.write_bytes(made(tmp_path / "before", before, [100, 150] * 3)["made"])
    again = made(tmp_path / "after", after, [100, 150], start_s=start_s)["made"]

    def write(now_s: float) -> None:
        if now_s > 2:
            path.write_bytes(again)

    items = read(path, Clock(write))
    assert [round(item.start_s, 1) for item in items if isinstance(item, Piece)] == [0, 2, 4, again_s]
    assert [(round(item.start_s, 1), round(item.end_s, 1)) for item in items if isinstance(item, Gap)] == gaps
    assert read(path, Clock(), items[2].position) == items[3:]


def test_one_that_is_cut_to_nothing_and_left_so_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "growing"
    path.write_bytes(made(tmp_path / "before", "mpegts", [100] * 4)["made"])
    clock = Clock(lambda now_s: os.truncate(path, 0))
    assert [round(item.end_s, 1) for item in read(path, clock)] == [2, 4]
    assert clock.now_s == 10


def test_one_whose_end_is_trimmed_is_not_read_again(tmp_path: Path) -> None:
    """As some recorders leave it."""
    path = tmp_path / "growing"
    data = made(tmp_path / "before", "mpegts", [100, 150] * 2)["made"]
    path.write_bytes(data)
    items = read(path, Clock(lambda now_s: os.truncate(path, len(data) - 188)))
    assert [round(item.end_s, 1) for item in items] == [2, 4]
    assert read(path, Clock(), items[-1].position) == []


@pytest.mark.parametrize("stalled_at", range(1, 8))
def test_one_that_ends_while_its_reader_stalls_is_read_to_its_end(stalled_at: int, tmp_path: Path) -> None:
    """Before one of the looks at the clock."""
    path, clock, looks = tmp_path / "growing", Clock(), count()
    path.write_bytes(made(tmp_path / "before", "mpegts", [100, 150] * 2)["made"])

    def now() -> float:
        clock.now_s += 10 if next(looks) == stalled_at else 0
        return clock.now()

    reader = GrowingFile(path, cut_s=2, patience=Patience(10, now=now, sleep=clock.sleep))
    assert [round(item.end_s, 1) for item in reader.items(never) if item is not None] == [2, 4]


@pytest.mark.parametrize(
    ("head", "word"),
    [(b"\0\0\0\x20ftypisom", "MP4"), (b"\x1a\x45\xdf\xa3", "Matroska"), (b"RIFF", "no stream"), (b"<html>", "no stream")],
)
def test_what_cannot_be_read_while_it_grows_is_refused_with_a_word(head: bytes, word: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(head.ljust(1000, b"\0"))
    with pytest.raises(UnsupportedMedia, match=word):
        read(path, Clock())


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        read(tmp_path / "missing", Clock())
    with pytest.raises(SourceError):
        read(tmp_path, Clock())
    with pytest.raises(SourceError, match="Input/output error"):
        read(Path("/proc/self/mem"), Clock())  # opens as a regular file, and nothing is at its first bytes
    (tmp_path / "empty").touch()
    with pytest.raises(EmptyMedia):
        read(tmp_path / "empty", Clock())
