"""The decoding passes over one item: batches of frames in the order in which they are looked at, and why it ended early.

A first pass whose frames fit into memory is *spread*: some are handed out as they come, and those between are kept aside, to be
looked at only if they could still change the verdict (``worker.verdict.early``), or where a thread is idle meanwhile. Decoding in
rising time is what a file of few key frames allows; a pass for each turn would decode most frames again.
"""

from __future__ import annotations

import dataclasses
import time
from bisect import insort
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby

from worker.errors import MediaError
from worker.frame_hash import FrameHashes
from worker.frames import layout
from worker.frames.sampling import frames_asked
from worker.ports import OpenMedia
from worker.types import Frame, MediaKind, SamplingRequest
from worker.verdict.early import TURNS, turn


def _not_now(batch: list[Frame]) -> bool:
    """No batch is begun before its turn."""
    return False


class Aside:
    """Frames kept aside for later turns, in the batches in which they will be looked at: which those are hangs on the number of
    frames that was ``asked`` for, so it is known before the last one is there."""

    def __init__(self, asked: int, most: int) -> None:
        self._most = most
        self._sizes = {later: _even_sizes(count, most) for later, count in Counter(map(turn, range(asked))).items()}
        self._growing: defaultdict[int, list[Frame]] = defaultdict(list)
        self._batches: defaultdict[int, list[list[Frame]]] = defaultdict(list)
        self._offered: list[tuple[int, int, list[Frame]]] = []
        """Whole batches that nobody has begun: by turn, then as they came."""

    def add(self, later: int, frame: Frame) -> None:
        """To the batch of this turn that still grows."""
        growing = self._growing[later]
        growing.append(frame)
        sizes = self._sizes.get(later)
        if len(growing) >= (sizes[0] if sizes else self._most):
            self._close(later)

    def offer(self, begin: Callable[[list[Frame]], bool]) -> None:
        """Whole batches, those of the earliest turn first, as long as they are taken."""
        while self._offered and begin(self._offered[0][-1]):
            del self._offered[0]

    def take(self, later: int) -> list[list[Frame]]:
        """All batches of a turn."""
        self._close(later)
        self._offered = [offered for offered in self._offered if offered[0] > later]
        return self._batches.pop(later, [])

    def _close(self, later: int) -> None:
        if sizes := self._sizes.get(later):
            del sizes[0]
        for batch in _of_one_size([self._growing.pop(later, [])]):
            self._batches[later].append(batch)
            insort(self._offered, (later, len(self._batches[later]), batch))


