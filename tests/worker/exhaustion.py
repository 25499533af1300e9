"""A process that has no more of something, for a moment."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

from worker.errors import ModelError


def no_room_for_the_network() -> ModelError:
    """As a backend tells it, of what ONNX Runtime says."""
    error = ModelError("cannot load the network a.onnx")
    error.__cause__ = RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Exception during initialization: std::bad_alloc")
    return error


@contextlib.contextmanager
def no_more_files() -> Iterator[None]:
    """Inside, this process can open none."""
    os.close(lowest := os.dup(0))
    with _limited(resource.RLIMIT_NOFILE, lowest):
        yield


@contextlib.contextmanager
def little_memory(room_bytes: int) -> Iterator[None]:
    """Inside, this process can map so much more."""
    used_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    with _limited(resource.RLIMIT_AS, used_bytes + room_bytes):
        yield


@contextlib.contextmanager
def short_files(size_bytes: int) -> Iterator[None]:
    """Inside, no file that this process writes can be longer: what a full disk takes of it."""
    with _limited(resource.RLIMIT_FSIZE, size_bytes):
        yield


@contextlib.contextmanager
def _limited(what: int, most: int) -> Iterator[None]:
    before = resource.getrlimit(what)
    resource.setrlimit(what, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)
