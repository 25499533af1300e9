"""``.ci/run``, with stand-ins for all that it starts: what fails is told at the end, and nothing of it runs on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAKEFILE = "setup check test:\n\t@echo $@ >>ran\n\t@case $@ in {fails}) false; esac\n"


def stage(folder: Path, makefile: str, collects: str = "") -> Path:
    """Itself, among stand-ins."""
    for name in (".ci/tools", "deploy/assets/install.sh", ".venv/bin/python"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("#!/bin/sh\n" + (collects if name.endswith("python") else ""))
        (folder / name).chmod(0o700)
    (folder / "Makefile").write_text(makefile)
    return Path(shutil.copy(ROOT / ".ci/run", folder / ".ci/run"))


def ci(folder: Path, fails: str) -> tuple[int, str, list[str]]:
    """Its exit code, its last line on standard error, and what it ran. That it ended includes whatever holds its output."""
    run = stage(folder, MAKEFILE.format(fails=fails or "none"))
    done = subprocess.run([run], capture_output=True, text=True, timeout=20, check=False)
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("during", ["check", "test"])
def test_a_signal_to_it_ends_all_that_it_started(tmp_path: Path, during: str, number: signal.Signals) -> None:
    slow = {"check": "exec sleep 60", "test": ""}[during]
    run = stage(tmp_path, f"setup check test:\n\t@case $@ in {during}) echo $@; sleep 60; esac\n", slow)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}  # of make test
    with subprocess.Popen([run], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env) as process:
        assert process.stdout is not None
        assert process.stdout.readline().decode() == f"{during}\n"
        process.send_signal(number)
        process.communicate(timeout=20)  # until nobody holds its output any more
    assert process.returncode == -number
