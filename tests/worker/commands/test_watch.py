"""``veriframe watch`` over a growing file and over loopback streams, with a stand-in detector and classifier."""

from __future__ import annotations

import functools
import io
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from tests.worker.source.live.streams import Clock, LiveHls, made, segments
from tests.worker.source.loopback import reply, serve
from tests.worker.spy import Spy
from tests.worker.watch.stream import FAKE, REAL, OneFace, scanner
from worker.cli import app
from worker.commands.options import FailOn
from worker.commands.watch import WatchArguments, duration, run_watch
from worker.frames.limits import Limits
from worker.frames.sandbox import SandboxedFrames
from worker.pipeline import Scanner
from worker.report import Report
from worker.settings import Settings
from worker.source.files import Item
from worker.stdio import _Output
from worker.types import Label
from worker.watch.command import watch_item
from worker.watch.events import WatchEvent, WindowResult

REPOSITORY = Path(__file__).parents[3]
Command = Callable[..., Result]


@contextmanager
def build(settings: Settings) -> Iterator[Scanner]:
    with SandboxedFrames(Limits()) as frames, scanner(frames, OneFace) as opened:
        yield opened


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VERIFRAME_WATCH__FILE_ENDS_S", "0.3")
    monkeypatch.setenv("VERIFRAME_WATCH__GIVE_UP_S", "10")
    monkeypatch.setenv("VERIFRAME_SOURCE__TEMP_DIR", str(tmp_path))


@pytest.fixture(scope="module")
def opened() -> Iterator[Scanner]:
    with build(Settings()) as scanner:
        yield scanner


@pytest.fixture
def veriframe(opened: Scanner) -> Command:
    """The command over one warm scanner."""
    return lambda *arguments: CliRunner().invoke(
        app, [str(a) for a in ("watch", *arguments)], obj=lambda settings: nullcontext(opened)
    )


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    made(tmp_path / "made", "mpegts", [REAL] * 6 + [FAKE] * 14, name="recording.ts")
    return tmp_path / "made" / "recording.ts"


def test_a_table_of_windows_and_the_whole(veriframe: Command, recording: Path, tmp_path: Path) -> None:
    (tmp_path / "veriframe-scratch-left").mkdir()  # by a process that is gone
    result = veriframe(recording, "--window", "4s", "--fail-on", "fake")
    assert result.exit_code == 1, result.output
    head, *rows = result.stdout.splitlines()
    assert head.split() == ["until", "verdict", "score", "frames", "faces", "missed", "changes"]
    assert rows[0].split()[:6] == ["0:00:04", "real", "0.05", "8", "8", "-"]
    assert "track 0 seen" in rows[0]
    assert "whole fake" in result.stdout
    assert rows[-1].startswith("whole: fake (")
    assert list(tmp_path.glob("veriframe-scratch-*")) == []


def test_events_as_json_lines_and_a_report_in_a_folder(veriframe: Command, recording: Path, tmp_path: Path) -> None:
    result = veriframe(recording, "--window", "4s", "--hop", "4s", "--format", "jsonl", "--windows", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("}\n"), "the report's line has an end, too"
    *lines, last = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["number"] for line in lines if line["kind"] == "window"] == [0, 1, 2, 3, 4]
    assert [line["number"] for line in lines if line["kind"] != "window"] == list(range(len(lines) - 5))
    assert lines[-1]["kind"] == "stream_ended"
    report = Report.model_validate(last)
    assert (report.kind, report.status, report.source.path) == ("watch", "completed", str(recording))
    (stored,) = (tmp_path / "out").glob("*/report.json")
    assert Report.model_validate_json(stored.read_bytes()) == report
    crops = {evidence.crop for track in report.tracks for evidence in track.evidence}
    assert {path.name for path in stored.parent.glob("*.jpg")} == crops
    assert crops


def test_a_longest_duration(veriframe: Command, recording: Path) -> None:
    result = veriframe(recording, "--window", "4", "--max-duration", "10s", "--format", "jsonl")
    *_, ended, report = [json.loads(line) for line in result.stdout.splitlines()]
    assert ended["detail"]["ending"] == "max_duration"
    assert report["watch"]["ending"] == "max_duration"
    assert report["media"]["duration_s"] < 13


def test_hls_from_an_allowed_private_host(veriframe: Command, spy: Spy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = segments(tmp_path / "made", [FAKE] * 5)
    with serve(LiveHls(held, Clock(), listed=9, ready=9)) as server:
        spy.allow(server.at)
        monkeypatch.setenv("VERIFRAME_SOURCE__ALLOW_PRIVATE_HOSTS", f'["{server.at}"]')
        result = veriframe(server.url("/live.m3u8?token=SECRET"), "--window", "2s", "--format", "jsonl")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout.splitlines()[-1])
    assert report["verdict"] == "fake"
    assert report["source"]["kind"] == "url"


@pytest.mark.parametrize(
    ("target", "code"),
    [("rtmp://example.org/live", "unsupported"), ("http://127.0.0.1:1/live", "fetch_refused")],
)
def test_what_cannot_be_watched_has_a_report_with_a_code(veriframe: Command, target: str, code: str) -> None:
    result = veriframe(target, "--format", "jsonl")
    assert result.exit_code == 3, result.output
    report = Report.model_validate_json(result.stdout)
    assert report.error is not None
    assert (report.kind, report.status, report.error.code) == ("watch", "failed", code)
    assert report.source.url == target


