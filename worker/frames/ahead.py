"""The frames of one file, decoded while whoever will ask for them is still starting."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Self

from worker.frames import layout
from worker.frames.sandbox import SandboxedFrames
from worker.ports import OpenMedia
from worker.types import Frame, MediaInfo, SamplingRequest

MOST_BYTES = 64 << 20
"""When frames that wait to be asked for take so much, no more are fetched: 33 of 720p 4:2:0, 8 of 4K RGB. The child then decodes
some more by itself."""
OTHERS = 2
"""When so many other files have been opened, nobody is going to ask for the first."""
PATIENCE_S = 2.0
"""So long whoever ends a run waits for the file to be let go; it may lie on a disk that does not answer."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Begun:
    """A file that is open, and a pass over it that has given ``first``; ``rest`` gives what comes after, or ``failed`` does."""

    media: OpenMedia
    first: deque[Frame]
    rest: Iterator[Frame]
    failed: Exception | None
    owned: ExitStack


class FramesAhead:
    """A FrameSource over ``frames``, which it owns. From ``begin`` on ``path`` is open, its frames for ``request`` are decoded.

    They are for whoever opens that path first, if the file there is still the same and was not written to, and so is what went
    wrong; a pass for another request begins anew. A context manager.
    """

    def __init__(self, frames: SandboxedFrames, path: Path, request: SamplingRequest) -> None:
        self._frames = frames
        self._path, self._request = path, request
        self._mark = _mark_of(path)
        self._asked = Event()
        self._lock = Lock()
        self._begun: Future[_Begun] | None = None
        self._others = 0

    def begin(self) -> None:
        """Returns at once."""
        self._begun = begun = Future[_Begun]()
        Thread(target=self._work, args=(begun,), name="ahead", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Kill all children."""
        self._asked.set()
        self._frames.close()
        self._drop(then=self._frames.close)  # had the thread been about to open the file, it started another process

    @contextmanager
    def open(self, path: Path) -> Iterator[OpenMedia]:
        """As ``SandboxedFrames.open``."""
        begun = self._taken(path)
        if begun is not None and self._mark is not None and _mark_of(path) == self._mark:
            ahead = begun.result()
            with ahead.owned:
                yield _MediaAhead(ahead, self._request)
            return
        if begun is not None:
            _let_go(begun)
        with self._frames.open(path) as media:
            yield media

    def _taken(self, path: Path) -> Future[_Begun] | None:
        """What was begun, for who opens that file, once."""
        with self._lock:
            if path == self._path:
                begun, self._begun = self._begun, None
                self._asked.set()
                return begun
            self._others += 1
        if self._others >= OTHERS:
            self._drop()
        return None

    def _drop(self, then: Callable[[], None] = lambda: None) -> None:
        with self._lock:
            begun, self._begun = self._begun, None
        if begun is not None:
            self._asked.set()
            _let_go(begun, then)

    def _work(self, begun: Future[_Begun]) -> None:
        with ExitStack() as stack:
            try:
                media = stack.enter_context(self._frames.open(self._path))
                rest = media.frames(self._request)
            except BaseException as exc:  # noqa: BLE001 - raised where the file is opened
                begun.set_exception(exc)
                return
            first, failed = self._fetch(rest, media.info)
            begun.set_result(_Begun(media=media, first=first, rest=rest, failed=failed, owned=stack.pop_all()))

    def _fetch(self, rest: Iterator[Frame], info: MediaInfo) -> tuple[deque[Frame], Exception | None]:
        """Frames until there are enough of them, or they are asked for; and what then went wrong."""
        first: deque[Frame] = deque()
        room_bytes = MOST_BYTES
        try:
            while not self._asked.is_set() and room_bytes > 0 and (frame := next(rest, None)) is not None:
                first.append(frame)
                room_bytes -= layout.bytes_of(frame.height, frame.width, info.layout)
        except Exception as exc:  # noqa: BLE001 - raised where the frames are asked for, behind those that came before it
            return first, exc
        return first, None


class _MediaAhead:
    """``OpenMedia`` that was begun before."""

    def __init__(self, begun: _Begun, request: SamplingRequest) -> None:
        self._begun = begun
        self._request: SamplingRequest | None = request

    @property
    def info(self) -> MediaInfo:
        return self._begun.media.info

    @property
    def lost_share(self) -> float:
        return self._begun.media.lost_share

    def frames(self, request: SamplingRequest) -> Iterator[Frame]:
        begun, self._request = self._request, None
        if request == begun:
            return self._given()
        self._begun.first.clear()
        return self._begun.media.frames(request)

    def _given(self) -> Iterator[Frame]:
        while self._begun.first:
            yield self._begun.first.popleft()
        if self._begun.failed is not None:
            raise self._begun.failed
        yield from self._begun.rest


def _let_go(begun: Future[_Begun], then: Callable[[], None] = lambda: None) -> None:
    """Close what was begun, and call ``then``: now, or when it can be."""

    def close(ended: Future[_Begun]) -> None:
        if ended.exception() is None:
            ended.result().owned.close()
        then()

    begun.add_done_callback(close)
    wait([begun], timeout=PATIENCE_S)


def _mark_of(path: Path) -> tuple[int, ...] | None:
    """Tells a file and its state; None where there is none."""
    try:
        state = os.lstat(path)
    except OSError:
        return None
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns
