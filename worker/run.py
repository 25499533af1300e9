"""One scan under way: frames looked at on the crew's threads, and noted down in their turn; how far it is; how long it took."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

import numpy as np

from worker.look import Look
from worker.observe import Observations, Observer
from worker.overlap import Crew, drop
from worker.passes import Passes
from worker.types import Coverage, Frame, MediaInfo, MediaKind, SamplingRequest, Strategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far one item is: frames looked at of those wanted (``wanted`` None while unknown).

    ``stage``: what is done next, ``decode`` or ``infer`` (faces and scores of the frames at hand).
    """

    decoded: int
    wanted: int | None
    stage: Literal["decode", "infer"] = "decode"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanOptions:
    """What a scan looks at and keeps; plain values."""

    request: SamplingRequest
    second_pass_frames: int
    batch_frames: int
    batch_bytes: int
    hold_bytes: int
    evidence_per_track: int
    max_bytes: int
    explain: bool = False
    """Make occlusion maps of evidence crops."""


class Run:
    """One scan. ``may_begin``: whether frames may be looked at before it is known that they are needed."""

    def __init__(
        self,
        look_at: Callable[[list[Frame]], Look],
        crew: Crew,
        passes: Passes,
        info: MediaInfo,
        options: ScanOptions,
        on_progress: Callable[[Progress], None] | None,
        may_begin: Callable[[], bool],
    ) -> None:
        self.passes = passes
        self.info = info
        self.observer = Observer(evidence_per_track=options.evidence_per_track)
        self.detect_s = 0.0
        """Sum over the threads, and so is ``infer_s``."""
        self.infer_s = 0.0
        self._look_at = look_at
        self._crew = crew
        self._begun: dict[int, Future[Look]] = {}
        """By the ``id`` of batches that are kept aside, and so not others' before they are handed out."""
        self._options = options
        self._on_progress = on_progress
        self._may_begin = may_begin

    @property
    def has_more(self) -> bool:
        """Whether frames are kept aside, of media that did not break off."""
        return self.passes.is_spread and not self.passes.broke_off and self.observer.n_frames < len(self.passes.times_s)

    @property
    def second_budget(self) -> int:
        """Frames that a second pass may take: only for ``auto`` on video, within the frame budget."""
        request = self._options.request
        if request.strategy is not Strategy.AUTO or self.info.kind is not MediaKind.VIDEO:
            return 0
        if request.max_frames is None:
            return self._options.second_pass_frames
        return min(self._options.second_pass_frames, request.max_frames - len(self.passes.times_s))

    def begin_ahead(self, batch: list[Frame]) -> bool:
        """Look at a batch before its turn, where a thread would be idle; False where none is, or ``may_begin`` says no.

        What then is not needed costs processor time, and is never noted. A decoder at work is left one thread's core.
        """
        begun = self._crew.begin(self._look_at, batch, spare=0 if self.passes.is_decoded else 1) if self._may_begin() else None
        if begun is None:
            return False
        self._begun[id(batch)] = begun
        return True

    def drop_ahead(self) -> None:
        """What was begun and not needed: its frames go with the media."""
        drop(self._begun.values())
        self._begun.clear()

    def look(self, batches: Iterator[list[Frame]]) -> Observations:
        """Look at all of them, the next while they are decoded."""
        items = (self._begun.pop(id(batch), batch) for batch in self._told(batches))
        with closing(self._crew.map(self._look_at, items)) as looks:
            for look in looks:
                self.observer.note(look)
                self.detect_s += look.detect_s
                self.infer_s += look.infer_s
                del look  # or its frames' memory would stay held while the next are waited for
                self._tell("decode")
        return self.observer.result()

    def coverage(self, seen: Observations) -> Coverage:
        info, request = self.info, self._options.request
        end_s = min(info.duration_s, request.end_s or math.inf)
        times = [frame.pts_s for frame in seen.frames]
        apart_s = max_gap_s(times, request.start_s, end_s)
        return Coverage(
            kind=info.kind,
            strategy=request.strategy,
            requested=self.passes.requested,
            decoded=len(times),
            with_face=seen.frames_with_face,
            max_gap_s=0.0 if self._is_all(times) else apart_s,
            apart_s=apart_s,
            undecodable_s=self.passes.undecodable_s,
            is_crowded=seen.is_crowded,
            start_s=request.start_s,
            end_s=end_s or math.inf,
        )

    def _is_all(self, times_s: list[float]) -> bool:
        """Whether these are the moments of all frames there are: then nothing lies between them, however long each is shown."""
        request, info = self._options.request, self.info
        is_whole = request.start_s == 0.0 and (request.end_s is None or request.end_s >= info.duration_s)
        return info.kind is MediaKind.PICTURE or (is_whole and 0 < info.n_frames <= len(times_s))

    def hidden(self, seen: Observations) -> int:
        """Most decoded frames in a row that were not looked at."""
        looked_at = {frame.pts_s for frame in seen.frames}
        places = [-1, *(i for i, time_s in enumerate(self.passes.times_s) if time_s in looked_at), len(self.passes.times_s)]
        return int(np.diff(places).max()) - 1

    def _told(self, batches: Iterator[list[Frame]]) -> Iterator[list[Frame]]:
        for batch in batches:
            self._tell("infer")
            yield batch

    def _tell(self, stage: Literal["decode", "infer"]) -> None:
        if self._on_progress:
            self._on_progress(Progress(decoded=self.observer.n_frames, wanted=self.passes.wanted, stage=stage))


def max_gap_s(times_s: list[float], start_s: float, end_s: float) -> float:
    """Longest stretch of [start_s, end_s] without a looked-at frame, its two ends included; all of it if nothing was seen.
    A frame shown when it begins may have come before."""
    marks = np.array([start_s, *sorted(times_s), max(start_s, end_s)])
    return float(np.diff(marks.clip(start_s, marks[-1])).max())


def without_frames(request: SamplingRequest, info: MediaInfo) -> str:
    """Why none came, in words for whoever chose the window."""
    window = f"from {request.start_s:g} s " + ("on" if request.end_s is None else f"to {request.end_s:g} s")
    if request.strategy is Strategy.KEYFRAMES and request.start_s < info.duration_s:
        return f"no key frame {window}; use another strategy"
    if info.missing_s:
        return f"no frame {window}: the file breaks off at {info.duration_s - info.missing_s:.1f} s"
    return f"no frame {window}: the video is {info.duration_s:.1f} s long"
