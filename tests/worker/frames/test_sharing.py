"""Memory that served one file serves the next: as zeros, and only where nobody sees it any more."""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import json
import os
import platform
import signal
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.worker.frames import hostile
from worker.errors import DecodeCrash
from worker.frames import sharing
from worker.frames.forkserver import ChildEnd, Forked, ForkServer
from worker.frames.limits import Limits
from worker.frames.sandbox import SandboxedFrames
from worker.frames.sharing import KEPT, KEPT_BYTES, FilledMemory, SharedMemories, SharedMemory
from worker.types import SamplingRequest, Strategy, UInt8

SIZE_BYTES = 2 * KEPT_BYTES
ALL = SamplingRequest(strategy=Strategy.UNIFORM, max_frames=1000)


@pytest.fixture
def memories() -> Iterator[SharedMemories]:
    made = SharedMemories(SIZE_BYTES)
    yield made
    made.close()


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxedFrames]:
    with SandboxedFrames(Limits(), opener="hostile:open_misbehaving", import_path=[Path(__file__).parent]) as frames:
        yield frames


def fill(memory: SharedMemory, offset: int, size_bytes: int) -> None:
    """As a child does."""
    child = FilledMemory(memory.fd, SIZE_BYTES)
    child.prepare(offset, size_bytes)
    child.part(offset, size_bytes)[...] = 7


def held_bytes(memory: SharedMemory) -> int:
    return 512 * os.fstat(memory.fd).st_blocks


def whole(memory: SharedMemory) -> UInt8:
    return memory.part(0, SIZE_BYTES)


@pytest.mark.parametrize("given", [(), (0, 12_000), (12_000, 1000), (0, SIZE_BYTES)], ids=str)
def test_memory_is_used_again_as_zeros_wherever_it_was_written_to(memories: SharedMemories, given: tuple[int, ...]) -> None:
    first = memories.take()
    for offset in (0, 12_345, KEPT_BYTES - 5, KEPT_BYTES + 4096, SIZE_BYTES - 10):
        fill(first, offset, 10)
    if given:
        assert first.part(*given)[:1000].any()
    written_bytes = held_bytes(first)
    memories.give_back(first)
    again = memories.take()
    assert again is first
    assert 0 < held_bytes(again) <= written_bytes <= 1 << 20
    assert not whole(again).any()
    memories.give_back(again)


def test_what_is_kept_is_bounded(memories: SharedMemories) -> None:
    taken = [memories.take() for _ in range(KEPT + 1)]
    for memory in taken:
        fill(memory, 0, SIZE_BYTES)
        memories.give_back(memory)
    kept = [memories.take() for _ in range(KEPT)]
    assert {id(memory) for memory in kept} == {id(memory) for memory in taken[:KEPT]}
    assert [held_bytes(memory) for memory in kept] == [KEPT_BYTES] * KEPT
    other = memories.take()
    assert all(other is not memory for memory in taken[:KEPT])
    for memory in (*kept, other):
        memory.close()


def test_memory_that_an_array_looks_at_is_nobody_elses(memories: SharedMemories) -> None:
    memory = memories.take()
    fill(memory, 0, 100)
    gone: list[bool] = []
    view = memory.part(0, 100, lambda: gone.append(True))[10:20]
    memories.give_back(memory)
    other = memories.take()
    assert other is not memory
    assert not gone
    assert view.tolist() == [7] * 10
    del view
    assert gone
    other.close()


def test_parts_that_are_gone_do_not_hold_it(memories: SharedMemories) -> None:
    memory = memories.take()
    parts = [memory.part(0, 10), memory.part(5, 10)[:3]]
    assert memory.is_seen
    assert not any(part.flags.writeable for part in parts)
    del parts
    assert not memory.is_seen
    memories.give_back(memory)
    assert memories.take() is memory
    memory.close()


def test_what_is_remembered_of_parts_does_not_grow_with_their_number(memories: SharedMemories) -> None:
    memory = memories.take()
    memory.part(0, 1)
    tracemalloc.start()
    for _ in range(20_000):
        memory.part(0, 1)
    grown_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown_bytes < 80_000  # one pointer each would be twice that; other threads of the test run take some, too
    memory.close()


