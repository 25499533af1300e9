"""The layers that ought to hold on this machine do hold."""

from __future__ import annotations

import platform
import sys

import pytest

from worker.frames import landlock
from worker.frames.lockdown import SandboxLevel, sandbox_level


def test_missing_layers_are_named() -> None:
    assert SandboxLevel(rlimits=True, no_new_privs=True, no_capabilities=True, seccomp=True).missing == ("landlock", "netns")


@pytest.mark.skipif(sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"), reason="Linux layers")
def test_layers_of_linux() -> None:
    level = sandbox_level()
    assert level.rlimits
    assert level.no_new_privs
    assert level.no_capabilities
    assert level.seccomp
    assert level.landlock == landlock.version()
