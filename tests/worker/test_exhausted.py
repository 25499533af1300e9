"""What a process has no more of is no fault of the file that it was needed for."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from tests.worker.exhaustion import little_memory, no_more_files, short_files
from tests.worker.grey_media import Clip, scanner
from worker.content import read_content
from worker.engine import Engine, EngineOpening
from worker.errors import ModelError
from worker.exhausted import exhausted
from worker.frames.limits import Limits
from worker.frames.sandbox import SandboxedFrames
from worker.frames.sharing import SharedMemory
from worker.model.checkpoint import load_spec
from worker.resume import content_of, is_lasting


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
        (OSError(errno.ENFILE, "Too many open files in system"), "fs.file-max"),
        (OSError(errno.EAGAIN, "Resource temporarily unavailable"), "pids.max"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "ulimit -v"),
        (OSError(errno.EFBIG, "File too large"), "ulimit -f"),
        (MemoryError(), "ulimit -v"),
        (ImportError("/lib/a.so: failed to map segment from shared object"), "ulimit -v"),
        (RuntimeError("can't start new thread"), "pids.max"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4000000 bytes"), "ulimit -v"),
    ],
)
def test_what_there_is_no_more_of_is_told_with_its_limits(error: Exception, what: str) -> None:
    assert what in (exhausted(error) or "")


@pytest.mark.parametrize(
    ("cause", "what"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "ulimit -v"),
        (MemoryError(), "ulimit -v"),
        (ImportError("/lib/a.so: failed to map segment from shared object"), "ulimit -v"),
        (RuntimeError("can't start new thread"), "pids.max"),
        (RuntimeError("Exception during initialization: std::bad_alloc"), "ulimit -v"),
        (RuntimeError("bfc_arena.cc:376 Failed to allocate memory for requested buffer of size 1048576"), "ulimit -v"),
    ],
)
def test_so_is_what_a_model_was_not_opened_for(cause: Exception, what: str) -> None:
    error = ModelError("cannot load the network a.onnx")
    error.__cause__ = cause
    assert what in (exhausted(error) or "")
    error.__cause__ = FileNotFoundError(errno.ENOENT, "gone")
    assert exhausted(error) is None


def test_without_a_descriptor_no_checkpoint_is_a_bad_one(tmp_path: Path) -> None:
    with no_more_files(), pytest.raises(ModelError) as failed:
        load_spec(tmp_path / "a.safetensors")
    assert "ulimit -n" in (exhausted(failed.value) or "")


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "gone"),
        OSError("odd"),
        RuntimeError("odd"),
        ImportError("odd"),
        ModelError("a.onnx is damaged"),
        BlockingIOError(errno.EAGAIN, "write could not complete without blocking", 0),
        BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable", "held.mp4"),
    ],
)
def test_other_errors_are_none_of_it(error: Exception) -> None:
    assert exhausted(error) is None


def test_without_a_descriptor_a_file_is_neither_missing_nor_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"a")
    with no_more_files(), pytest.raises(OSError, match="Too many open files"):
        read_content(path, 1000)
    with no_more_files(), pytest.raises(OSError, match="Too many open files"), SandboxedFrames(Limits()).open(path):
        raise AssertionError("not reached")
    with no_more_files():
        assert content_of(path, 1000) is None


def test_memory_for_frames_that_may_not_be_so_large_leaves_no_descriptor_behind() -> None:
    os.close(lowest := os.dup(0))
    with short_files(100), pytest.raises(OSError, match="File too large") as failed:
        SharedMemory(1 << 20)
    assert "ulimit -f" in (exhausted(failed.value) or "")
    del failed
    os.close(after := os.dup(0))
    assert after == lowest


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is not told how much a process has mapped")
def test_where_a_thread_might_not_begin_none_is_waited_for() -> None:
    def not_reached() -> Engine:
        raise AssertionError

    with little_memory(16 << 20), pytest.raises(OSError, match="Cannot allocate memory") as failed:
        EngineOpening(not_reached)
    assert "ulimit -v" in (exhausted(failed.value) or "")


def test_a_scan_without_a_descriptor_is_to_be_tried_again(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    scans = scanner(Clip())
    with no_more_files():
        report = scans.scan(file).report
    assert report.error is not None
    assert (report.error.code, report.error.retryable) == ("internal", True)
    assert report.error.message.startswith("this process may not have more open files (ulimit -n): ")
    assert [record.getMessage() for record in caplog.records] == [f"scan {report.id} failed: {report.error.message}"]
    assert "Traceback" not in caplog.text
    assert not is_lasting(report)
    assert scans.scan(file).report.status == "completed"