class Passes:
    """``batch_frames``, ``batch_bytes``: most frames, and bytes, in a batch; ``hold_bytes``: in all that is kept aside.

    Media that break in mid-file end a pass: ``failure`` says why, and what was decoded before stays good.
    """

    def __init__(
        self, media: OpenMedia, request: SamplingRequest, *, batch_frames: int, batch_bytes: int, hold_bytes: int
    ) -> None:
        self._media = media
        self._request = request
        self._batch_frames = batch_frames
        self._batch_bytes = batch_bytes
        self._times: dict[int, float] = {}
        """By tenths of a millisecond: passes may name one frame's time a little differently."""
        info = media.info
        self._asked = 1 if info.kind is MediaKind.PICTURE else frames_asked(request, info.duration_s, info.n_frames)
        frame_bytes = layout.bytes_of(info.height, info.width, info.layout)
        asked = self._asked or 0
        aside_bytes = (asked - asked // TURNS) * frame_bytes
        self._room_bytes = hold_bytes
        is_video = info.kind is MediaKind.VIDEO
        self.is_spread = is_video and not request.exhaustive and self._asked is not None and aside_bytes <= hold_bytes
        at_first = max(1, -(-asked // TURNS))  # of a spread pass, shared out evenly: the first batch begins sooner
        self._spread_frames = -(-at_first // -(-at_first // batch_frames))
        self._aside = Aside(asked if self.is_spread else 0, batch_frames)
        self.failure: MediaError | None = None
        self.is_decoded = False
        self.waited_s = 0.0
        self.hashes = FrameHashes(self._asked)
        """Of all frames of the first pass, looked at or not: the same for the same file, wherever its verdict was settled."""
        self._n_first = 0
        self._lost_share = 0.0
        self.wanted = self._asked
        """Frames wanted in all passes begun; None while unknown."""

    @property
    def broke_off(self) -> bool:
        """Whether the media ended before the window did: they broke in mid-file, or were cut off."""
        info, end_s = self._media.info, self._request.end_s
        is_cut = info.missing_s > 0 and (end_s is None or end_s > info.duration_s - info.missing_s)
        return is_cut or self.failure is not None

    @property
    def undecodable_s(self) -> float:
        """About how much of the window could not be decoded: of what is there, by the moments of the first pass, and what is
        missing behind it."""
        info, request = self._media.info, self._request
        end_s = max(request.start_s, min(info.duration_s, request.end_s or info.duration_s))
        there_s = info.duration_s - info.missing_s
        if self.failure is not None:
            there_s = min(there_s, max(self._times.values(), default=0.0))
        there_s = min(max(request.start_s, there_s), end_s)
        return self._lost_share * (there_s - request.start_s) + end_s - there_s

    @property
    def times_s(self) -> list[float]:
        """Of all frames that were decoded, rising."""
        return sorted(self._times.values())

    @property
    def requested(self) -> int:
        """Frames that the first pass asked for, looked at or not: what a calibration's range of frames is about. All that came
        were asked for, also where fewer were announced."""
        return max(self._asked or 0, self._n_first)

    def first(self, begin: Callable[[list[Frame]], bool] = _not_now) -> Iterator[Iterator[list[Frame]]]:
        """The first pass, a part at a time, each to be used up before the next. All is one part unless the pass is spread.

        While it is decoded, batches of later parts are offered to ``begin``, the earliest part's first, until it takes them. They
        are handed out in their turn all the same, as the same lists.
        """
        yield _of_one_size(self._batches(self._request, begin))
        for later in range(1, TURNS):
            if batches := self._aside.take(later):
                yield self._and_offer(batches, begin)

    def _and_offer(self, batches: list[list[Frame]], begin: Callable[[list[Frame]], bool]) -> Iterator[list[Frame]]:
        yield from batches
        self._aside.offer(begin)

    def second(self, times_s: tuple[float, ...]) -> Iterator[list[Frame]]:
        """Another pass over these moments; frames that were decoded before are left out."""
        self.wanted = len(self._times) + len(times_s)
        self.is_spread = False
        yield from _of_one_size(self._batches(dataclasses.replace(self._request, times_s=times_s), _not_now))

    def _batches(self, request: SamplingRequest, begin: Callable[[list[Frame]], bool]) -> Iterator[list[Frame]]:
        """The frames that are to be looked at now, a bounded number of bytes at a time. Each counts as large as it is, not as the
        file announced."""
        batch: list[Frame] = []
        for place, frame in enumerate(self._new_frames(request)):
            frame_bytes = layout.bytes_of(frame.height, frame.width, self._media.info.layout)
            self._aside.offer(begin)
            if self.is_spread and turn(place):
                if self._room_bytes >= frame_bytes:
                    self._room_bytes -= frame_bytes
                    self._aside.add(turn(place), frame)
                    continue
                self.is_spread = False  # more frames, or larger ones, than were announced
            batch.append(frame)
            most = self._spread_frames if self.is_spread else self._batch_frames
            if len(batch) >= most or (len(batch) + 1) * frame_bytes > self._batch_bytes:
                yield batch
                batch = []
        if batch:
            yield batch
        self.is_decoded = True
        if request.times_s is None:
            self._n_first, self._lost_share = len(self._times), self._media.lost_share
        self._aside.offer(begin)

    def _new_frames(self, request: SamplingRequest) -> Iterator[Frame]:
        """A pass's frames but for those that were decoded before. A dead child ends the scan."""
        frames = self._media.frames(request)
        while True:
            before = time.perf_counter()
            try:
                frame = next(frames, None)
            except MediaError as exc:
                self.failure, frame = exc, None
            finally:
                self.waited_s += time.perf_counter() - before
            if frame is None:
                return
            key = round(1e4 * frame.pts_s)
            if key not in self._times:
                self._times[key] = frame.pts_s
                if request.times_s is None:
                    self.hashes.add(frame.pts_s, frame.small_HWC)
                yield frame


def _of_one_size(batches: Iterable[list[Frame]]) -> Iterator[list[Frame]]:
    """Batches cut where the frames' size changes: decoders scale all to the first's, but one taken over may say otherwise."""
    for batch in batches:
        for _, frames in groupby(batch, key=lambda frame: (frame.height, frame.width)):
            yield list(frames)


def _even_sizes(count: int, most: int) -> list[int]:
    """Of so many frames: an even number of batches where there are two frames, of at most ``most`` frames and nearly one size."""
    parts = -(-count // most)
    parts += parts % 2 if count > 1 else 0
    return [(i + 1) * count // parts - i * count // parts for i in range(parts)]
