"""Takes from a process everything that decoding does not need, before it sees a byte of the file.

Layers, from the one that holds everywhere to those that need a kernel that has them; each is applied where it can be, and
``SandboxLevel`` tells which hold:

- ``rlimits``: address space, CPU time, no file may grow (FSIZE 0), few open files, no core dump, outside Linux no more processes.
  On Linux RLIMIT_NPROC counts the threads of all the user's processes and does not bind root: it bounds the threads of other
  users, and that no processes are among them is the system-call filter's part;
- ``no_new_privs``, no capabilities, not traceable, dies with its parent;
- ``landlock``: no file, by name or otherwise newly opened;
- ``seccomp``: an allow-list of system calls;
- ``netns``: a network name space without an interface.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from worker.frames import landlock, seccomp

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAPABILITY_VERSION_3 = 0x20080522
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_OPEN_FILES = 32
MORE_THREADS = 4096
"""So many may come to the threads that the user has now: a bound on harm, which honest processes beside this one don't reach."""
_PROBE_TIMEOUT_S = 20.0
_PROBE = "import sys; sys.path.insert(0, sys.argv[1]); from worker.frames import lockdown; lockdown.print_level()"


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxLevel:
    """Which layers hold on this machine; ``landlock`` is the version of its interface, 0 for none."""

    rlimits: bool = False
    no_new_privs: bool = False
    no_capabilities: bool = False
    seccomp: bool = False
    landlock: int = 0
    netns: bool = False

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(name for name, holds in asdict(self).items() if not holds)


def no_card() -> bool:
    """Nothing is taken."""
    return False


def lock_down(*, memory_bytes: int, cpu_s: float, parent_pid: int, take_card: Callable[[], bool] = no_card) -> SandboxLevel:
    """Lock this process (of one thread) for good. ``memory_bytes`` comes on top of the address space already in use.

    ``take_card`` is called once rights are dropped and before the rest is: a card's libraries and devices can be opened only
    then. Where it says that a card is held, calls to its driver (``ioctl``) stay allowed, and the driver's own threads are under
    the system-call filter, but not under landlock. Exits if ``parent_pid`` is gone already, or if these cannot be filtered.
    """
    linux = sys.platform == "linux"
    if linux:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        _prctl(_PR_SET_DUMPABLE, 0)
    if os.getppid() != parent_pid:
        os._exit(1)
    if not linux:
        return SandboxLevel(rlimits=_limit(memory_bytes, cpu_s))
    no_capabilities = _drop_capabilities()
    no_new_privs = _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    holds_card = take_card()
    rlimits = _limit(memory_bytes, cpu_s, open_files=_OPEN_FILES + (_highest_open_file() if holds_card else 0))
    abi = landlock.restrict()
    filtered = seccomp.install(may_ask_drivers=holds_card)
    if holds_card and not filtered:
        os._exit(1)  # the driver's threads would run with nothing around them
    return SandboxLevel(
        rlimits=rlimits, no_new_privs=no_new_privs, no_capabilities=no_capabilities, seccomp=filtered, landlock=abi
    )


def leave_network() -> bool:
    """Move to a network name space without interfaces: by right, or inside a user name space where those are allowed."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return any(libc.unshare(flags) == 0 for flags in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET))


def sandbox_level() -> SandboxLevel:
    """Which layers hold here, found by locking down a process of its own (about 0.1 s)."""
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-I", "-c", _PROBE, root]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False
    )
    if done.returncode != 0:
        return SandboxLevel()
    return SandboxLevel(**json.loads(done.stdout))


def print_level() -> None:
    """Lock this process down and print the level as JSON."""
    netns = leave_network()
    level = lock_down(memory_bytes=1 << 28, cpu_s=_PROBE_TIMEOUT_S, parent_pid=os.getppid())
    os.write(sys.stdout.fileno(), json.dumps(asdict(level) | {"netns": netns}).encode())


def _limit(memory_bytes: int, cpu_s: float, open_files: int = _OPEN_FILES) -> bool:
    cpu = max(1, math.ceil(cpu_s))
    wanted = {
        resource.RLIMIT_CPU: (cpu, cpu + 1),  # SIGXCPU, and a second later SIGKILL for who ignores it
        resource.RLIMIT_FSIZE: (0, 0),
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_NOFILE: (open_files, open_files),
    }
    if sys.platform == "linux":
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        wanted[resource.RLIMIT_AS] = (used + memory_bytes, used + memory_bytes)
        if os.geteuid() != 0:
            most = _threads_of(os.geteuid()) + MORE_THREADS
            wanted[resource.RLIMIT_NPROC] = (most, most)
    else:
        wanted[resource.RLIMIT_NPROC] = (1, 1)
    for limit, (soft, hard) in wanted.items():
        ceiling = resource.getrlimit(limit)[1]
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        resource.setrlimit(limit, (soft, hard))
    return True


def _highest_open_file() -> int:
    return max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())


def _threads_of(uid: int) -> int:
    """Threads of those of the user's processes that can be seen from here."""
    count = 0
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):  # it ended meanwhile
                count += process.joinpath("task").stat().st_nlink - 2 if process.stat().st_uid == uid else 0
    return count


def _drop_capabilities() -> bool:
    number = _CAPSET.get(os.uname().machine)
    if number is None:
        return False
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.syscall(ctypes.c_long(number), header, nothing) == 0)


def _prctl(option: int, value: int) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    return bool(libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), zero, zero, zero) == 0)
