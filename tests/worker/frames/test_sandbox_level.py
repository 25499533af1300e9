"""The layers that ought to hold on this machine do hold."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from worker.frames import landlock, lockdown
from worker.frames.lockdown import SandboxLevel, sandbox_level


def test_missing_layers_are_named() -> None:
    assert SandboxLevel(rlimits=True, no_new_privs=True, no_capabilities=True, seccomp=True).missing == ("landlock", "netns")


COUNT_THREADS = """
import os, sys, threading
sys.path.insert(0, sys.argv[1])
from worker.frames import lockdown
if os.geteuid() == 0:
    os.setuid(65534)
lockdown.MORE_THREADS = 20
lockdown._limit(1 << 30, 20.0)
threading.stack_size(1 << 16)
end = threading.Event()
count = 0
try:
    while count < 100:
        threading.Thread(target=end.wait).start()
        count += 1
except RuntimeError:
    pass
end.set()
print(count)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="outside Linux there are no further threads")
def test_threads_of_another_user_than_root_are_bounded() -> None:
    root = str(Path(lockdown.__file__).parents[2])
    command = [sys.executable, "-I", "-c", COUNT_THREADS, root]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30.0, check=True)
    assert 0 < int(done.stdout) <= 30


@pytest.mark.skipif(sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"), reason="Linux layers")
def test_layers_of_linux() -> None:
    level = sandbox_level()
    assert level.rlimits
    assert level.no_new_privs
    assert level.no_capabilities
    assert level.seccomp
    assert level.landlock == landlock.version()
