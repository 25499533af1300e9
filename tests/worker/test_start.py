"""What the console script starts before it knows what it is asked to do."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import time

import psutil
import pytest

from worker import start
from worker.compose import build_scanner
from worker.demo import demo_files
from worker.frames.boot import Booted, boot
from worker.report import Report
from worker.settings import load_settings


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("scan clip.mp4", True),
        ("scan clip.mp4 --out out --resume", True),
        ("scan --help", False),
        ("scan -h", False),
        ("scan clip.mp4 --workers 4", False),
        ("scan clip.mp4 --workers=auto", False),
        ("doctor", False),
        ("--version", False),
        ("", False),
    ],
)
def test_only_a_scan_in_this_process_needs_decoders(line: str, expected: bool) -> None:
    assert start.scans_here(line.split()) is expected


def test_decoders_that_nobody_took_end_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Booted] = []

    def noted() -> Booted:
        made.append(boot())
        return made[-1]

    monkeypatch.setattr(start, "boot", noted)
    monkeypatch.setattr(sys, "argv", ["veriframe", "scan"])
    with pytest.raises(SystemExit) as ended:
        start.main()
    assert ended.value.code == 2, "nothing to scan was named"
    assert len(made) == 1
    assert made[0].process.poll() is not None


def test_garbage_is_collected_again_once_a_scan_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def run() -> None:
        seen.append(gc.isenabled())
        start.imported()
        seen.append(gc.isenabled())

    monkeypatch.setattr("worker.cli.main", run)
    monkeypatch.setattr(sys, "argv", ["veriframe", "scan", "clip.mp4"])
    try:
        start.main()
    finally:
        gc.unfreeze()
    assert seen == [False, True]


def test_garbage_is_collected_after_a_scan_that_never_began(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.cli.main", lambda: None)
    monkeypatch.setattr(sys, "argv", ["veriframe", "scan", "clip.mp4"])
    start.main()
    assert gc.isenabled()


@pytest.fixture(scope="module")
def plain() -> list[Report]:
    """Of two clips, scanned in this process."""
    with build_scanner(load_settings(flags={"sampling": {"max_frames": 6}, "model": {"backend": "onnxruntime"}})) as scanner:
        return [scanner.scan(file.path).report for file in demo_files()[:2]]


@pytest.mark.parametrize("module", ["worker.start", "worker.cli"])
def test_a_scan_says_the_same_however_it_was_started(module: str, plain: list[Report]) -> None:
    clip, other = (str(file.path) for file in demo_files()[:2])
    command = [
        sys.executable,
        "-m",
        module,
        "scan",
        clip,
        other,
        "--max-frames",
        "6",
        "--format",
        "jsonl",
        "--backend",
        "onnxruntime",
    ]
    done = subprocess.run([*command, "--fail-on", "real"], capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr.strip().startswith("2 items")
    reports = [Report.model_validate_json(line) for line in done.stdout.splitlines()]
    assert [report.source.path for report in reports] == [clip, other]
    assert [(one.verdict, one.score, one.frames) for one in reports] == [(one.verdict, one.score, one.frames) for one in plain]
    assert done.returncode == any(one.verdict == "real" for one in plain)


def test_output_that_nobody_reads_ends_it_as_documented() -> None:
    command = [sys.executable, "-m", "worker.start", "scan", str(demo_files()[0].path), "--max-frames", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(60) == 141


@pytest.mark.parametrize("after_s", [0, 0.1, 0.2])
def test_ctrl_c_while_all_is_still_imported_ends_it(after_s: float) -> None:
    """So much later than the decoders' process is there: before that, Python itself is still starting."""
    command = [sys.executable, "-m", "worker.start", "scan", str(demo_files()[0].path), "--format", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        started = psutil.Process(process.pid)
        while not (children := started.children()):
            assert process.poll() is None
            time.sleep(0.005)
        time.sleep(after_s)
        children = started.children(recursive=True) or children
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=60)
        assert process.returncode in (-signal.SIGINT, 130), "130 where the scan itself listens already"
        assert printed == b""
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []


@pytest.mark.parametrize("line", ["scan clip.mp4", "scan clip.mp4 --workers 2", "calibrate FOLDER --out own.yaml", "doctor"])
def test_no_library_hears_of_ctrl_c_while_it_is_imported(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    """It may swallow Python's exception, or fail for it: the command then goes on, or says that the library is broken."""
    heard: list[object] = []
    monkeypatch.setattr("worker.cli.main", lambda: heard.append(signal.getsignal(signal.SIGINT)))
    monkeypatch.setattr(sys, "argv", ["veriframe", *line.split()])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # other tests, or a shell, may have left another
    try:
        start.main()
        assert heard == [signal.SIG_DFL]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_what_was_started_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = boot(), boot()
    monkeypatch.setattr(start, "_booted", [first])
    monkeypatch.setattr(start, "boot", lambda: second)
    try:
        assert [start.decoders(), start.decoders()] == [first, second]
    finally:
        first.kill()
        second.kill()


def test_a_bug_outside_of_every_command_is_no_verdict(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def bug() -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(start, "main", bug)
    with pytest.raises(SystemExit) as ended:
        start.console()
    assert ended.value.code == 4
    assert "ValueError: a bug" in capfd.readouterr().err


def test_nothing_heavy_comes_before_the_decoders() -> None:
    script = "import sys, worker.start; assert not {'typer', 'numpy', 'pydantic', 'rich', 'worker.cli'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
