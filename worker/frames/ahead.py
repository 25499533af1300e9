"""The frames of one file, decoded while whoever will ask for them is still starting."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Self

from worker.frames import layout
from worker.frames.sandbox import SandboxedFrames
from worker.ports import OpenMedia
from worker.types import Frame, MediaInfo, SamplingRequest

MOST_BYTES = 64 << 20
"""Of frames that wait to be asked for: 30 of 720p. The child then decodes some more by itself."""
_Mark = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Begun:
    """A file that is open, and a pass over it that has given ``first``; ``rest`` gives what comes after."""

    media: OpenMedia
    first: deque[Frame]
    rest: Iterator[Frame]
    owned: ExitStack


class FramesAhead:
    """A FrameSource over ``frames``, which it owns: ``path`` is opened at once, and its frames for ``request`` are decoded.

    They are for whoever opens that path first, if it still leads to the same bytes; a pass for another request begins anew. What
    goes wrong before is told by opening it again. A context manager.
    """

    def __init__(self, frames: SandboxedFrames, path: Path, request: SamplingRequest) -> None:
        self._frames = frames
        self._path, self._request = path, request
        self._mark = _mark_of(path)
        self._asked = Event()
        self._begun: Future[_Begun | None] | None = Future()
        self._thread = Thread(target=self._work, args=(self._begun,), name="ahead", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Kill all children."""
        self._asked.set()
        self._frames.close()
        if (begun := self._taken()) is not None:
            begun.owned.close()
        self._frames.close()  # had the thread been about to open the file, it would have started another process

    @contextmanager
    def open(self, path: Path) -> Iterator[OpenMedia]:
        """As ``SandboxedFrames.open``."""
        begun = self._taken() if path == self._path else None
        if begun is None:
            with self._frames.open(path) as media:
                yield media
            return
        with begun.owned:
            if _mark_of(path) == self._mark:
                yield _MediaAhead(begun, self._request)
                return
        with self._frames.open(path) as media:
            yield media

    def _taken(self) -> _Begun | None:
        """What was begun, once."""
        begun, self._begun = self._begun, None
        self._asked.set()
        return None if begun is None else begun.result()

    def _work(self, begun: Future[_Begun | None]) -> None:
        with ExitStack() as stack:
            try:
                media = stack.enter_context(self._frames.open(self._path))
                rest = media.frames(self._request)
                first: deque[Frame] = deque()
                room_bytes = MOST_BYTES
                while not self._asked.is_set() and room_bytes > 0 and (frame := next(rest, None)) is not None:
                    first.append(frame)
                    room_bytes -= layout.bytes_of(frame.height, frame.width, media.info.layout)
            except Exception:  # noqa: BLE001 - whatever it is, opening the file in its turn meets it again, and tells
                begun.set_result(None)
                return
            begun.set_result(_Begun(media=media, first=first, rest=rest, owned=stack.pop_all()))


class _MediaAhead:
    """``OpenMedia`` that was begun before."""

    def __init__(self, begun: _Begun, request: SamplingRequest) -> None:
        self._media = begun.media
        self._request: SamplingRequest | None = request
        self._first, self._rest = begun.first, begun.rest

    @property
    def info(self) -> MediaInfo:
        return self._media.info

    def frames(self, request: SamplingRequest) -> Iterator[Frame]:
        begun, self._request = self._request, None
        if request != begun:
            self._first.clear()
            return self._media.frames(request)
        return chain(self._waiting(), self._rest)

    def _waiting(self) -> Iterator[Frame]:
        while self._first:
            yield self._first.popleft()


def _mark_of(path: Path) -> _Mark | None:
    """Tells a file and its state; None where there is none."""
    try:
        state = os.stat(path)
    except OSError:
        return None
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns
