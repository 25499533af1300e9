"""The decoding passes over one item: batches of frames in the order in which they are looked at, and why it ended early.

A first pass whose frames fit into memory is *spread*: some are handed out as they come, and those between are kept aside, to be
looked at only if they could still change the verdict (``worker.verdict.early``). Decoding in rising time is what a
file of few key frames allows; a pass for each turn would decode most frames again.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise

from worker.errors import MediaError
from worker.frames import layout
from worker.frames.sampling import frames_asked
from worker.looks import Looks
from worker.ports import OpenMedia
from worker.types import Frame, MediaKind, SamplingRequest
from worker.verdict.early import TURNS, turn


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
        self._aside: dict[int, list[Frame]] = {}
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
        self.failure: MediaError | None = None
        self.waited_s = 0.0
        self.looks = Looks(self._asked)
        """Of all frames of the first pass, looked at or not: the same for the same file, wherever its verdict was settled."""
        self._n_first = 0
        self.wanted = self._asked
        """Frames wanted in all passes begun; None while unknown."""

    @property
    def times_s(self) -> list[float]:
        """Of all frames that were decoded, rising."""
        return sorted(self._times.values())

    @property
    def requested(self) -> int:
        """Frames that the first pass asked for, looked at or not: what a calibration's range of frames is about."""
        return self._n_first if self._asked is None else self._asked

    def first(self) -> Iterator[Iterator[list[Frame]]]:
        """The first pass, a part at a time, each to be used up before the next. All is one part unless the pass is spread."""
        yield _of_one_size(self._batches(self._request))
        self._n_first = len(self._times)
        for later in range(1, TURNS):
            if frames := self._aside.pop(later, None):
                yield _of_one_size(_even_batches(frames, self._batch_frames))

    def second(self, times_s: tuple[float, ...]) -> Iterator[list[Frame]]:
        """Another pass over these moments; frames that were decoded before are left out."""
        self.wanted = len(self._times) + len(times_s)
        self.is_spread = False
        yield from _of_one_size(self._batches(dataclasses.replace(self._request, times_s=times_s)))

    def _batches(self, request: SamplingRequest) -> Iterator[list[Frame]]:
        """The frames that are to be looked at now, a bounded number of bytes at a time. Each counts as large as it is, not as the
        file announced."""
        batch: list[Frame] = []
        for place, frame in enumerate(self._new_frames(request)):
            frame_bytes = layout.bytes_of(frame.height, frame.width, self._media.info.layout)
            if self.is_spread and turn(place):
                if self._room_bytes >= frame_bytes:
                    self._room_bytes -= frame_bytes
                    self._aside.setdefault(turn(place), []).append(frame)
                    continue
                self.is_spread = False  # more frames, or larger ones, than were announced
            batch.append(frame)
            most = self._spread_frames if self.is_spread else self._batch_frames
            if len(batch) >= most or (len(batch) + 1) * frame_bytes > self._batch_bytes:
                yield batch
                batch = []
        if batch:
            yield batch

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
                    self.looks.add(frame.pts_s, frame.small_HWC)
                yield frame


def _of_one_size(batches: Iterable[list[Frame]]) -> Iterator[list[Frame]]:
    """Batches cut where the frames' size changes, as where a stream turns itself in the middle."""
    for batch in batches:
        for _, frames in groupby(batch, key=lambda frame: (frame.height, frame.width)):
            yield list(frames)


def _even_batches(frames: Sequence[Frame], most: int) -> list[list[Frame]]:
    """An even number of batches where there are two frames, of at most ``most`` frames and nearly one size."""
    count = -(-len(frames) // most)
    count += count % 2 if len(frames) > 1 else 0
    bounds = [len(frames) * i // count for i in range(count + 1)]
    return [list(frames[start:stop]) for start, stop in pairwise(bounds)]
