"""One stream watched: pieces in, windows with rolling verdicts and events out, from cursor to cursor."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal, Protocol

from worker import report as wire
from worker.content import full_told
from worker.errors import DecodeError, FetchError, MediaError, VeriframeError
from worker.look import Look
from worker.source.live.pieces import LONGEST_GAP_S, Gap, LiveReader, Piece
from worker.types import Json, Label, MediaInfo, SamplingRequest, Strategy
from worker.verdict.decide import Policy
from worker.watch.events import Ending, WatchEvent, WindowResult
from worker.watch.recent import MOST_AT_ONCE, Rhythm, result_of
from worker.watch.state import WatchState
from worker.watch.telling import events_of
from worker.watch.watched import crop_name, watch_report

log = logging.getLogger(__name__)

TRIES: Final = 5
"""So many first pieces that do not decode: it is no stream that we read."""

SLOWEST: Final = 2.0
SLACK_S: Final = 600.0
"""A watch takes no longer on our own clock than so many times ``max_duration_s``, and this: a stream whose own stands still, or
hardly moves, is not watched for ever."""

MOST_UNSAID_S: Final = 0.25
MOST_UNSAID: Final = 0.05
"""A piece that is longer than was said of it by more than so many seconds, or such a share of it, is as long as its media."""

SAME_S: Final = 1e-6
"""Moments that lie no further apart are one."""

Outcome = Literal["ended", "stopped"]
OnWindow = Callable[[WindowResult, Sequence[WatchEvent], Json], None]
OpenReader = Callable[[Json | None], LiveReader]
"""A reader from a position on; None: from the beginning, or where a live stream is now."""


class PieceScanner(Protocol):
    """What looks at one piece (``worker.pipeline.Scanner``)."""

    @property
    def policy(self) -> Policy: ...

    @property
    def model(self) -> wire.Model: ...

    def look_through(
        self, path: Path, ask: Callable[[MediaInfo], SamplingRequest | None]
    ) -> Generator[tuple[MediaInfo, Look]]: ...


class _Lasting:
    """Asks whether to stop until the answer is yes, which then holds."""

    def __init__(self, stop: Callable[[], bool]) -> None:
        self._stop = stop
        self.has_said = False

    def __call__(self) -> bool:
        self.has_said = self.has_said or self._stop()
        return self.has_said


class Watcher:
    """Watches one stream, once, on one thread; a context manager is not needed: ``run`` closes what it opens.

    ``folder``: private, for one piece at a time. ``max_duration_s`` is on the watch's clock. Behind the stream by more than half
    of ``max_behind_s``, every other moment is left out (by more than all of it the reader leaves out whole pieces).
    ``cursor``: as ``on_window`` was given it; raises UnreadableRecord for one of another version, DamagedRecord for one of none,
    ConfigError for one of another window, hop or rate.
    """

    def __init__(
        self,
        *,
        open_reader: OpenReader,
        scanner: PieceScanner,
        folder: Path,
        source: wire.Source,
        rhythm: Rhythm,
        max_duration_s: float,
        max_behind_s: float,
        evidence_per_track: int = 3,
        cursor: Json | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_reader, self._scanner, self._folder, self._source = open_reader, scanner, folder, source
        self._rhythm, self._max_duration_s, self._max_behind_s = rhythm, max_duration_s, max_behind_s
        self._now = now
        if cursor is None:
            self._state = WatchState.new(rhythm, evidence_per_track=evidence_per_track)
        else:
            self._state = WatchState.restored(rhythm, cursor, evidence_per_track=evidence_per_track)
        self._behind_s = 0.0
        self._created_at = wire.now()

    def run(self, stop: Callable[[], bool], on_window: OnWindow) -> Outcome:
        """Watch until the stream ends or ``stop`` says so, which is asked after each window and several times a second.

        ``on_window`` is called for each finished window in order, with its events and the cursor after it. Raises FetchError,
        MediaError or DecodeError where nothing could be watched at all; at any time SourceError (a file cannot be read any
        further), StorageFull (no room for a piece; ``lose`` is for these), and what ``on_window`` raises.
        """
        counts = self._state.counts
        if counts.ending is not None:
            return "ended"
        stopping = _Lasting(stop)
        if self._tell_due(counts.end_s - SAME_S, stopping, on_window):
            return "stopped"
        begun_s = self._now() - counts.watched_s
        with closing(self._items(stopping)) as items:
            for item in items:
                counts.watched_s = self._now() - begun_s
                # A window that ends just where the stream was followed to is told when the reader has more to say, if only that
                # it waits. Where it has not, that is the last window, which ``finish`` tells.
                if self._tell_due(counts.end_s + SAME_S, stopping, on_window):
                    return "stopped"
                if item is not None:
                    self._take(item)
                if counts.end_s >= self._max_duration_s or counts.watched_s >= SLOWEST * self._max_duration_s + SLACK_S:
                    self.finish("max_duration", on_window)
                    return "ended"
                if self._tell_due(counts.end_s - SAME_S, stopping, on_window):
                    return "stopped"
                if stopping():
                    self._tell_due(counts.end_s + SAME_S, stopping, on_window)
                    return "stopped"
        if stopping.has_said:
            return "stopped"
        self.finish("lost" if counts.ending_code is not None else "ended", on_window)
        return "ended"

    def finish(self, ending: Ending, on_window: OnWindow, code: str | None = None) -> None:
        """Tell what is due, then the last window, which reaches to where the stream was followed, and ``stream_ended``; ``code``
        says why it is lost. Nothing where it has ended. A window that ended there too and was told already, while more was waited
        for or before a stop, is told once more."""
        counts = self._state.counts
        if counts.ending is not None:
            return
        self._tell_due(counts.end_s - SAME_S, lambda: False, on_window)
        counts.ending, counts.ending_code = ending, code or counts.ending_code
        self._tell(max(0.0, counts.end_s - self._rhythm.window_s), counts.end_s, on_window)

    def lose(self, error: VeriframeError, on_window: OnWindow) -> None:
        """``finish`` a watch that ``error`` ended; raises it where nothing was ever seen."""
        if not self._state.counts.pieces:
            raise error
        log.warning("the stream is lost: %s", error)
        self.finish("lost", on_window, error.code)

    def cursor(self) -> Json:
        """As it is now. Only those that ``on_window`` was given are good to go on from: between two windows it is for reports."""
        return self._state.cursor()

    def report(self) -> wire.Report:
        """The report so far. Its evidence crops are ``crops``."""
        return watch_report(
            self._state, source=self._source, model=self._scanner.model, policy=self._scanner.policy, created_at=self._created_at
        )

    def crops(self, report: wire.Report) -> dict[str, bytes]:
        """The evidence crops that ``report`` names, JPEG by file name: those seen since this Watcher was made."""
        found = {}
        for track in self._state.tracks.held():
            for _, minus, time_s, _ in track.worst:
                jpeg = self._state.evidence.jpeg(-minus)
                name = crop_name(track.track, time_s)
                if jpeg is not None:
                    found[name] = jpeg
        named = {evidence.crop for track in report.tracks for evidence in track.evidence}
        return {name: jpeg for name, jpeg in found.items() if name in named}

    def _items(self, stop: Callable[[], bool]) -> Generator[Piece | Gap | None]:
        """The reader's, until it is lost: then the watch ends, unless nothing was ever seen."""
        with closing(self._open_reader(self._state.position).items(stop)) as items:
            try:
                yield from items
            except (FetchError, MediaError) as exc:
                if not self._state.counts.pieces:
                    raise
                log.warning("the stream is lost: %s", exc)
                self._state.counts.ending_code = exc.code

    def _take(self, item: Piece | Gap) -> None:
        state = self._state
        state.position = item.position
        item = replace(item, start_s=item.start_s + state.counts.unsaid_s)
        if isinstance(item, Gap):
            self._miss(item, item.cause)
        else:
            self._behind_s = item.behind_s
            looked_at = self._look(item)
            state.counts.unsaid_s += looked_at.duration_s - item.duration_s
            item = looked_at
        state.counts.end_s = max(state.counts.end_s, item.end_s)
        state.counts.seen_until_s = max(state.counts.seen_until_s, item.end_s)

    def _miss(self, item: Piece | Gap, cause: str) -> None:
        if item.duration_s > 0:
            self._state.stretches.miss(item.start_s, item.end_s, cause)
            self._state.recent.miss(item.start_s, item.end_s)

    def _look(self, piece: Piece) -> Piece:
        """At those moments of the piece that are whole multiples of 1 / fps on the watch's clock; gives it as long as it is, also
        where it does not decode to its end: what was seen of it lies within."""
        state, started = self._state, time.perf_counter()
        most_faces = 0

        def ask(info: MediaInfo) -> SamplingRequest | None:
            nonlocal piece, most_faces
            state.media = info
            piece = replace(piece, duration_s=_length_s(piece, info))
            request = self._moments_of(piece) if piece.duration_s < LONGEST_GAP_S else None
            most_faces = self._rhythm.faces_for(request.max_frames or 0) if request else 0
            return request

        try:
            with self._file(piece) as path, closing(self._scanner.look_through(path, ask)) as looks:
                for _, look in looks:
                    state.counts.detect_s += look.detect_s
                    state.counts.infer_s += look.infer_s
                    for frame in look.frames:
                        time_s = piece.start_s + frame.sighting.pts_s
                        is_new = state.counts.last_frame_s is None or time_s > state.counts.last_frame_s
                        if is_new and frame.sighting.pts_s < piece.duration_s:
                            state.note(time_s, frame, most_faces)
        except (MediaError, DecodeError) as exc:
            log.info("a piece of the stream does not decode (%s)", exc.code)
            state.counts.unreadable += 1
            if not state.counts.pieces and state.counts.unreadable >= TRIES:
                raise
            self._miss(piece, "unreadable")
            return piece
        state.counts.pieces += 1
        state.counts.read_s += time.perf_counter() - started
        if piece.duration_s >= LONGEST_GAP_S:
            self._miss(piece, "unreadable")
        return piece

    def _moments_of(self, piece: Piece) -> SamplingRequest | None:
        state, fps = self._state, self._rhythm.fps
        step = max(2 if piece.behind_s > self._max_behind_s / 2 else 1, math.ceil(piece.duration_s * fps / MOST_AT_ONCE))
        first = max(math.ceil(piece.start_s * fps - 1e-6), state.next_grid())
        first += -first % step
        start_s = max(0.0, first / fps - piece.start_s)
        if start_s >= piece.duration_s:
            return None
        count = math.ceil((piece.duration_s - start_s) * fps / step) + 1
        return SamplingRequest(strategy=Strategy.FPS, fps=fps / step, start_s=start_s, end_s=piece.duration_s, max_frames=count)

    @contextlib.contextmanager
    def _file(self, piece: Piece) -> Iterator[Path]:
        path = self._folder / "piece"
        try:
            with full_told():
                path.write_bytes(piece.data)
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _tell_due(self, before_s: float, stop: Callable[[], bool], on_window: OnWindow) -> bool:
        """All windows that are over before then; whether after one of them it is time to stop."""
        while (window := self._rhythm.window(self._state.counts.next_window))[1] < before_s:
            self._tell(*window, on_window)
            if stop():
                return True
        return False

    def _tell(self, start_s: float, end_s: float, on_window: OnWindow) -> None:
        state, counts = self._state, self._state.counts
        verdict, coverage = state.recent.judge(start_s, end_s, self._scanner.policy)
        result = result_of(
            counts.next_window,
            verdict,
            coverage,
            dropped_ms=state.recent.dropped_ms(start_s, end_s),
            behind_s=self._behind_s,
            is_last=counts.ending is not None,
        )
        events = events_of(state, result)
        counts.fake_windows += result.verdict is Label.FAKE
        state.stretches.note(result)
        counts.next_window += 1
        # One hop more than the next window needs: the last one of all reaches back a whole window from wherever the end is.
        state.recent.forget(self._rhythm.window(counts.next_window)[0] - self._rhythm.hop_s)
        on_window(result, events, state.cursor())


def _length_s(piece: Piece, info: MediaInfo) -> float:
    """What was said of it, unless there is more: a playlist may say what it likes."""
    unsaid_s = info.duration_s - piece.duration_s
    is_longer = unsaid_s > min(MOST_UNSAID_S, MOST_UNSAID * info.duration_s)
    return min(info.duration_s, LONGEST_GAP_S) if is_longer else piece.duration_s
