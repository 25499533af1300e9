"""What the console script starts before it knows what it is asked to do."""

from __future__ import annotations

import subprocess
import sys

import pytest

from worker import start
from worker.frames.boot import Booted, boot


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


def test_what_was_started_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = boot(), boot()
    monkeypatch.setattr(start, "_booted", [first])
    monkeypatch.setattr(start, "boot", lambda: second)
    try:
        assert [start.decoders(), start.decoders()] == [first, second]
    finally:
        first.kill()
        second.kill()


def test_nothing_heavy_comes_before_the_decoders() -> None:
    script = "import sys, worker.start; assert not {'typer', 'numpy', 'pydantic', 'rich', 'worker.cli'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
