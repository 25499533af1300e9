"""``veriframe scan`` with addresses among what it is given: fetched, scanned and deleted."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.worker.fake_scanner import build
from tests.worker.source.loopback import Loopback, by_path, ranged, raw, reply, serve
from tests.worker.spy import Spy
from worker.cli import app
from worker.report import Report
from worker.scratch import PREFIX

REPOSITORY = Path(__file__).parents[2]
LONG = b"fake " + b"x" * 100_000
HTML = b"\n<!DOCTYPE html><html>"


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture
def server(spy: Spy, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    def looking(request: Any, served: Loopback) -> None:
        """Is the folder of this run locked and private while it runs?"""
        (folder,) = scratch.glob(f"{PREFIX}*")
        assert folder.stat().st_mode & 0o777 == 0o700
        reply(b"fake")(request, served)

    answers = {
        "fake": looking,
        "real": reply(b"real"),
        "broken": reply(b"broken"),
        "gone": reply(b"", 404),
        "page": reply(HTML, Content_Type="video/mp4"),
        "cut": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfake"),
        "long": ranged(LONG, breaks=[70_000, 1000]),
        "away": reply(b"", 302, Location="http://169.254.169.254/?token=SECRET"),
    }
    with serve(by_path(**answers)) as served:
        spy.allow(served.at)
        monkeypatch.setenv("VERIFRAME_SOURCE__ALLOW_PRIVATE_HOSTS", f'["{served.at}"]')
        monkeypatch.setenv("VERIFRAME_SOURCE__RETRIES", "0")
        monkeypatch.setenv("VERIFRAME_SOURCE__TEMP_DIR", str(scratch))
        yield served


def veriframe(*arguments: str | Path, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], obj=build, input=stdin)


def reports(result: Result) -> list[Report]:
    return [Report.model_validate_json(line) for line in result.stdout.splitlines()]


def test_addresses_files_and_folders_mix(server: Loopback, scratch: Path, tmp_path: Path) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    (folder / "b.mp4").write_text("uncertain")
    address = server.url("/fake?token=1#t=9")
    result = veriframe("scan", address, folder, server.url("/real"), address, "--format", "jsonl")
    assert result.exit_code == 0, result.output
    assert [(report.source.kind, report.source.url, report.verdict) for report in reports(result)] == [
        ("url", address, "fake"),
        ("path", None, "uncertain"),
        ("url", server.url("/real"), "real"),
    ]
    assert [path for path, _ in server.requests] == ["/fake?token=1", "/real"]
    timings = reports(result)[0].timings_ms
    assert timings is not None
    assert timings.fetch is not None
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "code"),
    [("gone", "fetch_gone"), ("page", "unsupported"), ("cut", "fetch_timeout"), ("away", "fetch_refused"), ("broken", "corrupt")],
)
def test_what_cannot_be_had_or_scanned_fails_with_its_code(path: str, code: str, server: Loopback, scratch: Path) -> None:
    result = veriframe("scan", server.url(f"/{path}?key=SECRET"), server.url("/fake"), "--format", "jsonl", "--fail-on", "fake")
    assert result.exit_code == 3
    failed, scanned = reports(result)
    assert failed.error is not None
    assert failed.error.code == code
    assert failed.source.url == server.url(f"/{path}?key=SECRET")
    assert "SECRET" not in failed.error.message + result.stderr
    assert scanned.verdict == "fake"
    assert list(scratch.iterdir()) == []


def test_a_line_that_is_cut_in_mid_fetch_costs_nothing(server: Loopback) -> None:
    result = veriframe("scan", server.url("/long"), "--format", "jsonl")
    assert result.exit_code == 0, result.output
    (report,) = reports(result)
    assert report.media is not None
    assert report.media.sha256 == hashlib.sha256(LONG).hexdigest()
    assert [headers.get("range") for _, headers in server.requests] == [None, "bytes=70000-", "bytes=71000-"]


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/a", "ftp://media.example/a", "rtmp://media.example/a", "file:///etc/passwd"])
def test_refused_addresses_fail_alone(url: str, server: Loopback, spy: Spy) -> None:
    result = veriframe("scan", url, "--format", "jsonl")
    assert result.exit_code == 3
    (report,) = reports(result)
    assert report.error is not None
    assert report.error.code == "fetch_refused"
    assert spy.connections == []


def test_reports_are_kept_at_the_same_place_in_every_run(server: Loopback, tmp_path: Path) -> None:
    out = tmp_path / "reports"
    for _ in range(2):
        arguments = ("scan", server.url("/fake?token=1"), server.url("/fake?token=2"), "--out", out, "--resume")
        assert veriframe(*arguments).exit_code == 0
    places = sorted(path.name for path in out.glob("*-*"))
    assert len(places) == 2
    assert all(place.startswith("fake-") for place in places)
    assert len(server.requests) == 4  # what is behind an address may have changed: it is fetched anew
    stored = {Report.model_validate_json((out / place / "report.json").read_bytes()).source.url for place in places}
    assert stored == {server.url("/fake?token=1"), server.url("/fake?token=2")}


def test_a_list_and_a_table_of_addresses(server: Loopback, tmp_path: Path) -> None:
    result = veriframe("scan", "-", stdin=f"{server.url('/fake')}\n{server.url('/real')}\n".encode())
    assert result.exit_code == 0
    assert server.url("/fake") in result.stdout


def test_several_processes_fetch_for_themselves(server: Loopback, scratch: Path) -> None:
    result = veriframe("scan", server.url("/real?a"), server.url("/real?b"), "--workers", "2", "--format", "jsonl")
    assert result.exit_code == 0, result.output
    assert [report.verdict for report in reports(result)] == ["real", "real"]
    assert list(scratch.iterdir()) == []


def test_a_later_run_clears_what_a_killed_one_left(server: Loopback, scratch: Path) -> None:
    left = scratch / f"{PREFIX}left"
    left.mkdir()
    (left / "download").write_bytes(b"bytes of a dead process")
    assert veriframe("scan", server.url("/real")).exit_code == 0
    assert not left.exists()


def test_a_scan_of_files_loads_nothing_for_addresses(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("real")
    script = (
        "import sys\nfrom typer.testing import CliRunner\nfrom tests.worker.fake_scanner import build\n"
        "from worker.cli import app\n"
        f"result = CliRunner().invoke(app, ['scan', {str(tmp_path)!r}], obj=build); assert result.exit_code == 0, result.output;"
        "heavy = {'defusedxml', 'httpcore', 'httpx', 'm3u8', 'redis', 'yt_dlp', 'worker.fetched'} & sys.modules.keys();"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=REPOSITORY, env={**os.environ, "HOME": str(tmp_path)})
