from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner, Result

from tests.worker.fake_scanner import build, wait_for
from worker.cli import app
from worker.output.folder import ReportFolder
from worker.report import Report

REPOSITORY = Path(__file__).parents[2]
FAKE = [sys.executable, str(REPOSITORY / "tests" / "worker" / "fake_scanner.py")]


def veriframe(*arguments: str | Path, stdin: bytes | None = None) -> Result:
    """Run the command in this process with the fake scanner behind the port."""
    return CliRunner().invoke(app, [str(a) for a in arguments], obj=build, input=stdin)


@pytest.fixture
def media(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder of files whose text tells the fake scanner what to find."""

    def make(**files: str) -> Path:
        folder = tmp_path / "media"
        folder.mkdir(exist_ok=True)
        for name, text in files.items():
            (folder / f"{name}.mp4").write_text(text)
        return folder

    return make


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts the command as a process of its own session; none outlives the test."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*arguments: str | Path) -> subprocess.Popen[bytes]:
        env = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "FAKE_LOG": str(tmp_path / "log")}
        process = subprocess.Popen(
            [*FAKE, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, start_new_session=True
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def lines(text: str | bytes) -> list[dict[str, Any]]:
    """Reports of JSONL output; every line must be one whole report."""
    return [Report.model_validate_json(line).model_dump(mode="json") for line in text.splitlines()]


def logged(tmp_path: Path, count: int, timeout_s: float = 60.0) -> list[str]:
    """The fake scanner's log once it has so many lines."""
    deadline = time.monotonic() + timeout_s
    while True:
        log = tmp_path / "log"
        found = log.read_text().splitlines() if log.exists() else []
        if len(found) >= count:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


# Exit codes and output


@pytest.mark.parametrize(
    ("files", "arguments", "code"),
    [
        ({"a": "real", "b": "fake"}, [], 0),
        ({"a": "real", "b": "fake"}, ["--fail-on", "fake"], 1),
        ({"a": "real", "b": "uncertain"}, ["--fail-on", "fake"], 0),
        ({"a": "real", "b": "uncertain"}, ["--fail-on", "fake", "--fail-on", "uncertain"], 1),
        ({"a": "real", "b": "broken"}, [], 3),
        ({"a": "fake", "b": "broken"}, ["--fail-on", "fake"], 3),
        ({"a": "fake", "b": "bug"}, [], 3),
        ({}, [], 2),
        ({"a": "real"}, ["--include", "*.webm"], 2),
        ({"a": "real"}, ["--fail-on", "fishy"], 2),
        ({"a": "real"}, ["--format", "xml"], 2),
        ({"a": "real"}, ["--fps", "0"], 2),
        ({"a": "real"}, ["--fps", "inf"], 2),
        ({"a": "real"}, ["--fps", "2", "--strategy", "uniform"], 2),
        ({"a": "real"}, ["--fps", "2"], 0),
        ({"a": "real"}, ["--strategy", "fps"], 2),
        ({"a": "real"}, ["--start", "1:00", "--end", "50"], 2),
        ({"a": "real"}, ["--start", "0:50", "--end", "1:00.5"], 0),
        ({"a": "real"}, ["--start", "later"], 2),
        ({"a": "real"}, ["--max-frames", "0"], 2),
        ({"a": "real"}, ["--workers", "0"], 2),
        ({"a": "real"}, ["--resume"], 2),
        ({"a": "real"}, ["--model", "nowhere.safetensors"], 2),
        ({"a": "real"}, ["--config", "nowhere.yaml"], 2),
        ({"a": "real"}, ["--out", "/dev/null/x"], 2),
        ({"a": "real"}, ["--unknown"], 2),
    ],
)
def test_exit_codes(media: Callable[..., Path], files: dict[str, str], arguments: list[str], code: int) -> None:
    result = veriframe("scan", media(**files), *arguments)
    assert result.exit_code == code, result.output
    if code == 2:
        assert result.stdout == ""
        assert result.stderr


def test_an_internal_error_has_a_code_of_its_own(media: Callable[..., Path]) -> None:
    def explode(_: object) -> Any:
        raise RuntimeError("out of luck")

    result = CliRunner().invoke(app, ["scan", str(media(a="real"))], obj=explode)
    assert result.exit_code == 4
    assert "internal error: RuntimeError: out of luck" in result.stderr


def test_a_classifier_that_fails_to_open_ends_the_run_and_what_came_before_is_told(media: Callable[..., Path]) -> None:
    result = veriframe("scan", media(a="real", b="unopened", c="real"), "--format", "jsonl")
    assert result.exit_code == 2
    assert "the classifier cannot be opened" in result.stderr
    assert [Path(json.loads(line)["source"]["path"]).name for line in result.stdout.splitlines()] == ["a.mp4"]


def test_no_arguments_are_usage() -> None:
    assert veriframe("scan").exit_code == 2
    assert veriframe("scam").exit_code == 2


def test_a_bad_item_never_stops_the_rest(media: Callable[..., Path]) -> None:
    folder = media(a="real", b="bug", c="broken", d="fake")
    result = veriframe("scan", folder, "missing.mp4", "/dev/null", "--format", "jsonl")
    found = {Path(r["source"]["path"]).name: r for r in lines(result.stdout)}
    assert result.exit_code == 3
    assert {name: r["verdict"] for name, r in found.items()} == {
        "a.mp4": "real",
        "b.mp4": None,
        "c.mp4": None,
        "d.mp4": "fake",
        "missing.mp4": None,
        "null": None,
    }
    told = {"code": "internal", "message": "RuntimeError: a bug in the scanner", "retryable": False, "sha256": None}
    assert found["b.mp4"]["error"] == told
    assert found["missing.mp4"]["error"]["code"] == "unsupported"
    assert found["missing.mp4"]["error"]["message"] == "no such file or folder"
    assert all(os.path.isabs(r["source"]["path"]) for r in found.values())


def test_json_is_one_array_also_of_nothing_but_failures(media: Callable[..., Path]) -> None:
    folder = media(a="real", b="broken")
    assert [r["status"] for r in json.loads(veriframe("scan", folder, "--format", "json").stdout)] == ["completed", "failed"]


def test_csv_is_safe_in_a_spreadsheet(media: Callable[..., Path]) -> None:
    rows = list(csv.DictReader(io.StringIO(veriframe("scan", media(a="fake", b="broken"), "--format", "csv").stdout)))
    assert [(row["verdict"], row["score"], row["tracks"], row["worst_ms"], row["seconds"]) for row in rows] == [
        ("fake", "0.9", "1", "5000", "1.500"),
        ("", "", "0", "", ""),
    ]
    assert rows[1]["error_message"] == "'=nothing\\x1b[31m in it"
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for row in rows for cell in row.values())


