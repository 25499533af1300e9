"""Stand-ins at our ports for a stream: pieces that say what they show, and a scanner that sees it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from worker.engine import Engine, EngineOpened
from worker.errors import CorruptMedia, DecodeCrash
from worker.look import FaceRules
from worker.overlap import Crew
from worker.pipeline import Scanner
from worker.pixels import rgb_frame
from worker.ports import FaceDetector, FrameSource, OpenMedia
from worker.report import Model
from worker.run import ScanOptions
from worker.source.live.pieces import Gap, Piece
from worker.types import Detections, Frame, Glance, Json, MediaInfo, MediaKind, SamplingRequest, Scores, Strategy
from worker.verdict.calibrate import Calibration
from worker.verdict.decide import Policy

SIZE = 96
REAL, FAKE, EMPTY = 130, 150, 0
"""Greys of frames with a real face, a fake one and none; the first two are too alike to be taken for a cut."""


@dataclass(frozen=True)
class Told:
    """A file of JSON that says how long it is and which grey it has from when on."""

    duration_s: float
    greys: list[tuple[float, int]]
    faces: int
    lost_share: float = 0.0
    breaks_s: float | None = None

    @property
    def info(self) -> MediaInfo:
        return MediaInfo(
            kind=MediaKind.VIDEO,
            container="mpegts",
            codec="h264",
            width=SIZE,
            height=SIZE,
            duration_s=self.duration_s,
            fps=25,
            n_frames=max(1, round(25 * self.duration_s)),
            decoder="told",
        )

    def frames(self, request: SamplingRequest) -> Iterator[Frame]:
        assert request.strategy is Strategy.FPS
        assert request.fps is not None
        end_s = min(self.duration_s, request.end_s or self.duration_s)
        for i in range(math.ceil((end_s - request.start_s) * request.fps - 1e-9)):
            time_s = request.start_s + i / request.fps
            if self.breaks_s is not None and time_s >= self.breaks_s:
                raise DecodeCrash("the decoder is gone")
            grey = [grey for since_s, grey in self.greys if since_s <= time_s + 1e-9][-1]
            rgb = np.full((SIZE, SIZE, 3), grey, np.uint8)
            rgb[0, 0] = self.faces
            yield rgb_frame(time_s, rgb)


class ToldFrames:
    """A FrameSource."""

    @contextmanager
    def open(self, path: Path) -> Iterator[OpenMedia]:
        try:
            told = json.loads(path.read_bytes())
        except ValueError as exc:
            raise CorruptMedia("no piece") from exc
        yield Told(
            told["duration_s"], [tuple(pair) for pair in told["greys"]], told.get("faces", 1), breaks_s=told.get("breaks_s")
        )


class FacesInRow:
    """As many faces side by side as the frame's first pixel says; none in a black frame."""

    def detect_small(
        self, small_BHWC: Sequence[np.ndarray] | np.ndarray, divisor: int, glances: Sequence[Glance] | None = None
    ) -> Detections:
        boxes, places = [], []
        for place, frame in enumerate(small_BHWC):
            n = int(frame[0, 0, 0]) if frame.max() > 20 else 0
            side = SIZE / max(n, 1)
            boxes += [[i * side, 0, (i + 1) * side, side] for i in range(n)]
            places += [place] * n
        return Detections(
            boxes_N4=np.array(boxes, np.float32).reshape(-1, 4),
            prob_N=np.full(len(boxes), 0.99, np.float32),
            landmarks_NK2=np.zeros((len(boxes), 5, 2), np.float32),
            frame_N=np.array(places, np.int64),
            turn_N=np.zeros(len(boxes), np.int64),
        )


class ByGrey:
    """+3 for a bright crop, -3 for a dark one."""

    name = "grey"

    def scores(self, crops_FHWC: np.ndarray) -> Scores:
        return Scores(logit_F=np.where(crops_FHWC.mean((1, 2, 3)) > (REAL + FAKE) / 2, 3.0, -3.0).astype(np.float32))


class OneFace:
    """A face that fills the middle of every frame that is not black."""

    def detect_small(
        self, small_BHWC: Sequence[np.ndarray] | np.ndarray, divisor: int, glances: Sequence[Glance] | None = None
    ) -> Detections:
        places = np.array([place for place, frame in enumerate(small_BHWC) if frame.mean() > 40], np.int64)
        return Detections(
            boxes_N4=np.tile(np.array([16, 16, 80, 80], np.float32), (len(places), 1)),
            prob_N=np.full(len(places), 0.99, np.float32),
            landmarks_NK2=np.zeros((len(places), 5, 2), np.float32),
            frame_N=places,
            turn_N=np.zeros(len(places), np.int64),
        )


@contextmanager
def scanner(frames: FrameSource | None = None, new_detector: Callable[[], FaceDetector] = FacesInRow) -> Iterator[Scanner]:
    plain = Calibration(
        kind=MediaKind.VIDEO, rule="mean_logit", strategies=frozenset({Strategy.FPS}), frames=(1, 100_000), a=1.0, b=0.0
    )
    engine = Engine(
        classifier=ByGrey(),
        model=Model(name="grey", version="1", sha256="0" * 64, licence="none", backend="grey"),
        fingerprint="grey",
    )
    with ExitStack() as stack:
        yield Scanner(
            frames=frames or ToldFrames(),
            new_detector=new_detector,
            engine=EngineOpened(engine),
            crew=stack.enter_context(Crew(1)),
            rules=FaceRules(margin=1.2, size=32, min_vote_px=4, min_vote_quality=0.0, batch=8),
            policy=Policy(calibrations=(plain,), min_quality=0.0),
            options=ScanOptions(
                request=SamplingRequest(),
                second_pass_frames=0,
                batch_frames=4,
                batch_bytes=1 << 24,
                hold_bytes=0,
                evidence_per_track=2,
                max_bytes=1 << 24,
            ),
            owned=ExitStack(),
        )


def piece_data(duration_s: float, *greys: tuple[float, int], faces: int = 1, breaks_s: float | None = None) -> bytes:
    return json.dumps({"duration_s": duration_s, "greys": greys, "faces": faces, "breaks_s": breaks_s}).encode()


class ToldReader:
    """A ``LiveReader`` over a list of (duration, grey or list of greys or cause of a gap); the position is the place in it.
    Where it is a pair of (seconds, greys), the piece is so long, whatever the duration says; a third of it says from when on its
    decoding breaks."""

    def __init__(self, parts: Sequence[tuple[float, object]], position: Json | None, faces: int = 1) -> None:
        self._parts, self._faces = parts, faces
        self._at = 0 if position is None else position["at"]
        self._clock_s = 0.0 if position is None else position["clock_s"]

    def items(self, stop: Callable[[], bool]) -> Generator[Piece | Gap | None]:
        while self._at < len(self._parts):
            duration_s, what = self._parts[self._at]
            self._at += 1
            start_s, self._clock_s = self._clock_s, self._clock_s + duration_s
            position = {"at": self._at, "clock_s": self._clock_s}
            yield None
            if what in ("not_served", "behind"):
                yield Gap(start_s=start_s, duration_s=duration_s, cause=what, position=position)  # type: ignore[arg-type]
                continue
            if what == "broken":
                data = b"{"
            else:
                media_s, what, *breaks_s = what if isinstance(what, tuple) else (duration_s, what)
                greys = what if isinstance(what, list) else [(0.0, what)]
                data = piece_data(media_s, *greys, faces=self._faces, breaks_s=next(iter(breaks_s), None))
            yield Piece(data=data, start_s=start_s, duration_s=duration_s, position=position)
