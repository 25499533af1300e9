"""One item from its path to its report: source -> frames -> faces -> scores -> verdict."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np

from worker import report as wire
from worker.assemble import Findings, all_frames, completed_report, failed_report
from worker.content import Content, read_content
from worker.errors import EmptyMedia, MediaError, VeriframeError
from worker.frames.sampling import frames_asked
from worker.observe import FaceRules, Observations, Observer
from worker.pixels import rgb_frame
from worker.ports import Classifier, FaceDetector, FrameSource, OpenMedia
from worker.types import Coverage, Frame, MediaInfo, MediaKind, SamplingRequest, Strategy
from worker.verdict.decide import Policy, decide
from worker.verdict.second_pass import second_pass_times

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far one item is: frames looked at of those wanted (``wanted`` None while unknown).

    ``stage``: what is done next, ``decode`` or ``infer`` (faces and scores of the frames at hand).
    """

    decoded: int
    wanted: int | None
    stage: Literal["decode", "infer"] = "decode"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanResult:
    """A report, the evidence crops that it names, as JPEG bytes by file name, and every looked-at frame."""

    report: wire.Report
    crops: Mapping[str, bytes]
    frames: tuple[wire.FrameItem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanOptions:
    """What a scan looks at and keeps; plain values."""

    request: SamplingRequest
    second_pass_frames: int
    batch_frames: int
    batch_bytes: int
    evidence_per_track: int
    max_bytes: int


@dataclass(slots=True)
class Clock:
    """Seconds spent in each stage, as the parent sees them."""

    decode: float = 0.0
    detect: float = 0.0
    infer: float = 0.0


class Scanner:
    """Scans one item at a time; a context manager that closes what it was given to own.

    ``scan`` never raises for a bad item: its report says what was wrong. ``fingerprint`` names the model and every option that
    can change a result.
    """

    def __init__(
        self,
        *,
        frames: FrameSource,
        detector: FaceDetector,
        classifier: Classifier,
        rules: FaceRules,
        policy: Policy,
        options: ScanOptions,
        model: wire.Model,
        fingerprint: str,
        owned: ExitStack,
    ) -> None:
        self.model = model
        self.fingerprint = fingerprint
        self._frames = frames
        self._detector = detector
        self._classifier = classifier
        self._rules = rules
        self._policy = policy
        self._options = options
        self._owned = owned

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._owned.close()

    @property
    def max_bytes(self) -> int:
        """The largest file that is read at all."""
        return self._options.max_bytes

    @property
    def request(self) -> SamplingRequest:
        """Which frames are looked at where ``scan`` is not told otherwise."""
        return self._options.request

    def scan(
        self,
        path: Path,
        *,
        content: Content | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        request: SamplingRequest | None = None,
    ) -> ScanResult:
        """Report on one file; ``content``, where it was hashed just before, saves hashing it again."""
        job = wire.Report(
            id=wire.new_id(),
            source=wire.Source.of(path),
            created_at=wire.now(),
            started_at=wire.now(),
            status="running",
            progress=0.0,
            model=self.model,
        )
        try:
            options = self._options if request is None else dataclasses.replace(self._options, request=request)
            return self._scan(path, job, content, on_progress, options)
        except VeriframeError as exc:
            return ScanResult(report=failed_report(job, exc), crops={})
        except Exception as exc:  # the job boundary: a bug costs one item, never the run
            log.exception("scan %s failed", job.id)
            return ScanResult(report=failed_report(job, exc), crops={})

    def _scan(
        self,
        path: Path,
        job: wire.Report,
        content: Content | None,
        on_progress: Callable[[Progress], None] | None,
        options: ScanOptions,
    ) -> ScanResult:
        started = time.perf_counter()
        clock = Clock()
        digest = (content or read_content(path, options.max_bytes)).sha256
        with self._frames.open(path) as media:
            clock.decode += time.perf_counter() - started
            observer = Observer(
                self._detector, self._classifier, self._rules, clock, evidence_per_track=options.evidence_per_track
            )
            passes = Passes(media, options, clock, on_progress)
            for frames in passes.first():
                observer.look(frames)
            seen = observer.result()
            if times := self._second_times(media.info, seen, passes, options):
                for frames in passes.second(times):
                    observer.look(frames)
                seen = observer.result()
            info = media.info
        if passes.decoded == 0:
            raise passes.failure or EmptyMedia("no frame lies in the scanned window")
        coverage = passes.coverage(seen)
        timings = wire.Timings(
            decode=round(1e3 * clock.decode, 1),
            detect=round(1e3 * clock.detect, 1),
            infer=round(1e3 * clock.infer, 1),
            total=round(1e3 * (time.perf_counter() - started), 1),
        )
        found = Findings(
            info=info,
            sha256=digest,
            seen=seen,
            coverage=coverage,
            verdict=decide(seen.faces, coverage, self._policy),
            timings=timings,
            stopped_early=passes.failure is not None,
        )
        report, crops = completed_report(job, found, evidence_per_track=options.evidence_per_track)
        return ScanResult(report=report, crops=crops, frames=all_frames(seen))

    def _second_times(self, info: MediaInfo, seen: Observations, passes: Passes, options: ScanOptions) -> tuple[float, ...]:
        """Moments that deserve a closer look: only for ``auto`` on video, within the frame budget."""
        if options.request.strategy is not Strategy.AUTO or info.kind is not MediaKind.VIDEO or passes.failure is not None:
            return ()
        budget = options.second_pass_frames
        if options.request.max_frames is not None:
            budget = min(budget, options.request.max_frames - passes.decoded)
        if budget <= 0:
            return ()
        return second_pass_times(seen.faces, passes.coverage(seen), budget)


class Passes:
    """The decoding passes over one item: batches of copied frames, what was looked at, and why it ended early.

    ``requested`` counts the first pass alone: it is what a calibration's range of frames is about.
    """

    def __init__(
        self, media: OpenMedia, options: ScanOptions, clock: Clock, on_progress: Callable[[Progress], None] | None
    ) -> None:
        self._media = media
        self._options = options
        self._clock = clock
        self._on_progress = on_progress
        self._times: list[float] = []
        self._requested = 0
        self.failure: MediaError | None = None

    @property
    def decoded(self) -> int:
        return len(self._times)

    def first(self) -> Iterator[list[Frame]]:
        info, request = self._media.info, self._options.request
        asked = 1 if info.kind is MediaKind.PICTURE else frames_asked(request, info.duration_s, info.n_frames)
        yield from self._batches(request, wanted=asked)
        self._requested = self.decoded if asked is None else asked

    def second(self, times_s: tuple[float, ...]) -> Iterator[list[Frame]]:
        request = dataclasses.replace(self._options.request, times_s=times_s)
        yield from self._batches(request, wanted=self.decoded + len(times_s))

    def coverage(self, seen: Observations) -> Coverage:
        info, request = self._media.info, self._options.request
        end_s = min(info.duration_s, request.end_s or math.inf)
        return Coverage(
            kind=info.kind,
            strategy=request.strategy,
            requested=self._requested,
            decoded=self.decoded,
            with_face=seen.frames_with_face,
            max_gap_s=max_gap_s(self._times, request.start_s, end_s) if info.kind is MediaKind.VIDEO else 0.0,
            start_s=request.start_s,
            end_s=end_s or math.inf,
        )

    def _batches(self, request: SamplingRequest, wanted: int | None) -> Iterator[list[Frame]]:
        """Copies of the pass's frames, a bounded number of bytes at a time. Media that break in mid-file
        end the pass and the error is kept; a dead child ends the scan."""
        options = self._options
        batch: list[Frame] = []
        size = 0
        known = {round(t, 4) for t in self._times}
        frames = self._media.frames(request)
        while True:
            before = time.perf_counter()
            try:
                frame = next(frames, None)
            except MediaError as exc:
                self.failure, frame = exc, None
            if frame is not None and round(frame.pts_s, 4) not in known:
                known.add(round(frame.pts_s, 4))
                batch.append(rgb_frame(frame.pts_s, frame.rgb_HWC.copy()))
                size += frame.rgb_HWC.nbytes
            self._clock.decode += time.perf_counter() - before
            if batch and (
                frame is None or len(batch) == options.batch_frames or size + batch[-1].rgb_HWC.nbytes > options.batch_bytes
            ):
                self._tell(wanted, "infer")
                self._times.extend(f.pts_s for f in batch)
                yield batch
                self._tell(wanted, "decode")
                batch, size = [], 0
            if frame is None:
                return

    def _tell(self, wanted: int | None, stage: Literal["decode", "infer"]) -> None:
        if self._on_progress:
            self._on_progress(Progress(decoded=self.decoded, wanted=wanted, stage=stage))


def max_gap_s(times_s: list[float], start_s: float, end_s: float) -> float:
    """Longest stretch of [start_s, end_s] without a looked-at frame, its two ends included; all of it if nothing was seen."""
    marks = np.array([start_s, *sorted(times_s), max(start_s, end_s)])
    return float(np.diff(marks).max())
