from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from tests.worker.fake_scanner import build
from worker.batch import Batch
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


@pytest.mark.parametrize(("error", "closed"), [(OSError("disk full"), 1), (ValueError("a bug"), 1), (BrokenPipeError(), 0)])
def test_the_output_is_closed_after_any_error_but_that_of_a_reader_gone(tmp_path: Path, error: Exception, closed: int) -> None:
    path = tmp_path / "a.mp4"
    path.write_text("real")
    sink = FailingSink(error)
    bar = Bar(Console(file=io.StringIO()), total=1, live=False)
    batch = Batch(build=build, settings=Settings(), workers=1, resume=False, folder=None, sink=sink, bar=bar)
    with pytest.raises(type(error)):
        batch.run([Item(path=path)])
    assert sink.closed == closed
