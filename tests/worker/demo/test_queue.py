"""``veriframe demo --queue`` as a user types it: the real service on this machine, the bundled model, the real clips."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
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


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_demo_that_is_ended_leaves_no_process_behind(number: signal.Signals, code: int, tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "worker.cli", "demo", "--queue"]
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stderr is not None
        assert any("waiting for verdicts" in line for line in demo.stderr)
        started = psutil.Process(demo.pid).children(recursive=True)
        assert len(started) >= 2, "a Redis and a worker"
        demo.send_signal(number)
        ended = demo.wait(60)
    _, left = psutil.wait_procs(started, timeout=30)
    for process in left:
        process.kill()
    assert (ended, left) == (code, [])
    assert number == signal.SIGKILL or list(tmp_path.glob("veriframe-*")) == []
