"""The seccomp profile of the containers: it leaves decoding all of its own locks, and stops what nothing of ours does."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.deploy import under_seccomp
from tests.deploy.dockerfile import ROOT
from worker.frames import seccomp
from worker.frames.lockdown import SandboxLevel, sandbox_level

PROFILE = ROOT / "deploy" / "seccomp" / "veriframe.json"
DENIED = {
    "mount": "libc.mount(b'none', b'/tmp', b'tmpfs', 0, None)",
    "a name space of mounts": "libc.unshare(0x00020000)",
    "a user name space with mounts": "libc.unshare(0x10020000)",
    "entering another's": "libc.setns(0, 0)",
    "AF_ALG": "libc.socket(38, 5, 0)",
    "AF_VSOCK": "libc.socket(40, 1, 0)",
    "raw packets": "libc.socket(17, 3, 0)",
    "ptrace": "libc.ptrace(0, 0, 0, 0)",
    "io_uring": "libc.syscall(425, 1, 0)",
    "keys": "libc.syscall(250, 0, -3, 0)",
    "bpf": "libc.syscall(321, 0, 0, 0)",
    "userfaultfd": "libc.syscall(323, 0)",
}
ALLOWED = {"an empty network": "libc.unshare(0x50000000)"}


@pytest.fixture(scope="module")
def profile() -> dict[str, Any]:
    return dict(json.loads(PROFILE.read_text()))


def names(profile: dict[str, Any]) -> list[str]:
    return [name for rule in profile["syscalls"] for name in rule["names"] if "args" not in rule]


def test_it_allows_every_call_that_the_decoding_child_is_left(profile: dict[str, Any]) -> None:
    assert seccomp._HARMLESS.keys() <= set(names(profile))
    assert {"prctl", "seccomp", "landlock_create_ruleset", "landlock_restrict_self", "memfd_create", "capset"} <= set(
        names(profile)
    )


def test_no_call_is_named_twice_and_none_that_takes_over_a_machine_is_named(profile: dict[str, Any]) -> None:
    listed = names(profile)
    assert len(listed) == len(set(listed))
    assert not set(listed) & (
        seccomp._DEADLY.keys() - {"execve", "execveat", "fork", "vfork", "bind", "listen", "connect", "socketpair"}
    )
    assert (profile["defaultAction"], profile["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", 1)


@pytest.fixture(scope="module")
def filtered() -> list[str]:
    """The beginning of a command line that runs a program under the profile."""
    try:
        ctypes.CDLL(under_seccomp.LIBRARY)
    except OSError:
        pytest.skip(f"{under_seccomp.LIBRARY}, which container runtimes load such profiles by, is not on this machine")
    return [sys.executable, str(Path(under_seccomp.__file__)), str(PROFILE)]


def user_name_spaces() -> bool:
    """Whether this machine has them for what is no administrator's."""
    code = f"import ctypes, sys; libc = ctypes.CDLL(None); sys.exit({ALLOWED['an empty network']} != 0)"
    return subprocess.run([sys.executable, "-I", "-c", code], timeout=60, check=False).returncode == 0


def run(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="system call numbers of x86-64")
def test_what_nothing_of_ours_does_fails(filtered: list[str]) -> None:
    calls = json.dumps(DENIED | ALLOWED)
    code = (
        "import ctypes, json\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        f"for name, call in json.loads({calls!r}).items():\n"
        "    ctypes.set_errno(0)\n    given = eval(call)\n"
        "    print(name, 'EPERM' if given == -1 and ctypes.get_errno() == 1 else given, sep='=')"
    )
    answers = dict(line.split("=") for line in run([*filtered, sys.executable, "-I", "-c", code]).splitlines())
    assert {name: answers[name] for name in DENIED} == dict.fromkeys(DENIED, "EPERM")
    if user_name_spaces():
        assert {name: answers[name] for name in ALLOWED} == dict.fromkeys(ALLOWED, "0")


def test_decoding_keeps_every_layer_that_the_machine_has(filtered: list[str]) -> None:
    code = "import json, sys; from dataclasses import asdict; sys.path.insert(0, '.')\n"
    code += "from worker.frames.lockdown import sandbox_level; print(json.dumps(asdict(sandbox_level())))"
    held = SandboxLevel(**json.loads(run([*filtered, sys.executable, "-I", "-c", code])))
    wanted = asdict(sandbox_level())
    wanted["netns"] = user_name_spaces()  # root may have one without, which the profile denies
    assert asdict(held) == wanted
