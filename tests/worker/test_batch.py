from __future__ import annotations

import io
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from tests.worker.fake_scanner import FakeResult, build, scanned
from worker.batch import Batch
from worker.errors import EmptyMedia
from worker.jobs import failed
from worker.output.folder import ReportFolder, Stored
from worker.progress import Bar
from worker.report import Report
from worker.settings import Settings
from worker.source.files import Item


class FailingSink:
    """Raises at the first report; counts how often it is closed."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.closed = 0

    def write(self, report: Report) -> None:
        raise self.error

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("error", [OSError("disk full"), ValueError("a bug")])
def test_the_output_is_closed_after_any_error(tmp_path: Path, error: Exception) -> None:
    path = tmp_path / "a.mp4"
    path.write_text("real")
    sink = FailingSink(error)
    bar = Bar(Console(file=io.StringIO()), total=1, live=False)
    batch = Batch(build=build, settings=Settings(), workers=1, resume=False, folder=None, sink=sink, bar=bar)
    with pytest.raises(type(error)):
        batch.run([Item(path=path)])
    assert sink.closed == 1


class Cleared(ReportFolder):
    """Of which another run clears whatever has just been read."""

    def load(self, path: Path) -> Stored | None:
        found = super().load(path)
        shutil.rmtree(self.place(path), ignore_errors=True)
        return found


def test_another_run_may_clear_what_is_being_resumed(tmp_path: Path) -> None:
    path, sink = tmp_path / "a.mp4", Keeping()
    path.write_text("fake")
    bar = Bar(Console(file=io.StringIO()), total=1, live=False)
    for _ in range(2):
        folder = Cleared(tmp_path / "out")
        batch = Batch(build=build, settings=Settings(), workers=1, resume=True, folder=folder, sink=sink, bar=bar)
        tally = batch.run([Item(path=path)])
    assert tally.unchanged == 1
    assert sink.names == ["a.mp4", "a.mp4"]


class Vanishing(dict[str, bytes]):
    """Pictures of a run beside which another one deletes those that neither wants."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __contains__(self, name: object) -> bool:
        (self.place / str(name)).unlink()
        return super().__contains__(name)


def test_another_run_may_delete_pictures_first(tmp_path: Path) -> None:
    path, folder = tmp_path / "a.mp4", ReportFolder(tmp_path / "out")
    report = failed(path, EmptyMedia("no bytes"))
    folder.save(path, report, {"a.jpg": b"x", "b.jpg": b"x"}, None, "")
    folder.save(path, report, Vanishing(folder.place(path)), None, "")
    assert [left.name for left in folder.place(path).iterdir()] == ["report.json"]


def together(folder: Path, *, threads: int, patience_s: float, url: str | None = None) -> int:
    """How many items of four one process has under way, where each waits so long for another."""
    for name in "abcd":
        (folder / name).write_text("real")
    settings = Settings.model_validate({"model": {"threads": threads}})
    bar = Bar(Console(file=io.StringIO()), total=4, live=False)
    batch = Batch(build=Together, settings=settings, workers=1, resume=False, folder=None, sink=Counting(), bar=bar)
    Together.most, Together.patience_s = 0, patience_s
    batch.run([Item(path=folder / name, url=url) for name in "abcd"])
    return Together.most


def test_three_files_are_under_way_in_one_process_of_two_threads(tmp_path: Path) -> None:
    assert together(tmp_path, threads=2, patience_s=30) == 3


def test_one_thread_and_addresses_mean_one_at_a_time(tmp_path: Path) -> None:
    assert together(tmp_path, threads=1, patience_s=0.1) == 1
    assert together(tmp_path, threads=2, patience_s=0.1, url="https://media.example/a.mp4") == 1


def test_a_run_that_is_cut_reports_what_was_finished_behind_the_item_under_way(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_text("real")
    sink = Keeping()
    settings = Settings.model_validate({"model": {"threads": 2}})
    bar = Bar(Console(file=io.StringIO()), total=3, live=False)
    batch = Batch(build=CutAtTheSecond, settings=settings, workers=1, resume=False, folder=None, sink=sink, bar=bar)
    tally = batch.run([Item(path=tmp_path / name) for name in "abc"])
    assert sink.names == ["a", "c"], "each once, and nothing of b, which was cut"
    assert tally.done == 2
    assert sink.closed == 1


class Keeping:
    """A sink that keeps the names of the files reported on, and counts how often it is closed."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.closed = 0

    def write(self, report: Report) -> None:
        self.names.append(Path(report.source.path or "").name)

    def close(self) -> None:
        self.closed += 1


class CutAtTheSecond:
    """A scanner whose scan of ``b`` is ended by Ctrl-C once ``c`` is all but done. Without a signal: that is for a whole process,
    and this one belongs to the other tests too."""

    fingerprint = "cut"
    max_bytes = 1

    def __init__(self, settings: Settings) -> None:
        self._third_done = threading.Event()

    def __enter__(self) -> CutAtTheSecond:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def scan(self, path: Path, *, content: object = None, on_progress: Callable[[object], None] | None = None) -> FakeResult:
        if path.name == "b":
            assert self._third_done.wait(30)
            raise KeyboardInterrupt
        if path.name == "c":
            self._third_done.set()
        return scanned(path, "real")


class Counting:
    """A sink that keeps nothing."""

    def write(self, report: Report) -> None: ...

    def close(self) -> None: ...


class Together:
    """A scanner whose scans wait a moment for company, and that remembers how many were there at once."""

    most, patience_s = 0, 0.0
    fingerprint = "together"
    max_bytes = 1

    def __init__(self, settings: Settings) -> None:
        self._now, self._changed = 0, threading.Condition()

    def __enter__(self) -> Together:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def scan(self, path: Path, *, content: object = None, on_progress: object = None) -> FakeResult:
        with self._changed:
            self._now += 1
            Together.most = max(Together.most, self._now)
            self._changed.notify_all()
            self._changed.wait_for(lambda: Together.most > 2, timeout=self.patience_s)
            self._now -= 1
        return scanned(path, "real")