def test_a_stream_that_is_gone(veriframe: Command, spy: Spy, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(reply(b"", 404)) as server:
        spy.allow(server.at)
        monkeypatch.setenv("VERIFRAME_SOURCE__ALLOW_PRIVATE_HOSTS", f'["{server.at}"]')
        result = veriframe(server.url("/live"))
    assert result.exit_code == 3
    assert "fetch_gone" in result.stdout


@pytest.mark.parametrize("arguments", [["missing.ts"], ["clip.ts", "--window", "4s", "--hop", "9s"], ["clip.ts", "--hop", "x"]])
def test_usage(veriframe: Command, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.ts").touch()
    assert veriframe(*arguments).exit_code == 2


class FullAfterTwo:
    """A disk that takes no more files once two windows were told."""

    def __init__(self) -> None:
        self.windows: list[WindowResult] = []
        self.events: list[WatchEvent] = []

    def window(self, window: WindowResult, events: Sequence[WatchEvent]) -> None:
        self.windows.append(window)
        self.events += events
        if len(self.windows) == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    def report(self, report: Report) -> None: ...


def test_a_disk_that_fills_up_ends_with_the_report_so_far(opened: Scanner, recording: Path) -> None:
    show, settings = FullAfterTwo(), Settings()
    settings = settings.model_copy(update={"watch": settings.watch.model_copy(update={"window_s": 4, "hop_s": 4})})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        report, crops, code = watch_item(settings, lambda settings: nullcontext(opened), Item(path=recording), show)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [window.is_last for window in show.windows] == [False, False, True]
    assert [event.kind for event in show.events].count("stream_ended") == 1
    assert show.events[-1].detail == {"ending": "lost", "code": "storage_full", "missed_ms": {}}
    assert report.watch is not None
    assert (report.status, report.watch.ending, code) == ("completed", "lost", 0)
    assert crops


class FullAfterALine(io.StringIO):
    """Standard output; the disk takes no more files once a line was written to it."""

    def write(self, text: str) -> int:
        if "\n" in self.getvalue():
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        return super().write(text)


def test_what_was_not_watched_to_its_end_is_told_by_the_exit_code(
    opened: Scanner, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdout, limits = FullAfterALine(), resource.getrlimit(resource.RLIMIT_FSIZE)
    monkeypatch.setattr(sys, "stdout", stdout)
    arguments = WatchArguments(target=str(recording), format="jsonl", windows=True, out=None, fail_on=[FailOn.REAL])
    flags = {"watch": {"window_s": 4, "hop_s": 4}}
    try:
        code = run_watch(arguments, None, flags, build=lambda settings: nullcontext(opened))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    report = Report.model_validate_json(stdout.getvalue().splitlines()[-1])
    assert report.watch is not None
    assert (report.verdict, report.watch.ending, code) == (Label.REAL, "lost", 3)


@pytest.mark.parametrize(("full", "code"), [(False, 141), (True, 4)], ids=["nobody reads", "full"])
def test_output_that_goes_nowhere_ends_with_the_report_so_far(
    full: bool, code: int, opened: Scanner, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In mid-stream: the file may still grow for a while."""
    monkeypatch.setenv("VERIFRAME_WATCH__FILE_ENDS_S", "600")
    ours, theirs = os.pipe()
    os.close(ours)
    if full:
        os.close(theirs)
        theirs = os.open("/dev/full", os.O_WRONLY)
    arguments = WatchArguments(target=str(recording), format="jsonl", windows=True, out=tmp_path / "out", fail_on=[])
    flags = {"watch": {"window_s": 4, "hop_s": 4}}
    with io.TextIOWrapper(io.BufferedWriter(_Output(theirs, "w"))) as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert run_watch(arguments, None, flags, build=lambda settings: nullcontext(opened)) == code
    (stored,) = (tmp_path / "out").glob("*/report.json")
    watch = Report.model_validate_json(stored.read_bytes()).watch
    assert watch is not None
    assert watch.ending == "stopped"
    assert (tmp_path / "out" / "index.html").exists()


def test_durations() -> None:
    assert [duration(text) for text in ("90", "10s", "1.5m", "1h30m", "1h2m3s")] == [90, 10, 90, 5400, 3723]
    for text in ("", "0s", "s", "-3", "1d", "1:30", "1 h", "5ms"):
        with pytest.raises(typer.BadParameter):
            duration(text)


def test_ctrl_c_ends_with_the_report_so_far(recording: Path, tmp_path: Path) -> None:
    """A file that is not finished for a while yet, in a process of its own; the signal comes after the first window."""
    code = "from tests.worker.commands.test_watch import build; from worker.cli import main; main(build)"
    arguments = ["watch", str(recording), "--window", "4s", "--format", "jsonl", "--windows", "--out", str(tmp_path / "out")]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(REPOSITORY), "VERIFRAME_WATCH__FILE_ENDS_S": "600"}
    run = functools.partial(subprocess.Popen[str], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    with run([sys.executable, "-c", code, *arguments]) as process:
        assert process.stdout is not None
        first: dict[str, Any] = json.loads(process.stdout.readline())
        assert first["kind"] == "window"
        process.send_signal(signal.SIGINT)
        *_, ended, report = [json.loads(line) for line in process.communicate(timeout=60)[0].splitlines()]
    assert process.returncode == 130
    assert ended["detail"]["ending"] == "stopped"
    assert report["watch"]["ending"] == "stopped"
    assert len(list((tmp_path / "out").glob("*/report.json"))) == 1
