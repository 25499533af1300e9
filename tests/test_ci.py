"""``.ci/run``, with stand-ins for all that it starts: what fails is told by its exit code, and nothing of it runs on."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAKEFILE = "setup check test:\n\t@echo $@ >>ran\n\t@test $@ != '{fails}'\n"
COLLECTS = "#!/bin/sh\nexec sleep {seconds}\n"


def ci(folder: Path, fails: str, collects_s: float) -> tuple[int, list[str]]:
    """Its exit code and what it ran. That it ended includes whatever holds its output."""
    for name in (".ci/tools", "deploy/assets/install.sh", ".venv/bin/python"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(COLLECTS.format(seconds=collects_s if name.endswith("python") else 0))
        (folder / name).chmod(0o700)
    shutil.copy(ROOT / ".ci/run", folder / ".ci/run")
    (folder / "Makefile").write_text(MAKEFILE.format(fails=fails))
    done = subprocess.run([folder / ".ci/run"], capture_output=True, timeout=20, check=False)
    return done.returncode, (folder / "ran").read_text().split()


@pytest.mark.parametrize(
    ("fails", "ran"),
    [("", ["setup", "check", "test"]), ("setup", ["setup"]), ("test", ["setup", "check", "test"])],
)
def test_what_fails_is_its_exit_code(tmp_path: Path, fails: str, ran: list[str]) -> None:
    code, did = ci(tmp_path, fails, 0)
    assert (code != 0, did) == (bool(fails), ran)


def test_no_collecting_outlives_a_check_that_fails(tmp_path: Path) -> None:
    code, did = ci(tmp_path, "check", 30)
    assert (code != 0, did) == (True, ["setup", "check"])