def test_a_memory_that_is_lost_leaves_no_descriptor_behind(memories: SharedMemories) -> None:
    memory = memories.take()
    fd, part = memory.fd, memory.part(0, 1)
    del memory
    os.fstat(fd)
    del part
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@pytest.mark.parametrize("refused", ["madvise", "lseek"])
def test_where_it_cannot_be_wiped_it_is_let_go(memories: SharedMemories, monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    def refuse(*arguments: object) -> int:
        raise OSError(22, "Invalid argument")

    class Map(sharing.mmap.mmap):
        madvise = refuse if refused == "madvise" else sharing.mmap.mmap.madvise

    monkeypatch.setattr(sharing.mmap, "mmap", Map)
    if refused == "lseek":
        monkeypatch.setattr(os, "lseek", refuse)
    memory = memories.take()
    fill(memory, 0, 10)  # which needs no advice either
    memories.give_back(memory)
    other = memories.take()
    assert other is not memory
    other.close()


def patterns(folder: Path, width: int, n_frames: int = 4) -> Path:
    path = folder / f"{width}.json"
    path.write_text(json.dumps({"width": width, "height": width, "n_frames": n_frames}))
    return path


def test_frames_are_read_only(sandbox: SandboxedFrames, tmp_path: Path) -> None:
    with sandbox.open(patterns(tmp_path, 64, n_frames=30)) as media:
        for number, frame in enumerate(media.frames(ALL)):
            time.sleep(0.005)  # the child decodes ahead meanwhile
            np.testing.assert_array_equal(frame.rgb_HWC, hostile.pattern(64, 64, number))
            assert not frame.rgb_HWC.flags.writeable


def inode_after(frames: SandboxedFrames, path: Path) -> int:
    """Of the memory that a file's frames lay in."""
    with frames.open(path) as media:
        assert len(list(media.frames(ALL))) == 4
    kept = frames._memories._kept
    return os.fstat(kept[-1].fd).st_ino if kept else -1


def test_the_next_file_gets_the_memory_of_the_last(sandbox: SandboxedFrames, tmp_path: Path) -> None:
    first = inode_after(sandbox, patterns(tmp_path, 300))
    (memory,) = sandbox._memories._kept
    assert held_bytes(memory) >= 4 * 3 * 300 * 300
    assert not memory.part(0, 3_000_000).any()
    assert inode_after(sandbox, patterns(tmp_path, 64)) == first


def test_memory_of_a_child_that_may_live_on_is_not_used_again(
    sandbox: SandboxedFrames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = patterns(tmp_path, 64)
    first = inode_after(sandbox, path)
    end = ForkServer.end

    def slow_to_die(server: ForkServer, child: Forked, *, grace_s: float) -> ChildEnd:
        return dataclasses.replace(end(server, child, grace_s=grace_s), gone=False)

    with monkeypatch.context() as patch:
        patch.setattr(ForkServer, "end", slow_to_die)
        assert inode_after(sandbox, path) == -1
    assert inode_after(sandbox, path) not in (first, -1)


def test_memory_of_a_child_whose_end_nobody_saw_is_not_used_again(sandbox: SandboxedFrames, tmp_path: Path) -> None:
    path = patterns(tmp_path, 64)
    first = inode_after(sandbox, path)
    with sandbox.open(path) as media:
        assert len(list(media.frames(ALL))) == 4
        assert sandbox.zygote_pid is not None
        os.kill(sandbox.zygote_pid, signal.SIGKILL)
    assert sandbox._memories._kept == []
    assert inode_after(sandbox, path) not in (first, -1)


def test_what_is_kept_goes_when_the_sandbox_is_closed(tmp_path: Path) -> None:
    with SandboxedFrames(Limits(), opener="hostile:open_misbehaving", import_path=[Path(__file__).parent]) as frames:
        inode_after(frames, patterns(tmp_path, 64))
        (memory,) = frames._memories._kept
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(memory.fd)
    with pytest.raises(ValueError, match="closed"):
        memory.part(0, 1)


@pytest.mark.parametrize("lacking", ["machine", "prctl"])
def test_memory_is_not_used_again_where_a_child_may_have_left_a_process_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    if lacking == "machine":
        monkeypatch.setattr(platform, "machine", lambda: "riscv64")  # no system-call filter of ours
    else:
        monkeypatch.setattr(ctypes, "get_errno", lambda: errno.EPERM)  # a container's runtime allows none
    with SandboxedFrames(Limits(), opener="hostile:open_misbehaving", import_path=[Path(__file__).parent]) as frames:
        assert inode_after(frames, patterns(tmp_path, 64)) == -1


def test_memory_of_a_child_that_crashed_is_used_again(sandbox: SandboxedFrames, tmp_path: Path) -> None:
    first = inode_after(sandbox, patterns(tmp_path, 64))
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps({"deed": "kill_itself"}))
    with pytest.raises(DecodeCrash), sandbox.open(bad) as media:
        list(media.frames(ALL))
    assert inode_after(sandbox, patterns(tmp_path, 64)) == first


def test_frames_that_are_kept_keep_their_memory_from_the_next_file(sandbox: SandboxedFrames, tmp_path: Path) -> None:
    with sandbox.open(patterns(tmp_path, 300)) as media:
        frames = list(media.frames(ALL))
    before = [frame.rgb_HWC.copy() for frame in frames]
    inode_after(sandbox, patterns(tmp_path, 200))
    for frame, copy_HWC in zip(frames, before, strict=True):
        np.testing.assert_array_equal(frame.rgb_HWC, copy_HWC)
