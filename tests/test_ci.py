"""``.ci/run``, with stand-ins for all that it starts: what fails keeps no results back, and is told at the end."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAKEFILE = "setup check test:\n\t@echo $@ >>ran\n\t@case $@ in {fails}) false; esac\n"


def ci(folder: Path, fails: str) -> tuple[int, str, list[str]]:
    """Its exit code, its last line on standard error, and what it ran. That it ended includes whatever holds its output."""
    for name in (".ci/tools", "deploy/assets/install.sh", ".venv/bin/python"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o700)
    shutil.copy(ROOT / ".ci/run", folder / ".ci/run")
    (folder / "Makefile").write_text(MAKEFILE.format(fails=fails or "none"))
    done = subprocess.run([folder / ".ci/run"], capture_output=True, text=True, timeout=20, check=False)
    return done.returncode, (done.stderr.splitlines() or [""])[-1], (folder / "ran").read_text().split()


@pytest.mark.parametrize(
    ("fails", "told", "ran"),
    [
        ("", "", ["setup", "check", "test"]),
        ("setup", "", ["setup"]),
        ("check", ".ci/run: failed: the static checks", ["setup", "check", "test"]),
        ("test", ".ci/run: failed: the tests", ["setup", "check", "test"]),
        ("check|test", ".ci/run: failed: the static checks and the tests", ["setup", "check", "test"]),
    ],
)
def test_what_fails_is_told_at_the_end_and_is_its_exit_code(tmp_path: Path, fails: str, told: str, ran: list[str]) -> None:
    code, last, did = ci(tmp_path, fails)
    assert (code != 0, did) == (bool(fails), ran)
    assert last.endswith(told)
