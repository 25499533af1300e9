from __future__ import annotations

import subprocess
import sys
import time

import pytest

from optimize.bench.memory import PeakMemory, pss_bytes, tree_pss_bytes

MIB = 1024**2
GRANDCHILD = "held = bytes(range(256)) * (96 << 12); print('ready', flush=True); input()"
CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {GRANDCHILD!r}], check=True)"


def test_memory_of_a_process_that_is_gone_is_zero() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait(timeout=20)
    assert pss_bytes(process.pid) == 0
    assert tree_pss_bytes(process.pid) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="PSS is known on Linux only")
def test_peak_counts_what_a_grandchild_held_and_let_go() -> None:
    with subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        with PeakMemory(process.pid) as memory:
            time.sleep(0.6)
            process.stdin.write(b"\n")
            process.stdin.close()
            process.wait(timeout=20)
        assert 96 * MIB <= memory.peak_bytes < 256 * MIB
