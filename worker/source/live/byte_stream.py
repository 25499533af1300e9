"""MPEG-TS or FLV over one long HTTP answer, read on a thread so that the server is never kept waiting."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from typing import Final

from worker.errors import FetchError, FetchTimeout, MediaError
from worker.source.answers import NOTHING_YET, check_serving, coding_of, declared_size
from worker.source.client import Stopped
from worker.source.http import HttpSource
from worker.source.live.cuts import Cut, Cutter, StreamClock
from worker.source.live.patience import TICK_S, Patience
from worker.source.live.pieces import MAX_PIECE_BYTES, Gap, Piece
from worker.types import Json

_JOIN_S: Final = 5.0
"""A thread that is still connecting then is left to end by itself."""
_MOST_HELD: Final = 1000
"""Pieces; there are streams whose key frames all claim to be seconds apart, or none."""
_ENDLESS_S: Final = 10 * 365 * 86400.0
"""A session has an end that a stream has not: its limit of time is put off."""


class ByteStreamReader:
    """A ``LiveReader``. ``new_cutter``: for each connection; ``kind``: what the position calls it. ``max_behind_s``: of what came
    and was not taken, the oldest beyond this is left out. ``wall``: Unix time on the clock that whoever watches on goes by."""

    def __init__(
        self,
        http: HttpSource,
        url: str,
        *,
        kind: str,
        new_cutter: Callable[[], Cutter],
        patience: Patience,
        max_behind_s: float,
        wall: Callable[[], float],
        position: Json | None = None,
    ) -> None:
        self._http, self._url, self._kind, self._new_cutter = http, url, kind, new_cutter
        self._patience, self._wall = patience, wall
        self._clock = StreamClock(new_cutter().wrap_s, position)
        self._heard_at: float | None = None if position is None else float(position["at"])
        self._was_away = False
        self._held = _Held(max_behind_s)
        self._closing = threading.Event()

    def items(self, stop: Callable[[], bool]) -> Generator[Piece | Gap | None]:
        thread = threading.Thread(target=self._drain, name="live stream", daemon=True)
        thread.start()
        try:
            while not isinstance(item := self._held.take(TICK_S), _End):
                yield item
            if self._held.error is not None:
                raise self._held.error
        finally:
            self._closing.set()
            thread.join(_JOIN_S)

    def _drain(self) -> None:
        error: BaseException | None = None
        try:
            while not self._closing.is_set():
                try:
                    if self._connect():
                        break
                    raise FetchTimeout("the server broke off")
                except Stopped:
                    break
                except FetchError as exc:
                    for _ in self._patience.wait(self._patience.failed(exc)):
                        if self._closing.is_set():
                            break
        except BaseException as exc:  # noqa: BLE001 - raised where the items are taken
            error = exc
        self._held.end(error)

    def _connect(self) -> bool:
        """One connection from its begin to its end; whether that was the stream's own."""
        cutter = self._new_cutter()
        self._was_away = self._heard_at is not None
        stop = self._patience.stopping(self._closing.is_set)
        ends_at = time.monotonic() + _ENDLESS_S
        with self._http.session(stop, ends_at) as session, session.translated(), session.answer(self._url) as response:
            check_serving(response)
            if coding_of(response):
                raise FetchTimeout("the server compresses what was asked for as it is")
            is_told = declared_size(response) is not None or "chunked" in response.headers.get("transfer-encoding", "")
            is_replay = self._heard_at is not None and not is_told
            has_come = False
            try:
                for data in session.endless(response):
                    has_come = True
                    for cut in cutter.feed(data):
                        if is_replay and self._clock.jump_s(cut) < -1:
                            cutter.skip_to(0)
                            return True  # it has no end but a closed connection, and begins anew
                        is_replay = False
                        self._put(cut)
            except MediaError as exc:
                raise FetchTimeout(f"the stream cannot be read on: {exc}") from exc
            finally:
                if (cut_off := cutter.rest()) is not None and not (is_replay and self._clock.jump_s(cut_off) < -1):
                    self._put(cut_off)
        if not has_come:
            raise FetchTimeout(NOTHING_YET)
        return is_told

    def _put(self, cut: Cut) -> None:
        self._patience.came()
        now = self._wall()
        away_s = 0.0
        if self._was_away and self._heard_at is not None:
            away_s = max(0.0, now - self._heard_at - cut.span_s)
        self._heard_at, self._was_away = now, False
        placed = self._clock.place(cut, away_s)
        if placed.gap_s:
            before = {"kind": self._kind, "at": now, "clock_s": placed.start_s, "raw_s": cut.begin_s}
            start_s = placed.start_s - placed.gap_s
            self._held.put(Gap(start_s=start_s, duration_s=placed.gap_s, cause="outage", position=before))
        position = {"kind": self._kind, "at": now, **self._clock.state()}
        self._held.put(Piece(data=cut.data, start_s=placed.start_s, duration_s=placed.duration_s, position=position))


class _End:
    """There is no more."""


class _Held:
    """What came and was not taken yet, bounded by its length in seconds, in bytes and in pieces."""

    def __init__(self, max_behind_s: float) -> None:
        self._max_behind_s = max_behind_s
        self._items: deque[Piece | Gap] = deque()
        self._pieces = self._bytes = 0
        self._seconds = 0.0
        self._changed = threading.Condition()
        self._has_ended = False
        self.error: BaseException | None = None

    def put(self, item: Piece | Gap) -> None:
        with self._changed:
            self._items.append(item)
            self._count(item, 1)
            while self._pieces > 1 and self._is_too_much():
                self._leave_out()
            self._changed.notify()

    def end(self, error: BaseException | None) -> None:
        with self._changed:
            self.error, self._has_ended = error, True
            self._changed.notify()

    def take(self, timeout_s: float) -> Piece | Gap | _End | None:
        """The oldest; None where there is none for so long; ``_End`` after the last."""
        with self._changed:
            if not self._items and not self._has_ended:
                self._changed.wait(timeout_s)
            if not self._items:
                return _End() if self._has_ended else None
            item = self._items.popleft()
            self._count(item, -1)
            behind_s = max(self._seconds, 0.0)
        return dataclasses.replace(item, behind_s=behind_s) if isinstance(item, Piece) else item

    def _count(self, item: Piece | Gap, sign: int) -> None:
        if isinstance(item, Piece):
            self._pieces += sign
            self._bytes += sign * len(item.data)
            self._seconds += sign * item.duration_s

    def _is_too_much(self) -> bool:
        return self._seconds > self._max_behind_s or self._bytes > MAX_PIECE_BYTES or self._pieces > _MOST_HELD

    def _leave_out(self) -> None:
        """The oldest piece, which with all gaps before it becomes one gap."""
        begin_s = self._items[0].start_s
        while not isinstance(item := self._items.popleft(), Piece):
            pass
        self._count(item, -1)
        gap = Gap(start_s=begin_s, duration_s=item.end_s - begin_s, cause="behind", position=item.position)
        self._items.appendleft(gap)
