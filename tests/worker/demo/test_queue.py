"""``veriframe demo --queue`` as a user types it: the real service on this machine, the bundled model, the real clips."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from worker.demo import demo_files

REPOSITORY = Path(__file__).parents[3]


@pytest.mark.timeout(240)
def test_the_demo_goes_through_the_whole_service(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "COLUMNS": "160"}
    done = subprocess.run(
        [sys.executable, "-m", "worker.cli", "demo", "--queue"],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for file in demo_files():
        assert file.path.name in done.stdout
    assert f"{len(demo_files())} callbacks came with a good signature, 0 without" in done.stderr
    assert list(tmp_path.glob("veriframe-*")) == []
