"""Runs a program under a container's seccomp profile, as a container runtime does it: by libseccomp.

python under_seccomp.py PROFILE PROGRAM ARGUMENT...
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from typing import Any

ACTIONS = {"SCMP_ACT_ALLOW": 0x7FFF0000, "SCMP_ACT_ERRNO": 0x00050000}
OPERATORS = {"SCMP_CMP_EQ": 4, "SCMP_CMP_MASKED_EQ": 7}
LIBRARY = "libseccomp.so.2"
PR_SET_NO_NEW_PRIVS = 38


class Test(ctypes.Structure):
    """``struct scmp_arg_cmp``."""

    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def load(profile: dict[str, Any]) -> None:
    """Filter this process and all that it will start."""
    library = ctypes.CDLL(LIBRARY)
    library.seccomp_init.restype = ctypes.c_void_p
    ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    context = ctypes.c_void_p(library.seccomp_init(action(profile["defaultAction"], profile["defaultErrnoRet"])))
    for rule in profile["syscalls"]:
        tests = [Test(arg["index"], OPERATORS[arg["op"]], arg["value"], arg.get("valueTwo", 0)) for arg in rule.get("args", [])]
        array = (Test * len(tests))(*tests)
        for name in rule["names"]:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number < 0:  # not known to this version, or not on this machine
                continue
            code = library.seccomp_rule_add_array(
                context, ctypes.c_uint32(action(rule["action"], rule.get("errnoRet", 1))), number, len(tests), array
            )
            if code != 0:
                raise OSError(-code, f"seccomp_rule_add_array: {name}")
    if code := library.seccomp_load(context):
        raise OSError(-code, "seccomp_load")


def action(name: str, error: int) -> int:
    return ACTIONS[name] | (error if name == "SCMP_ACT_ERRNO" else 0)


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as file:
        load(json.load(file))
    os.execv(sys.argv[2], sys.argv[2:])
