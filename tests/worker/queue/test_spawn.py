"""Whether a process has ended, and what its number may be used for until it is buried."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from worker.queue.spawn import has_ended


def test_a_process_that_has_ended_is_not_buried_by_looking() -> None:
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read(); sys.exit(3)"], stdin=subprocess.PIPE) as process:
        assert not has_ended(process)
        assert process.stdin is not None
        process.stdin.close()
        assert has_ended(process, 60)
        if sys.platform != "darwin":
            os.kill(process.pid, 0)
            assert process.returncode is None
        assert process.wait() == 3
        assert has_ended(process)
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