def test_the_table_shows_verdict_score_worst_moment_and_reason(media: Callable[..., Path]) -> None:
    result = veriframe("scan", media(a="fake", b="uncertain", c="broken"))
    table = {line.split()[0]: line.split() for line in result.stdout.splitlines() if ".mp4" in line}
    assert table["a.mp4"][1:6] == ["fake", "0.90", "1", "00:05", "1.5"]
    assert table["b.mp4"][1:3] == ["uncertain", "0.50"]
    assert "near threshold" in " ".join(table["b.mp4"])
    assert "corrupt:" in table["c.mp4"]
    assert "3 items: 1 fake, 1 uncertain, 1 failed" in result.stderr


def test_odd_names_reach_neither_the_terminal_nor_break_a_line(tmp_path: Path) -> None:
    odd = [b"new\nline", b"caf\xe9", b"\x1b]0;title\x07", "\u202egpj".encode(), b"[bold]x", b"=1+1", "\x9b31m".encode()]
    for name in odd:
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_text("real")
    for form in ("table", "csv", "jsonl", "json"):
        result = veriframe("scan", tmp_path, "--format", form, "--out", tmp_path.parent / "out")
        assert result.exit_code == 0, result.output
        assert all(char.isprintable() or char == "\n" for char in result.output), form
    assert "[bold]x" in veriframe("scan", tmp_path).stdout
    written = [json.loads(path.read_text()) for path in (tmp_path.parent / "out").glob("*/report.json")]
    assert len(written) == len(odd)
    assert str(tmp_path / "new\nline") in {report["source"]["path"] for report in written}


def test_quiet_leaves_standard_error_empty(media: Callable[..., Path]) -> None:
    assert veriframe("scan", media(a="real"), "-q").stderr == ""


def test_a_list_on_standard_input(media: Callable[..., Path]) -> None:
    folder = media(a="real", b="fake", c="real")
    result = veriframe("scan", "-", "--format", "jsonl", stdin=f"{folder / 'b.mp4'}\n{folder / 'c.mp4'}\n".encode())
    assert [r["verdict"] for r in lines(result.stdout)] == ["fake", "real"]


