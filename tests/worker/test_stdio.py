"""Standard streams that are closed, full, without a reader or a terminal that is gone, and the exit code."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from tests.worker.fake_scanner import wait_for
from worker.output.folder import ReportFolder

REPOSITORY = Path(__file__).parents[2]
FAKE = str(REPOSITORY / "tests" / "worker" / "fake_scanner.py")
ENV = os.environ | {"PYTHONPATH": str(REPOSITORY)}


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """What the fake scanner calls real."""
    path = tmp_path / "clip.mp4"
    path.write_text("real")
    return path


def ended(redirection: str, *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    """The command as a shell runs it with streams redirected; ``no reader`` is a pipe that nobody reads."""
    ours, theirs = os.pipe()
    os.close(ours)
    shell = ["bash", "-c", f'exec "$@" {redirection.replace("no reader", f"&{theirs}")}', "bash"]
    command = [*shell, sys.executable, FAKE, *map(str, arguments)]
    try:
        return subprocess.run(command, capture_output=True, env=ENV, pass_fds=[theirs], timeout=60, check=False)
    finally:
        os.close(theirs)


@pytest.mark.parametrize("format", ["table", "json", "jsonl", "csv"])
def test_nobody_reading_ends_quietly(clip: Path, format: str) -> None:
    done = ended(">no reader", "scan", clip, "-q", "--format", format)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("arguments", [["--help"], ["scan", "--help"], ["schema"]])
def test_nobody_reading_ends_what_is_no_scan_as_well(arguments: list[str]) -> None:
    done = ended(">no reader", *arguments)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("redirection", ["2>no reader", "2>&-", "2>/dev/full"])
def test_messages_that_reach_nobody_change_nothing(clip: Path, redirection: str) -> None:
    done = ended(redirection, "scan", clip, "--format", "csv")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 2


def test_a_usage_error_that_nobody_reads_has_its_code(clip: Path) -> None:
    assert ended("2>no reader", "scan", clip, "--no-such-flag").returncode == 2


@pytest.mark.parametrize("format", ["table", "jsonl"])
def test_output_that_cannot_be_written_is_told(clip: Path, format: str) -> None:
    done = ended(">/dev/full", "scan", clip, "-q", "--format", format)
    assert (done.returncode, done.stderr) == (4, b"veriframe: standard output: No space left on device\n")


@pytest.mark.parametrize("redirection", ["<&-", "<&- >&- 2>&-"])
def test_closed_streams_are_the_null_device(clip: Path, redirection: str) -> None:
    assert ended(redirection, "scan", clip).returncode == 0


@pytest.fixture
def pipe() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """A pipe of one page whose writing end does not block: where it is read from, and where it is written to."""
    ours, theirs = os.pipe()
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(theirs, False)
    with open(ours, "rb", 0) as reader, open(theirs, "wb", 0) as writer:
        yield reader, writer


def test_messages_for_a_full_pipe_that_does_not_block_change_nothing(clip: Path, pipe: tuple[BinaryIO, BinaryIO]) -> None:
    while pipe[1].write(bytes(4096)):
        pass
    command = [sys.executable, FAKE, "scan", str(clip), "--format", "csv"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=pipe[1], env=ENV, timeout=60, check=False)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 2)


def test_output_that_does_not_block_is_waited_for(pipe: tuple[BinaryIO, BinaryIO]) -> None:
    reader, writer = pipe
    command = [sys.executable, FAKE, "schema"]
    whole = subprocess.run(command, stdout=subprocess.PIPE, env=ENV, timeout=60, check=True).stdout
    with subprocess.Popen(command, stdout=writer, stderr=subprocess.PIPE, env=ENV) as process:
        writer.close()
        assert reader.read() == whole
        assert process.communicate(timeout=60)[1] == b""
    assert process.returncode == 0


def test_a_terminal_that_is_gone_stops_a_scan_which_still_writes_its_folder(clip: Path, tmp_path: Path) -> None:
    """A signal says so, and what is printed fails."""
    slow = tmp_path / "slow.mp4"
    slow.write_text("slow")
    command = [sys.executable, FAKE, "scan", str(clip), str(slow), "--out", str(tmp_path / "out")]
    ours, theirs = os.openpty()
    with subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=ENV,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as process:
        os.close(theirs)
        wait_for(ReportFolder(tmp_path / "out").place(clip) / "report.json")
        os.close(ours)
        assert process.wait(60) == 129
    assert len(list((tmp_path / "out").glob("*/report.json"))) == 1
    assert (tmp_path / "out" / "index.html").exists()
