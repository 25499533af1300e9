from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.worker.fake_scanner import build
from worker.cli import app
from worker.errors import (
    CorruptMedia,
    EmptyMedia,
    MediaTooLarge,
    MediaTooLong,
    ModelError,
    StorageDown,
    UnsupportedMedia,
    VeriframeError,
)
from worker.jobs import failed
from worker.resume import State, content_of, is_lasting, is_unchanged


@pytest.fixture
def scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[list[str], list[str]]]:
    """Scans ``media`` with --resume; gives the verdicts (or codes) shown and the names of what was truly scanned, sorted."""
    log = tmp_path / "log"
    monkeypatch.setenv("FAKE_LOG", str(log))
    (tmp_path / "media").mkdir()

    def run(*arguments: str) -> tuple[list[str], list[str]]:
        log.write_text("")
        command = ["scan", str(tmp_path / "media"), "--format", "jsonl", "--out", str(tmp_path / "out"), "--resume", *arguments]
        result = CliRunner().invoke(app, command, obj=build)
        assert result.exit_code in (0, 3), result.output
        reports = [json.loads(line) for line in result.stdout.splitlines()]
        shown = [report["verdict"] or report["error"]["code"] for report in reports]
        return shown, sorted(line for line in log.read_text().splitlines() if line != "closed")

    return run


def write(tmp_path: Path, **files: str) -> None:
    for name, text in files.items():
        (tmp_path / "media" / name).write_text(text)


Scans = Callable[..., tuple[list[str], list[str]]]


def test_unchanged_items_are_shown_but_not_scanned_again(tmp_path: Path, scans: Scans) -> None:
    write(tmp_path, a="fake", b="real", c="broken")
    assert scans() == (["fake", "real", "corrupt"], ["a", "b", "c"])
    assert scans() == (["fake", "real", "corrupt"], [])
    write(tmp_path, d="fake")
    assert scans() == (["fake", "real", "corrupt", "fake"], ["d"])


def test_what_could_not_be_opened_once_it_was_hashed_is_scanned_again(tmp_path: Path, scans: Scans) -> None:
    """Its disk or share was away for a moment: the same bytes are there in the next run."""
    back = tmp_path / "back"
    write(tmp_path, a=f"gone {back}")
    assert scans() == (["unsupported"], ["a"])
    back.touch()
    assert scans() == (["real"], ["a"])
    assert scans() == (["real"], [])


def test_other_bytes_are_scanned_even_at_the_same_size_and_time(tmp_path: Path, scans: Scans) -> None:
    write(tmp_path, a="fake", b="real")
    scans()
    before = (tmp_path / "media" / "a").stat()
    write(tmp_path, a="real")
    os.utime(tmp_path / "media" / "a", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (tmp_path / "media" / "a").stat().st_mtime_ns == before.st_mtime_ns
    assert scans() == (["real", "real"], ["a"])


def test_the_same_bytes_at_another_time_are_not_scanned(tmp_path: Path, scans: Scans) -> None:
    write(tmp_path, a="fake")
    scans()
    os.utime(tmp_path / "media" / "a", (1, 1))
    assert scans() == (["fake"], [])


def test_other_options_or_another_model_are_scanned_anew(tmp_path: Path, scans: Scans) -> None:
    write(tmp_path, a="fake")
    scans()
    assert scans("--max-frames", "7") == (["fake"], ["a"])
    assert scans("--max-frames", "7") == (["fake"], [])
    assert scans() == (["fake"], ["a"])


def test_failures_that_may_pass_are_tried_again(tmp_path: Path, scans: Scans) -> None:
    write(tmp_path, a="bug")
    assert scans() == (["internal"], ["a"])
    assert scans() == (["internal"], ["a"])


@pytest.mark.parametrize(
    ("error", "lasts"),
    [
        (UnsupportedMedia("a"), True),
        (CorruptMedia("a"), True),
        (EmptyMedia("a"), True),
        (MediaTooLarge("a"), True),
        (MediaTooLong("a"), True),
        (StorageDown("a"), False),
        (ModelError("a"), False),
    ],
)
def test_only_what_the_same_bytes_give_again_is_not_tried_again(error: VeriframeError, lasts: bool) -> None:
    assert is_lasting(failed(Path("/clips/a.mp4"), error)) is lasts


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("state.json", b""),
        ("state.json", b"{}"),
        ("state.json", b"[" * 100_000),
        ("state.json", b"\xff\xfe"),
        ("state.json", None),
        ("report.json", b"{}"),
        ("report.json", None),
        ("t5000.jpg", None),
    ],
)
def test_what_is_damaged_is_scanned_anew(tmp_path: Path, scans: Scans, name: str, damage: bytes | None) -> None:
    write(tmp_path, a="fake")
    scans()
    (place,) = (tmp_path / "out").glob("a-*")
    (place / name).unlink()
    if damage is not None:
        (place / name).write_bytes(damage)
    assert scans() == (["fake"], ["a"])
    assert scans() == (["fake"], [])


def test_a_report_that_was_edited_is_scanned_anew(tmp_path: Path, scans: Scans) -> None:
    write(tmp_path, a="fake")
    scans()
    (place,) = (tmp_path / "out").glob("a-*")
    edited = (place / "report.json").read_text().replace('"fake"', '"real"')
    (place / "report.json").write_text(edited)
    assert scans() == (["fake"], ["a"])


def test_crops_of_an_earlier_report_do_not_stay(tmp_path: Path, scans: Scans) -> None:
    write(tmp_path, a="fake")
    scans()
    (place,) = (tmp_path / "out").glob("a-*")
    write(tmp_path, a="broken")
    scans()
    assert sorted(path.name for path in place.iterdir()) == ["page.html", "report.json", "state.json"]


def test_a_file_that_changes_while_it_is_scanned_leaves_no_state_that_fits(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("fake")
    content = content_of(path, 1000)
    assert content is not None
    state = State(sha256=content.sha256, size_bytes=content.size_bytes, fingerprint="f", report_sha256="0" * 64)
    assert is_unchanged(path, state, "f", 1000)
    assert not is_unchanged(path, state, "g", 1000)
    assert not is_unchanged(path, state, "f", 3)
    path.write_text("real")
    assert not is_unchanged(path, state, "f", 1000)
    path.unlink()
    assert not is_unchanged(path, state, "f", 1000)
    assert content_of(path, 1000) is None