def test_reports_and_crops_are_written_where_they_are_found(media: Callable[..., Path], tmp_path: Path) -> None:
    folder = media(a="fake")
    out = folder / "out"
    for _ in range(2):  # the second time, the reports in the scanned folder are not scanned themselves
        result = veriframe("scan", folder, "--out", out, "--format", "jsonl")
        assert len(lines(result.stdout)) == 1
    (place,) = out.glob("*-*")
    assert place.name.startswith("a.mp4-")
    report = Report.model_validate_json((place / "report.json").read_bytes())
    crops = [evidence.crop for track in report.tracks for evidence in track.evidence]
    assert sorted(path.name for path in place.glob("*.jpg")) == sorted(str(crop) for crop in crops)
    assert (place / "t5000.jpg").read_bytes() == b"\xff\xd85000"


def test_pages_are_written_beside_reports_and_listed(media: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    folder = media(a="fake", b="broken")
    assert veriframe("scan", folder, "--out", out, "--quiet").exit_code == 3
    first, second = sorted(out.glob("*-*"))
    index = (out / "index.html").read_text("utf-8")
    for place, said in ((first, "Fake"), (second, "Failed")):
        assert f'href="{place.name}/page.html"' in index
        assert said in (place / "page.html").read_text("utf-8")
    for left in (first / "page.html", out / "index.html"):
        left.unlink()
    assert veriframe("scan", folder, "--out", out, "--quiet", "--resume").exit_code == 3
    assert (first / "page.html").is_file()
    assert (out / "index.html").read_text("utf-8") == index


def test_maps_need_a_folder(media: Callable[..., Path]) -> None:
    result = veriframe("scan", media(a="fake"), "--explain")
    assert result.exit_code == 2
    assert "--explain needs --out" in result.stderr


def test_reports_of_equal_names_do_not_meet(tmp_path: Path) -> None:
    for name in ("x/a b.mp4", "y/a b.mp4", "y/A B.mp4", "y/..mp4"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text("real")
    assert veriframe("scan", tmp_path / "in", "--out", tmp_path / "out").exit_code == 0
    assert len(list((tmp_path / "out").glob("*/report.json"))) == 4
    assert all(set(path.name) <= set("abcdefghijklmnopqrstuvwxyzAB0123456789._-") for path in (tmp_path / "out").iterdir())


# Other commands


def test_version_and_schema() -> None:
    assert veriframe("--version").stdout.startswith("veriframe ")
    assert json.loads(veriframe("schema").stdout)["title"] == "Report"


def test_help_has_examples_and_exit_codes() -> None:
    text = veriframe("scan", "--help").stdout
    for part in ("Examples", "--fail-on fake", "Exit codes", "wins over 1", "130", "--resume", "--max-frames"):
        assert part in text


def test_demo_shows_the_expected_answer_beside_the_verdict() -> None:
    result = veriframe("demo")
    assert result.exit_code == 0, result.output
    rows = {line.split()[0]: line for line in result.stdout.splitlines() if ".mp4" in line}
    assert rows.keys() >= {"untouched.mp4", "swapped.mp4"}
    assert rows["swapped.mp4"].index("fake") < rows["swapped.mp4"].index("real")  # expected fake; the fake scanner says real


def test_importing_the_command_is_light() -> None:
    script = (
        "import sys, worker.cli; heavy = {'torch', 'onnxruntime', 'av', 'cv2', 'numpy', 'pydantic'} & sys.modules.keys();"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=REPOSITORY, timeout=60)


# Processes and signals


def test_a_line_is_out_before_the_next_item_ends(
    media: Callable[..., Path], tmp_path: Path, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    process = start("scan", media(a="fake", b=f"wait {tmp_path / 'go'}"), "--format", "jsonl")
    assert process.stdout is not None
    first = process.stdout.readline()
    assert lines(first)[0]["verdict"] == "fake"
    (tmp_path / "go").touch()
    rest, _ = process.communicate(timeout=60)
    assert [r["verdict"] for r in lines(rest)] == ["real"]
    assert process.returncode == 0


@pytest.mark.parametrize(("workers", "number"), [(1, signal.SIGINT), (2, signal.SIGINT), (1, signal.SIGTERM), (2, signal.SIGHUP)])
def test_a_signal_stops_cleanly_with_partial_results(
    media: Callable[..., Path],
    tmp_path: Path,
    start: Callable[..., subprocess.Popen[bytes]],
    workers: int,
    number: signal.Signals,
) -> None:
    folder = media(a="fake", b="slow", c="slow", d="slow")
    process = start("scan", folder, "--format", "json", "--out", tmp_path / "out", "--workers", str(workers))
    logged(tmp_path, workers + 1)  # a is done, and each worker has a slow one (or, of two, a may just be ending)
    wait_for(next(iter_place(tmp_path / "out")) / "report.json")
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= workers - 1
    os.killpg(process.pid, number)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 128 + number, stderr
    assert [r["verdict"] for r in json.loads(stdout)] == ["fake"]
    assert b"3 not scanned" in stderr
    assert b"Traceback" not in stderr
    assert psutil.wait_procs(children, timeout=5)[1] == []
    assert logged(tmp_path, 0).count("closed") == workers
    assert len(list((tmp_path / "out").glob("*/report.json"))) == 1


def test_ctrl_c_while_processes_start_is_quiet(media: Callable[..., Path], start: Callable[..., subprocess.Popen[bytes]]) -> None:
    process = start("scan", media(a="slow", b="slow"), "--format", "json", "--workers", "2")
    deadline = time.monotonic() + 60
    while len(children := psutil.Process(process.pid).children(recursive=True)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    assert json.loads(stdout) == []
    assert b"Traceback" not in stderr
    assert psutil.wait_procs(children, timeout=5)[1] == []


def iter_place(out: Path, timeout_s: float = 60.0) -> Iterator[Path]:
    """Folders of items as soon as there is one."""
    deadline = time.monotonic() + timeout_s
    while not (out.exists() and any(out.glob("*-*"))):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield from out.glob("*-*")


def test_a_killed_process_costs_one_try_of_one_item(
    media: Callable[..., Path], tmp_path: Path, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    folder = media(a="kill", b=f"kill {tmp_path / 'once'}", c="real", d="fake")
    process = start("scan", folder, "--format", "jsonl", "--workers", "2")
    stdout, stderr = process.communicate(timeout=100)
    found = {Path(r["source"]["path"]).name: r for r in lines(stdout)}
    assert process.returncode == 3, stderr
    assert {name: r["verdict"] for name, r in found.items()} == {"a.mp4": None, "b.mp4": "real", "c.mp4": "real", "d.mp4": "fake"}
    assert found["a.mp4"]["error"]["code"] == "internal"
    assert "SIGKILL" in found["a.mp4"]["error"]["message"]
    scans = [line for line in logged(tmp_path, 6) if line != "closed"]
    assert sorted(scans) == ["a.mp4", "a.mp4", "b.mp4", "b.mp4", "c.mp4", "d.mp4"]


def test_a_process_that_only_closes_its_pipe_is_ended(
    media: Callable[..., Path], tmp_path: Path, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    process = start("scan", media(a=f"mute {tmp_path / 'once'}", b="real"), "--format", "jsonl", "--workers", "2")
    stdout, stderr = process.communicate(timeout=100)
    assert process.returncode == 0, stderr
    assert [r["verdict"] for r in lines(stdout)] == ["real", "real"]
    assert b"it closed its pipe" in stderr
    assert not psutil.pid_exists(int((tmp_path / "once").read_text()))


def test_a_model_that_slots_cannot_open_is_usage(
    media: Callable[..., Path], start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    process = start("scan", media(a="real", b="real"), "--workers", "2", "--model", "nowhere.safetensors")
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 2, stderr
    assert b"no such model" in stderr
    assert stdout == b""


def test_a_folder_that_takes_no_more_is_told_and_what_was_found_is_printed(media: Callable[..., Path], tmp_path: Path) -> None:
    folder, out = media(a="fake", b="real"), tmp_path / "out"
    place = ReportFolder(out).place(folder / "b.mp4")
    place.write_text("a file in the place of the report's folder")
    result = veriframe("scan", folder, "--out", out, "--format", "jsonl")
    assert result.exit_code == 4
    assert [report["verdict"] for report in lines(result.stdout_bytes)] == ["fake", "real"]
    assert result.stderr == f"veriframe: --out {out}: {place.name}: File exists; mend that and run again (scan: with --resume)\n"
    assert len(list(out.glob("*/report.json"))) == 1
