from __future__ import annotations

import subprocess
import sys

from optimize.bench.cpu import tree_cpu_s

WORK = "import sys, time\nwhile time.process_time() < 0.2: pass\nprint('done', flush=True)\nsys.stdin.read()"


def test_descendants_count_while_they_run_and_when_they_have_ended() -> None:
    before_s = tree_cpu_s()
    with subprocess.Popen([sys.executable, "-c", WORK], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        running_s = tree_cpu_s() - before_s
        process.communicate(timeout=60)
    ended_s = tree_cpu_s() - before_s
    assert running_s >= 0.19
    assert ended_s >= 0.19
