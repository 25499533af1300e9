"""The whole scanner, nothing faked: the bundled checkpoint, real files, the sandbox."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from worker.cli import app
from worker.compose import build_scanner
from worker.demo import DemoFile, demo_files
from worker.pipeline import Scanner
from worker.report import Report
from worker.run import Progress
from worker.settings import load_settings
from worker.types import Label, Reason

DEMO = {file.path.stem: file for file in demo_files()}
WITHOUT_TORCH = """
import sys
for name in ("torch", "timm", "torchvision", "facenet_pytorch", "onnx", "sklearn"):
    sys.modules[name] = None
from worker.cli import main
main()
"""


@pytest.fixture(scope="module")
def scanner() -> Iterator[Scanner]:
    with build_scanner(load_settings()) as opened:
        yield opened


@pytest.fixture(scope="module")
def report_of(scanner: Scanner) -> Callable[[str], Report]:
    """The report on a demo file, by name; each is scanned once."""
    return functools.cache(lambda name: scanner.scan(DEMO[name].path).report)


@pytest.mark.parametrize("file", DEMO.values(), ids=DEMO.keys())
def test_the_demo_gets_the_expected_answers(report_of: Callable[[str], Report], file: DemoFile) -> None:
    report = report_of(file.path.stem)
    assert report.status == "completed"
    assert report.verdict in (file.expected, Label.UNCERTAIN), "a call may be close, but not wrong"
    assert len([track for track in report.tracks if track.votes >= 3]) == file.people
    if file.people == 0:
        assert [reason.code for reason in report.reasons] == [Reason.NO_FACE]
    else:
        assert report.calibrated


def test_the_demos_swap_scores_higher_than_the_untouched_clip(report_of: Callable[[str], Report]) -> None:
    """Calls may be close and say ``uncertain``; a scanner that has no idea must not pass."""
    swapped, untouched = (report_of(name).score for name in ("swapped", "untouched"))
    assert swapped is not None
    assert untouched is not None
    assert swapped > untouched + 0.05


def test_a_scan_and_doctor_need_no_torch(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        WITHOUT_TORCH,
        "scan",
        str(DEMO["untouched"].path),
        "--format",
        "jsonl",
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    assert Report.model_validate_json(done.stdout).status == "completed"
    assert list(tmp_path.rglob("*.jpg"))


def test_both_backends_agree_and_repeat_themselves(scanner: Scanner) -> None:
    """On a few frames: one by one they are scored alike."""
    few = replace(scanner.request, max_frames=12)
    with build_scanner(load_settings(flags={"model": {"backend": "torch"}})) as reference:
        reports = [one.scan(DEMO["swapped"].path, request=few).report for one in (scanner, scanner, reference)]
    first, second, torch = ([face.score for frame in report.frames for face in frame.faces] for report in reports)
    assert first == second
    assert len(first) >= 12
    assert torch == pytest.approx(first, abs=1e-3)
    assert len({report.verdict for report in reports}) == 1
    assert reports[2].score == pytest.approx(reports[0].score, abs=1e-3)
    assert [report.model.backend for report in reports if report.model] == ["onnxruntime", "onnxruntime", "torch"]


def test_a_file_cut_off_in_transfer_says_so(scanner: Scanner, tmp_path: Path) -> None:
    """Its index stands in front, so it can be read up to there: that is not all of it, and all of that is looked at."""
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(DEMO["swapped"].path.read_bytes()[:45_000])
    report = scanner.scan(cut).report
    assert report.sampling is not None
    assert report.media is not None
    assert (report.sampling.stopped_early, report.sampling.stopped_by) == (True, "media")
    assert report.media.duration_s == pytest.approx(2.4)
    assert report.sampling.max_gap_s > 1.5, "the missing end is one"
    assert report.sampling.decoded == len(report.frames) > 10
    there = scanner.scan(cut, request=replace(scanner.request, end_s=0.3, exhaustive=True)).report
    assert there.sampling is not None
    assert there.sampling.stopped_by is None
    behind = scanner.scan(cut, request=replace(scanner.request, start_s=2.0)).report
    assert behind.error is not None
    assert (behind.error.code, "the file breaks off at 0." in behind.error.message) == ("empty", True)


def test_every_odd_file_gets_a_report(shared_data: Path) -> None:
    """At most 8 frames of each, both passes: what is odd about a file shows in those, and the long clips cost the most."""
    files = sorted(path for path in (shared_data / "odd_media").rglob("*") if path.is_file())
    with build_scanner(load_settings(flags={"sampling": {"max_frames": 8}})) as scanner:
        results = {path.name: scanner.scan(path).report for path in files}
    assert len(results) >= 80
    for report in results.values():
        assert report.status in ("completed", "failed")
        assert (report.error is None) == (report.status == "completed")
        assert report.error is None or report.error.code != "internal"
        assert Report.model_validate_json(report.model_dump_json()) == report
    several = results["examples__video.mp4"]
    assert max(len(frame.faces) for frame in several.frames) >= 3
    assert {results[name].error.code for name in ("zero_length.mp4",) if results[name].error} == {"empty"}


@pytest.mark.skipif(sys.platform != "linux", reason="finds the decoding child in /proc")
def test_a_decoder_killed_in_mid_file_costs_that_item_alone(scanner: Scanner) -> None:
    """SIGKILL from outside, as the kernel does it when memory runs out."""
    killed: list[int] = []

    def kill_child(progress: Progress) -> None:
        if not killed and progress.decoded < 24:
            for pid in _grandchildren():
                killed.append(pid)
                os.kill(pid, signal.SIGKILL)

    every_frame = replace(scanner.request, exhaustive=True)
    report = scanner.scan(DEMO["two_people"].path, on_progress=kill_child, request=every_frame).report
    assert killed
    assert report.status == "failed"
    assert report.error is not None
    assert (report.error.code, report.error.retryable) == ("decode_crash", True)
    assert scanner.scan(DEMO["two_people"].path).report.status == "completed"


def _grandchildren() -> list[int]:
    """Children of the sandbox's zygote, which is our own child."""
    tasks = Path(f"/proc/{os.getpid()}/task")
    children = [int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()]
    return [int(pid) for child in children for pid in Path(f"/proc/{child}/task/{child}/children").read_text().split()]


def test_without_a_checkpoint_the_scanner_says_so(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["scan", str(DEMO["untouched"].path), "--model", str(tmp_path / "none.safetensors")])
    assert done.exit_code == 2
    assert "none.safetensors" in done.stderr
    assert done.stdout == ""
