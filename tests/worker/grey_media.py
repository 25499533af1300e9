"""Media of plain grey frames, faces in fixed places and scores by brightness: what a pipeline is built of in tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from worker.engine import Engine, EngineOpened, EngineOpening
from worker.errors import CorruptMedia, VeriframeError
from worker.look import FaceRules
from worker.overlap import Crew
from worker.pipeline import Scanner
from worker.pixels import rgb_frame
from worker.ports import Classifier, OpenMedia
from worker.report import Model
from worker.run import ScanOptions
from worker.types import Detections, Frame, Glance, MediaInfo, MediaKind, SamplingRequest, Scores, Strategy
from worker.verdict.calibrate import Calibration
from worker.verdict.decide import Policy

SIZE = 96
REAL, FAKE = 130, 150
"""Greys of frames with a real and a fake face; too alike to be taken for a cut."""


@dataclass
class Clip:
    """A FrameSource whose frames are plain grey: FAKE inside ``swap_s``, REAL elsewhere, 0 (no face) inside ``empty_s``.

    With a ``bystander`` the right half is REAL throughout.
    """

    duration_s: float = 4.0
    swap_s: tuple[float, float] = (0.0, 0.0)
    empty_s: tuple[float, float] = (0.0, 0.0)
    bystander: bool = False
    fails_after: int | None = None
    missing_s: float = 0.0
    starts_s: float = 0.0
    lost_share: float = 0.0
    error: VeriframeError = field(default_factory=lambda: CorruptMedia("broken off"))
    kind: MediaKind = MediaKind.VIDEO
    passes: list[SamplingRequest] = field(default_factory=list)

    @contextmanager
    def open(self, path: Path) -> Iterator[OpenMedia]:
        yield self

    @property
    def info(self) -> MediaInfo:
        count = 1 if self.kind is MediaKind.PICTURE else round(self.duration_s * 25)
        return MediaInfo(
            kind=self.kind,
            container="mp4",
            codec="h264",
            width=SIZE,
            height=SIZE,
            duration_s=self.duration_s,
            fps=25,
            n_frames=count,
            missing_s=self.missing_s,
            starts_s=self.starts_s,
        )

    def frames(self, request: SamplingRequest) -> Iterator[Frame]:
        self.passes.append(request)
        count = min(self.info.n_frames, request.max_frames or max(32, round(self.duration_s / 5)))
        end_s = min(self.duration_s, request.end_s or self.duration_s)
        step_s = (end_s - request.start_s) / count
        times = request.times_s or tuple(request.start_s + (i + 0.5) * step_s for i in range(count))
        for place, time in enumerate(times):
            if place == self.fails_after:
                raise self.error
            if self.missing_s and time >= self.duration_s - self.missing_s:
                return
            inside = self.swap_s[0] <= time < self.swap_s[1]
            grey = 0 if self.empty_s[0] <= time < self.empty_s[1] else FAKE if inside else REAL
            rgb_HWC = np.full((SIZE, SIZE, 3), grey, np.uint8)
            if self.bystander:
                rgb_HWC[:, SIZE // 2 :] = REAL
            yield rgb_frame(time, rgb_HWC)


class OneFace:
    """A face in the middle of every frame that is not black; remembers the batch sizes."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def detect_small(
        self, small_BHWC: Sequence[np.ndarray] | np.ndarray, divisor: int, glances: Sequence[Glance] | None = None
    ) -> Detections:
        self.batches.append(len(small_BHWC))
        with_face = np.array([i for i, frame in enumerate(small_BHWC) if frame.max() > 0], np.int64)
        n = len(with_face)
        return Detections(
            boxes_N4=np.tile(np.array([16, 16, 80, 80], np.float32), (n, 1)),
            prob_N=np.full(n, 0.99, np.float32),
            landmarks_NK2=np.zeros((n, 5, 2), np.float32),
            frame_N=with_face,
            turn_N=np.zeros(n, np.int64),
        )


class TwoFaces(OneFace):
    """A face in the left half of every frame and one in the right half."""

    def detect_small(
        self, small_BHWC: Sequence[np.ndarray] | np.ndarray, divisor: int, glances: Sequence[Glance] | None = None
    ) -> Detections:
        n = len(small_BHWC)
        return Detections(
            boxes_N4=np.tile(np.array([[0, 16, 48, 64], [48, 16, 96, 64]], np.float32), (n, 1)),
            prob_N=np.full(2 * n, 0.99, np.float32),
            landmarks_NK2=np.zeros((2 * n, 5, 2), np.float32),
            frame_N=np.repeat(np.arange(n, dtype=np.int64), 2),
            turn_N=np.zeros(2 * n, np.int64),
        )


class ByGrey:
    """+3 for a bright crop, -3 for a dark one."""

    name = "grey"

    def scores(self, crops_FHWC: np.ndarray) -> Scores:
        return Scores(logit_F=np.where(crops_FHWC.mean((1, 2, 3)) > 140, 3.0, -3.0).astype(np.float32))


def grey_engine(classifier: Classifier) -> Engine:
    model = Model(name="grey", version="1", sha256="0" * 64, licence="none", backend="grey")
    return Engine(classifier=classifier, model=model, fingerprint="grey")


def scanner(
    clip: Clip,
    *,
    strategy: Strategy = Strategy.AUTO,
    max_frames: int | None = None,
    window_s: tuple[float, float | None] = (0.0, None),
    detector: OneFace | None = None,
    exhaustive: bool = False,
    classifier: Classifier | None = None,
    engine: EngineOpened | EngineOpening | None = None,
    threads: int = 2,
) -> Scanner:
    plain = Calibration(
        kind=MediaKind.VIDEO, rule="mean_logit", strategies=frozenset({Strategy.AUTO}), frames=(1, 512), a=1.0, b=0.0
    )
    opened = grey_engine(classifier or ByGrey())
    owned = ExitStack()
    face = detector or OneFace()
    return Scanner(
        frames=clip,
        new_detector=lambda: face,
        engine=engine or EngineOpened(opened),
        crew=owned.enter_context(Crew(threads)),
        rules=FaceRules(margin=1.3, size=224, min_vote_px=48, min_vote_quality=0.0, batch=5),
        policy=Policy(calibrations=(plain,), min_quality=0.0),
        options=ScanOptions(
            request=SamplingRequest(
                strategy=strategy, max_frames=max_frames, start_s=window_s[0], end_s=window_s[1], exhaustive=exhaustive
            ),
            second_pass_frames=64,
            batch_frames=8,
            batch_bytes=6 * SIZE * SIZE * 3,
            hold_bytes=100 * SIZE * SIZE * 3,
            evidence_per_track=2,
            max_bytes=1000,
        ),
        owned=owned,
    )
