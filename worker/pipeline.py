"""One item from its path to its report: source -> frames -> faces -> scores -> verdict."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from worker import report as wire
from worker.assemble import Findings, all_frames, completed_report, failed_report
from worker.content import Content, read_content
from worker.engine import EngineFailed, EngineOpened, EngineOpening
from worker.errors import EmptyMedia, VeriframeError
from worker.exhausted import log_failure
from worker.explain import explained
from worker.look import FaceRules, Look, look_at
from worker.observe import Observations
from worker.overlap import Crew
from worker.passes import Passes
from worker.ports import FaceDetector, FrameSource
from worker.run import Progress, Run, ScanOptions, max_gap_s, without_frames
from worker.types import Float32, Frame, MediaInfo, SamplingRequest, UInt8
from worker.verdict.decide import Policy, decide
from worker.verdict.early import Outlook, is_settled
from worker.verdict.second_pass import SecondPass, second_pass_times

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanResult:
    """A report, the pictures that it names (crops, maps, whole frames), as JPEG bytes by file name, and every looked-at frame."""

    report: wire.Report
    crops: Mapping[str, bytes]
    frames: tuple[wire.FrameItem, ...] = ()


class Scanner:
    """Scans items, on several threads at once if wished; a context manager that closes what it was given to own.

    ``scan`` never raises for a bad item: its report says what was wrong. ``engine`` waits until the classifier is open, and
    raises EngineFailed where it cannot be: so does then all that needs it, ``scan`` included. ``new_detector`` gives
    the detector of one batch; it and the classifier are used on the threads of ``crew``, several at once, while the next frames
    are decoded.
    """

    def __init__(
        self,
        *,
        frames: FrameSource,
        new_detector: Callable[[], FaceDetector],
        engine: EngineOpened | EngineOpening,
        crew: Crew,
        rules: FaceRules,
        policy: Policy,
        options: ScanOptions,
        owned: ExitStack,
    ) -> None:
        self._engine = engine
        self._frames = frames
        self._new_detector = new_detector
        self._crew = crew
        self._rules = rules
        self._policy = policy
        self._options = options
        self._owned = owned

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._owned.close()

    @property
    def model(self) -> wire.Model:
        """Waits for the classifier. Raises EngineFailed, as does ``fingerprint``."""
        return self._engine().model

    @property
    def fingerprint(self) -> str:
        return self._engine().fingerprint

    @property
    def max_bytes(self) -> int:
        """The largest file that is read at all."""
        return self._options.max_bytes

    @property
    def request(self) -> SamplingRequest:
        """Which frames are looked at where ``scan`` is not told otherwise."""
        return self._options.request

    @property
    def policy(self) -> Policy:
        """The rules of its verdicts."""
        return self._policy

    def look_through(self, path: Path, ask: Callable[[MediaInfo], SamplingRequest | None]) -> Generator[tuple[MediaInfo, Look]]:
        """One pass over a file, without a verdict: what its frames show, in rising time, batch by batch, and not the frames; and
        of what file. ``ask``: which frames are wanted of such a file; None for none.

        Raises SourceError, MediaError or DecodeError. Of media that break in the middle only if no frame came before. Close the
        iterator before another is begun.
        """
        options = self._options
        with self._frames.open(path) as media:
            asked = ask(media.info)
            if asked is None:
                return
            request = dataclasses.replace(asked, exhaustive=True)  # nothing is kept aside
            passes = Passes(
                media, request, batch_frames=options.batch_frames, batch_bytes=options.batch_bytes, hold_bytes=options.hold_bytes
            )
            for batches in passes.first():
                with closing(self._crew.map(self._look_without_frames, batches)) as looks:
                    for look in looks:
                        yield media.info, look
        if passes.failure is not None and not passes.times_s:
            raise passes.failure

    def scan(
        self,
        path: Path,
        *,
        content: Content | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        request: SamplingRequest | None = None,
        explain: bool | None = None,
    ) -> ScanResult:
        """Report on one file; ``content``, where it was hashed just before, saves hashing it again. ``request`` and ``explain``:
        other than in the options."""
        job = wire.Report(
            id=wire.new_id(),
            source=wire.Source.of(path),
            created_at=wire.now(),
            started_at=wire.now(),
            status="running",
            progress=0.0,
        )
        started = time.perf_counter()
        try:
            options = dataclasses.replace(
                self._options,
                request=self._options.request if request is None else request,
                explain=self._options.explain if explain is None else explain,
            )
            if on_progress is not None:  # who is told may end the scan: before the file is read, and before it is opened
                on_progress(Progress(decoded=0, wanted=None))
            content = content or read_content(path, options.max_bytes)
            return self._scan(path, job, content, started, on_progress, options)
        except EngineFailed:
            raise
        except VeriframeError as exc:
            return ScanResult(report=failed_report(self._by_model(job), exc, content), crops={})
        except Exception as exc:  # noqa: BLE001 - the job boundary: a bug costs one item, never the run
            log_failure(log, f"scan {job.id} failed", exc)
            return ScanResult(report=failed_report(self._by_model(job), exc, content), crops={})

    def _by_model(self, job: wire.Report) -> wire.Report:
        """Waits for the classifier: an item's first frames may be decoded, and their faces found, before it is open."""
        return job.model_copy(update={"model": self.model})

    def _scan(
        self,
        path: Path,
        job: wire.Report,
        content: Content,
        started: float,
        on_progress: Callable[[Progress], None] | None,
        options: ScanOptions,
    ) -> ScanResult:
        tell = on_progress or (lambda progress: None)
        tell(Progress(decoded=0, wanted=None))
        opening = time.perf_counter()
        with self._frames.open(path) as media:
            open_s = time.perf_counter() - opening
            passes = Passes(
                media,
                options.request,
                batch_frames=options.batch_frames,
                batch_bytes=options.batch_bytes,
                hold_bytes=options.hold_bytes,
            )
            run = Run(self._look_at, self._crew, passes, media.info, options, on_progress, may_begin=lambda: self._engine.is_open)
            try:
                seen, settled = self._look_in_passes(run)
            finally:
                run.drop_ahead()
        if not passes.times_s:
            raise passes.failure or EmptyMedia(without_frames(options.request, media.info))
        coverage = run.coverage(seen)
        found = Findings(
            info=media.info,
            sha256=content.sha256,
            phash=passes.hashes.phash(coverage.start_s, coverage.end_s),
            seen=seen,
            coverage=coverage,
            verdict=decide(seen.faces, coverage, self._policy),
            timings=_timings(open_s + passes.waited_s, run, time.perf_counter() - started),
            stopped_by="media" if passes.broke_off else "verdict" if settled else None,
        )
        report, crops = completed_report(self._by_model(job), found, evidence_per_track=options.evidence_per_track)
        if options.explain:
            seen_all = Progress(decoded=run.observer.n_frames, wanted=passes.wanted, stage="infer")
            report, crops = self._explained(report, crops, lambda: tell(seen_all))
        return ScanResult(report=report, crops=crops, frames=all_frames(seen))

    def _explained(
        self, report: wire.Report, crops: dict[str, bytes], tell: Callable[[], None]
    ) -> tuple[wire.Report, dict[str, bytes]]:
        """With maps, and the time they took; as it was where they cannot be made. ``tell`` comes before each, and may end it."""
        started = time.perf_counter()
        ended: list[Exception] = []

        def score(crops_FHWC: UInt8) -> Float32:
            try:
                tell()
            except Exception as exc:
                ended.append(exc)
                raise
            return self._score(crops_FHWC)

        try:
            told, pictures = explained(report, crops, score)
        except Exception as exc:  # the maps' outermost boundary: they may not cost a verdict
            if ended:
                raise
            log_failure(log, f"scan {report.id}: no maps can be made", exc)
            return report, crops
        took_ms = 1e3 * (time.perf_counter() - started)
        timings = told.timings_ms
        if timings is not None:
            longer = {"infer": round(timings.infer + took_ms, 1), "total": round(timings.total + took_ms, 1)}
            told = told.model_copy(update={"timings_ms": timings.model_copy(update=longer), "finished_at": wire.now()})
        return told, pictures

    def _score(self, crops_FHWC: UInt8) -> Float32:
        """Logits of any number of crops, on the crew's threads."""
        step = self._rules.batch
        parts = (crops_FHWC[start : start + step] for start in range(0, len(crops_FHWC), step))
        with closing(self._crew.map(self._engine().classifier.scores, parts)) as scores:
            return np.concatenate([part.logit_F for part in scores])

    def _look_at(self, frames: list[Frame]) -> Look:
        return look_at(frames, self._new_detector(), lambda: self._engine().classifier, self._rules)

    def _look_without_frames(self, frames: list[Frame]) -> Look:
        """Who keeps it holds no frame's memory, which the next file is decoded into."""
        look = self._look_at(frames)
        return dataclasses.replace(look, frames=tuple(dataclasses.replace(frame, small_HWC=None) for frame in look.frames))

    def _look_in_passes(self, run: Run) -> tuple[Observations, bool]:
        """Both passes, or what of them settles the verdict; and whether it did so before all was seen."""
        seen = run.observer.result()
        for batches in run.passes.first(run.begin_ahead):
            seen = run.look(batches)
            if run.has_more and self._is_settled(run, seen):
                return seen, True
        if times := self._second_times(run, seen):
            seen = run.look(run.passes.second(times))
        return seen, False

    def _is_settled(self, run: Run, seen: Observations) -> bool:
        """Whether the frames kept aside, and a second pass, could still change the verdict."""
        coverage = run.coverage(seen)
        windows = self._policy.windows
        may_hide = windows is not None and run.info.duration_s > windows.min_span_s
        gap_s = max_gap_s(run.passes.times_s, coverage.start_s, min(run.info.duration_s, coverage.end_s))
        second = max(0, run.second_budget) if gap_s > SecondPass().min_gap_s else 0
        outlook = Outlook(
            share=len(seen.frames) / (len(run.passes.times_s) + second),
            hidden=run.hidden(seen),
            closer_look=may_hide or second > 0 or self._may_be_crowded(seen),
        )
        return is_settled(seen.faces, coverage, self._policy, outlook)

    def _may_be_crowded(self, seen: Observations) -> bool:
        """Whether a frame had more than half as many faces, small ones aside, as are looked at: another one may be crowded."""
        large = Counter(face.pts_s for face in seen.faces if not face.too_small)
        return max(large.values(), default=0) > self._rules.faces_per_frame // 2

    def _second_times(self, run: Run, seen: Observations) -> tuple[float, ...]:
        """Moments that deserve a closer look."""
        if run.second_budget <= 0 or run.passes.failure is not None:
            return ()
        return second_pass_times(seen.faces, run.coverage(seen), run.second_budget)


def _timings(decode_s: float, run: Run, total_s: float) -> wire.Timings:
    decode, detect, infer, total = (round(1e3 * seconds, 1) for seconds in (decode_s, run.detect_s, run.infer_s, total_s))
    return wire.Timings(decode=decode, detect=detect, infer=infer, total=total)
