"""Metrics of several processes that are killed: nothing counted is lost, nothing dead is shown, and no file is left over."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from worker import __version__
from worker.telemetry.catalogue import OF_A_WORKER
from worker.telemetry.exposition import Exposition
from worker.telemetry.port import SILENT
from worker.telemetry.shared import FOLDER, KINDS, open_telemetry

COMMAND = [sys.executable, "-m", "tests.worker.telemetry.counting"]
ROOT = Path(__file__).parents[3]


class Counting:
    """A process that counts when it is told to."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, str(folder)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._heard() == "here"

    def do(self, *words: str) -> None:
        assert self.process.stdin is not None
        for word in words:
            self.process.stdin.write(word + "\n")
            self.process.stdin.flush()
            assert self._heard() == word

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def _heard(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@contextlib.contextmanager
def counting(folder: Path) -> Iterator[Counting]:
    made = Counting(folder)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait()
        for pipe in (made.process.stdin, made.process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def told(folder: Path) -> dict[str, float]:
    """Samples by name and label values."""
    families = text_string_to_metric_families(Exposition(folder, None)().decode())
    found: dict[str, float] = {}
    for sample in (sample for family in families for sample in family.samples):
        labels = "".join(f" {value}" for _, value in sorted(sample.labels.items()))
        found[sample.name.removeprefix("veriframe_") + labels] = sample.value
    return found


def test_what_killed_processes_counted_stays_and_their_model_goes(tmp_path: Path) -> None:
    with counting(tmp_path) as first, counting(tmp_path) as second:
        first.do("count", "count", "observe", "model")
        second.do("count", "observe", "model")
        both = told(tmp_path)
        assert both["scans_total none fake"] == 3
        assert both["decoder_restarts_total other"] == 6
        assert (both["batch_crops_count"], both["batch_crops_bucket 4.0"], both["batch_crops_bucket 8.0"]) == (2, 0, 2)
        assert both["model_info onnxruntime m ab 1"] == 1
        first.kill()
        assert told(tmp_path) == both, "the other one has the model still"
        second.kill()
        after = told(tmp_path)
    assert "model_info onnxruntime m ab 1" not in after
    assert after == {name: value for name, value in both.items() if not name.startswith("model_info")}


def test_a_process_goes_on_where_one_that_is_gone_has_stopped(tmp_path: Path) -> None:
    for _ in range(3):
        with counting(tmp_path) as one:
            one.do("count", "model")
            one.kill()
    assert told(tmp_path)["scans_total none fake"] == 3
    files = {path.name for path in tmp_path.iterdir()}
    assert files <= {"0.lock", *(f"{kind}_0.db" for kind in KINDS)}, "one place, though there were three processes"


def test_from_the_start_all_is_there_and_threads_lose_nothing(tmp_path: Path) -> None:
    with counting(tmp_path) as one, counting(tmp_path) as another:
        one.do("begin", "threads")
        another.do("count")
        found = told(tmp_path)
    assert found["scans_total none real"] == 2000
    assert found[f"build_info {__version__}"] == 1
    assert 0 <= time.time() - found["start_timestamp_seconds"] < 60
    for metric in OF_A_WORKER:
        name = metric.name.removeprefix("veriframe_") + ("_count" if metric.kind == "histogram" else "")
        for labels in metric.from_the_start():
            values = [value for _, value in sorted(zip(metric.label_names, labels, strict=True))]
            assert found["".join((name, *(f" {value}" for value in values)))] >= 0


def test_a_full_disk_is_told_at_once_and_kills_nobody_later(tmp_path: Path) -> None:
    """A file may have no more than 64 KiB here: as where there is no room."""

    def no_room() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))

    done = subprocess.run([*COMMAND, str(tmp_path)], cwd=ROOT, preexec_fn=no_room, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "OSError" in done.stderr.splitlines()[-1]


def test_a_process_without_room_does_its_work_uncounted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert open_telemetry(str(tmp_path / "gone")) is SILENT
    assert caplog.messages == ["what this process does is not counted: No such file or directory"]
    assert FOLDER not in os.environ, "this process may still have metrics of its own"


def test_nobody_listens_without_a_folder_and_no_library_is_loaded() -> None:
    code = (
        "import sys; from worker.telemetry.shared import open_telemetry; from worker.telemetry.catalogue import SCANS; "
        "open_telemetry(None).count(SCANS, 'fake', 'none'); print('prometheus_client' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert open_telemetry(None) is open_telemetry("")
