"""The decoding child: locks itself down, opens the media it was handed, and puts the frames asked for into shared memory.

It owns three descriptors: the media file, the shared frames and a channel to the parent. It never sees a path.
"""

from __future__ import annotations

import errno
import gc
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from worker.errors import MediaTooLarge, MediaTooLong, OutOfMemory, VeriframeError
from worker.frames import nvdec, wire
from worker.frames.layout import bytes_of, write
from worker.frames.limits import Limits
from worker.frames.lockdown import lock_down, no_card
from worker.frames.sharing import FilledMemory
from worker.ports import OpenMedia
from worker.types import Frame, Json, Layout, MediaInfo

Opener = Callable[..., AbstractContextManager[OpenMedia]]
"""``opener(file, limits, decoder=..., threads=...)``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptors:
    media: int
    shared: int
    channel: int


def serve(descriptors: Descriptors, options: Json, opener: Opener, *, parent_pid: int) -> None:
    """Decode one file until the parent hangs up. ``options`` come from the parent (see ``sandbox.SandboxedFrames``)."""
    channel = _Channel(descriptors.channel)
    limits = Limits(**options["limits"])
    with open(descriptors.media, "rb") as file:
        shared = FilledMemory(descriptors.shared, options["shared_bytes"])
        os.close(descriptors.shared)  # the mapping holds a copy
        lock_down(
            memory_bytes=options["memory_bytes"],
            cpu_s=options["cpu_s"],
            parent_pid=parent_pid,
            take_card=_take_card if options["decoder"] == nvdec.NAME else no_card,
        )
        try:
            _answer(channel, shared, file, limits, opener, options)
        except wire.PeerGone:
            return
        except VeriframeError as exc:
            channel.send(wire.error_to(exc.code, str(exc)))
        except Exception as exc:  # noqa: BLE001 (the outermost boundary of the job)
            out_of_memory = isinstance(exc, MemoryError) or getattr(exc, "errno", None) == errno.ENOMEM
            code = OutOfMemory.code if out_of_memory else "internal"
            channel.send(wire.error_to(code, f"{type(exc).__name__}: {exc}"))


def _take_card() -> bool:
    """Whether a card decodes from here on; without one, software does."""
    try:
        nvdec.take_card()
    except Exception:  # noqa: BLE001 - a driver may fail in any way. The parent sees who decodes, ``veriframe doctor`` says why
        return False
    return True


def _answer(channel: _Channel, shared: FilledMemory, file: BinaryIO, limits: Limits, opener: Opener, options: Json) -> None:
    with opener(file, limits, decoder=options["decoder"], threads=options["threads"]) as media:
        channel.send({"info": wire.info_to(_within(media.info, limits))})
        while True:
            message = channel.receive()
            if "frames" in message:  # what else may come here are late notes about the pass before
                _pass(channel, shared, media, message)


def _within(info: MediaInfo, limits: Limits) -> MediaInfo:
    """``info`` as the parent accepts it: packets may go on past a header's length, an estimate of frames past all bounds."""
    if info.duration_s > limits.max_duration_s:
        raise MediaTooLong(f"{info.duration_s:.0f} s, limit {limits.max_duration_s:.0f} s")
    return replace(info, n_frames=min(info.n_frames, limits.max_packets))


def _pass(channel: _Channel, shared: FilledMemory, media: OpenMedia, message: Json) -> None:
    free: list[int] = message["slots"]
    slot_bytes: int = message["slot_bytes"]
    last_s = media.info.duration_s + wire.PTS_SLACK_S
    gc.collect()
    gc.freeze()  # what is open stays: each collection below would look through it again
    for frame in media.frames(wire.request_from(message["frames"])):
        gc.collect()  # decoded frames lie in cycles: left alone, some hundreds of megabytes of them pile up
        if not -wire.PTS_SLACK_S <= frame.pts_s <= last_s:
            continue  # by a clock that jumps; no moment of the announced length
        while not free:
            note = channel.receive()
            if "stop" in note:
                channel.send({"end": True})
                return
            free.append(note["slot"])
        slot = free.pop(0)
        _put(shared, slot * slot_bytes, slot_bytes, frame, media.info.layout)
        channel.send({"frame": wire.frame_to(frame, slot)})
    channel.send({"end": True, "lost_share": media.lost_share})


def _put(shared: FilledMemory, offset: int, slot_bytes: int, frame: Frame, layout: Layout) -> None:
    frame_bytes = bytes_of(frame.height, frame.width, layout)
    if frame_bytes > slot_bytes:
        raise MediaTooLarge(f"a frame of {frame.width}x{frame.height} in media announced as smaller")
    shared.prepare(offset, frame_bytes)
    write(shared.part(offset, frame_bytes), frame, layout)


class _Channel:
    """The child's end, by plain reads and writes: it needs no socket call, so the filter allows none."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def send(self, message: Json) -> None:
        data: Any = memoryview(wire.encode(message))
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except (BrokenPipeError, ConnectionResetError) as exc:
            raise wire.PeerGone from exc

    def receive(self) -> Json:
        return wire.read_message(lambda size: os.read(self._fd, size))
