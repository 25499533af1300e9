"""The short form of `make chaos`: every kind of fault and every stage once; the auditor, a process of its own, is green."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.chaos.faults import KINDS
from tests.chaos.plan import Plan
from tests.chaos.victims import STAGES

REPOSITORY = Path(__file__).parents[2]


def test_a_full_drill_has_every_pair_of_kind_and_stage() -> None:
    assert {(kind, stage) for kind in KINDS for stage in STAGES} == set(Plan().pairs())
    assert len(Plan(faults=40).pairs()) == 40


def test_a_queue_that_is_broken_on_purpose_loses_nothing(tmp_path: Path) -> None:
    pairs = Plan(short=True, faults=0).pairs()
    assert {kind for kind, _ in pairs} == set(KINDS)
    assert {stage for _, stage in pairs} == set(STAGES)
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "drive", "--short", "--scans", "30", "--faults", str(len(pairs)), "--workers", "1"],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lost = 0" in done.stdout
    assert "orphans = 0" in done.stdout
    assert done.stdout.rstrip().endswith("chaos: green")
