"""The decoding child's system-call filter (seccomp-BPF, Linux on x86_64 and aarch64).

An allow-list: what Python, FFmpeg's threads and NumPy need to turn bytes into pixels passes, everything else fails with EPERM,
and what only an attack asks for (a socket, a program, another process's memory) kills the process with SIGSYS. ``clone`` may make
threads only; ``clone3`` fails with ENOSYS, because its flags lie in memory where a filter cannot look, and glibc then falls back
to ``clone``. Signals may go to the process itself only; ``fcntl`` may not name an owner for SIGIO, a way around that.

Format: https://www.kernel.org/doc/html/latest/userspace-api/seccomp_filter.html
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# uapi/linux/audit.h: the machine's number with the 64-bit and little-endian marks.
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_X32_BIT = 0x40000000

_KILL = 0x80000000
_ALLOW = 0x7FFF0000
_LOAD_WORD, _AND, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_SET_MODE_FILTER, _ALL_THREADS = 1, 1
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_CLONE_THREAD = 0x00010000
_PR_SET_NAME, _PR_GET_NAME = 15, 16
_F_DUPFD, _F_GETFD, _F_SETFD, _F_GETFL, _F_DUPFD_CLOEXEC = 0, 1, 2, 3, 1030

_ABSENT = -1
# name: (x86_64, aarch64); most used first, for the filter is walked in this order.
_HARMLESS = {
    "futex": (202, 98),
    "read": (0, 63),
    "lseek": (8, 62),
    "write": (1, 64),
    "madvise": (28, 233),
    "mmap": (9, 222),
    "munmap": (11, 215),
    "mprotect": (10, 226),
    "mremap": (25, 216),
    "brk": (12, 214),
    "sched_yield": (24, 124),
    "clock_gettime": (228, 113),
    "readv": (19, 65),
    "writev": (20, 66),
    "pread64": (17, 67),
    "close": (3, 57),
    "dup": (32, 23),
    "fstat": (5, 80),
    "newfstatat": (262, 79),
    "statx": (332, 291),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    "membarrier": (324, 283),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "getppid": (110, 173),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "getrandom": (318, 278),
    "getcpu": (309, 168),
    "sched_getaffinity": (204, 123),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101),
    "gettimeofday": (96, 169),
    "time": (201, _ABSENT),
    "times": (100, 153),
    "getrusage": (98, 165),
    "sysinfo": (99, 179),
    "uname": (63, 160),
    "poll": (7, _ABSENT),
    "ppoll": (271, 73),
}
_DEADLY = {
    "execve": (59, 221),
    "execveat": (322, 281),
    "fork": (57, _ABSENT),
    "vfork": (58, _ABSENT),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "bind": (49, 200),
    "listen": (50, 201),
    "connect": (42, 203),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "open_by_handle_at": (304, 265),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
}
_CLONE, _CLONE3 = (56, 220), (435, 435)
_OPENAT, _KILL_CALL, _TGKILL = (257, 56), (62, 129), (234, 131)
_IOCTL = (16, 29)
_SIGIO_OWNER = (0x5452, 0x8901, 0x8902)  # FIOASYNC, FIOSETOWN, SIOCSPGRP: another way to have signals sent
_FCNTL, _PRCTL, _PRLIMIT64 = (72, 25), (157, 167), (302, 261)


@dataclass(frozen=True, slots=True)
class _Test:
    """Passes where ``arg & mask`` is one of ``values``; a half of the 64-bit argument, ``high`` or low."""

    arg: int
    values: tuple[int, ...]
    mask: int = 0xFFFFFFFF
    high: bool = False

    @property
    def offset(self) -> int:
        return 16 + 8 * self.arg + (4 if self.high else 0)  # struct seccomp_data, little-endian


@dataclass(frozen=True, slots=True)
class _Rule:
    """``action`` for a call whose arguments pass all tests, ``otherwise`` for the rest of its uses."""

    numbers: tuple[int, int]
    action: int
    tests: tuple[_Test, ...] = ()
    otherwise: int = 0


def _fail(number: int) -> int:
    return 0x00050000 | number


def is_supported() -> bool:
    """Whether the system has such a filter, and lets processes like this one install it. Nothing is installed."""
    if not _is_known():
        return False
    ctypes.set_errno(0)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_SECCOMP, _MODE_FILTER, None, 0, 0)
    return ctypes.get_errno() == errno.EFAULT  # it looked for the filter that was not given


def _is_known() -> bool:
    return sys.platform == "linux" and platform.machine() in _ARCHITECTURES and sys.maxsize >= 2**32


def install(*, may_ask_drivers: bool = False) -> bool:
    """Filter this thread and all it will start; False where the system has no such filter. Needs ``no_new_privs``.

    ``may_ask_drivers``: ``ioctl`` passes, for devices that are open already, and the filter is for all threads there are.
    """
    if not _is_known():
        return False
    machine = platform.machine()
    program = b"".join(_program(machine, os.getpid(), may_ask_drivers))
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: unsigned short len, then (aligned) a pointer.
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    filter_ = ctypes.c_char_p(header)
    if may_ask_drivers:
        return bool(libc.syscall(ctypes.c_long(_SECCOMP[machine]), _SET_MODE_FILTER, ctypes.c_ulong(_ALL_THREADS), filter_) == 0)
    return bool(libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, filter_, 0, 0) == 0)


def _rules(pid: int, may_ask_drivers: bool) -> Iterable[_Rule]:
    denied = _fail(errno.EPERM)
    if may_ask_drivers:
        yield _Rule(_IOCTL, denied, (_Test(1, _SIGIO_OWNER),), _ALLOW)
    yield from (_Rule(numbers, _ALLOW) for numbers in _HARMLESS.values())
    yield _Rule(_CLONE, _ALLOW, (_Test(0, (_CLONE_THREAD,), mask=_CLONE_THREAD),), _KILL)
    yield _Rule(_CLONE3, _fail(errno.ENOSYS))
    yield _Rule(_OPENAT, _fail(errno.EACCES))  # as for a file one may not read: libraries look for /sys, /proc and go on without
    for numbers in (_KILL_CALL, _TGKILL):
        yield _Rule(numbers, _ALLOW, (_Test(0, (pid,)),), denied)
    yield _Rule(_FCNTL, _ALLOW, (_Test(1, (_F_DUPFD, _F_GETFD, _F_SETFD, _F_GETFL, _F_DUPFD_CLOEXEC)),), denied)
    yield _Rule(_PRCTL, _ALLOW, (_Test(0, (_PR_SET_NAME, _PR_GET_NAME)),), denied)
    # Limits may be read (new limits NULL), of oneself only.
    yield _Rule(_PRLIMIT64, _ALLOW, (_Test(0, (0, pid)), _Test(2, (0,)), _Test(2, (0,), high=True)), denied)
    yield from (_Rule(numbers, _KILL) for numbers in _DEADLY.values())


def _program(machine: str, pid: int, may_ask_drivers: bool) -> Iterator[bytes]:
    column, audit_arch = _ARCHITECTURES[machine]
    yield _op(_LOAD_WORD, 4)  # seccomp_data.arch: a 32-bit call has other numbers
    yield _op(_JUMP_EQUAL, audit_arch, 1, 0)
    yield _op(_RETURN, _KILL)
    yield _op(_LOAD_WORD, 0)  # seccomp_data.nr
    if machine == "x86_64":
        yield _op(_JUMP_AT_LEAST, _X32_BIT, 0, 1)
        yield _op(_RETURN, _KILL)
    for rule in _rules(pid, may_ask_drivers):
        if rule.numbers[column] == _ABSENT:
            continue
        body = list(_body(rule))
        yield _op(_JUMP_EQUAL, rule.numbers[column], 0, len(body))
        yield from body
    yield _op(_RETURN, _fail(errno.EPERM))


def _body(rule: _Rule) -> Iterator[bytes]:
    for test in rule.tests:
        yield _op(_LOAD_WORD, test.offset)
        yield _op(_AND, test.mask)
        for left, value in reversed(list(enumerate(reversed(test.values), start=1))):
            yield _op(_JUMP_EQUAL, value, left, 0)
        yield _op(_RETURN, rule.otherwise)
    yield _op(_RETURN, rule.action)


def _op(code: int, k: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, k)
