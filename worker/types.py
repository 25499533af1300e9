"""The values that cross the boundaries between stages; frozen, and checked when they are made.

Axes: N faces, F faces of a scoring batch, B frames of a batch, H rows, W columns, C colours (always RGB), K = 5 landmarks.
Boxes are ``xyxy`` in pixels of the full-resolution, upright, square-pixel frame. Times are seconds on the media's clock, from the
start of the presentation. A *logit* is log p(fake) - log p(real).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


class MediaKind(StrEnum):
    VIDEO = "video"
    PICTURE = "picture"


class Layout(StrEnum):
    """How a frame's full-resolution pixels are given: as RGB, or as decoded, in 8-bit planes."""

    RGB = "rgb"
    YUV420 = "yuv420"
    YUV444 = "yuv444"


class Strategy(StrEnum):
    """Which frames are looked at (design: sampling)."""

    AUTO = "auto"
    UNIFORM = "uniform"
    FPS = "fps"
    KEYFRAMES = "keyframes"


class Reason(StrEnum):
    """Why there is no plain ``fake`` or ``real``."""

    NO_FACE = "no_face"
    FACE_TOO_SMALL = "face_too_small"
    TOO_FEW_FRAMES = "too_few_frames"
    NEAR_THRESHOLD = "near_threshold"
    LOW_QUALITY = "low_quality"
    SPARSE_COVERAGE = "sparse_coverage"
    HIGH_UNCERTAINTY = "high_uncertainty"


class Label(StrEnum):
    FAKE = "fake"
    REAL = "real"
    UNCERTAIN = "uncertain"
    NOT_APPLICABLE = "not_applicable"


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaInfo:
    """What the probe found; sizes are those of the frames as shown (rotation and sample aspect applied)."""

    kind: MediaKind
    container: str
    codec: str
    width: int
    height: int
    duration_s: float
    fps: float
    n_frames: int
    """Frames in the file; an estimate (duration x fps) where the container carries no index."""
    pix_fmt: str = ""
    rotation_deg: int = 0
    interlaced: bool = False
    hdr: bool = False
    has_edit_list: bool = False
    variable_rate: bool = False
    decoder: str = ""
    """Name of the decoder chosen for this file."""
    layout: Layout = Layout.RGB
    """Of all its frames."""
    missing_s: float = 0.0
    """Of ``duration_s``, the end that the file announces and does not hold: it was cut off."""
    more_videos: int = 0
    """Further streams of moving pictures, of which nothing is looked at."""
    starts_s: float = 0.0
    """So much later than what the file begins with, such as its sound, the first frame is shown: where time is 0 here."""

    def __post_init__(self) -> None:
        _check(self.width > 0 and self.height > 0, f"frame size {self.width}x{self.height}")
        _check(math.isfinite(self.duration_s) and self.duration_s >= 0, f"duration {self.duration_s}")
        _check(math.isfinite(self.starts_s) and self.starts_s >= 0, f"first frame at {self.starts_s} s")
        _check(0 <= self.missing_s <= self.duration_s, f"{self.missing_s} s missing of {self.duration_s}")
        _check(math.isfinite(self.fps) and self.fps >= 0, f"fps {self.fps}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingRequest:
    """Which frames a pass wants.

    ``times_s`` asks for the frames nearest these moments (the second pass); otherwise the strategy decides. ``fps`` is for
    ``Strategy.FPS``. The window is [start_s, end_s); ``end_s`` None means to the end. ``exhaustive``: all of them are scored,
    even where fewer settle the verdict.
    """

    strategy: Strategy = Strategy.AUTO
    max_frames: int | None = None
    fps: float | None = None
    start_s: float = 0.0
    end_s: float | None = None
    times_s: tuple[float, ...] | None = None
    exhaustive: bool = False

    def __post_init__(self) -> None:
        _check(self.max_frames is None or self.max_frames > 0, f"max_frames {self.max_frames} must be positive")
        _check(self.fps is None or self.fps > 0, f"fps {self.fps} must be positive")
        _check(self.start_s >= 0, f"start {self.start_s} must not be negative")
        _check(self.end_s is None or self.end_s > self.start_s, f"end {self.end_s} must lie after start {self.start_s}")


class Pixels(Protocol):
    """A frame's pixels at full resolution, RGB or still as decoded (``worker.pixels``); what is asked of them comes as RGB."""

    @property
    def height(self) -> int: ...

    @property
    def width(self) -> int: ...

    def region(self, top: int, left: int, height: int, width: int) -> UInt8:
        """RGB [height, width, 3] of a part that lies wholly inside; it may be a view of the frame's memory."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One decoded frame: upright, square pixels, SDR BT.709/sRGB full-range RGB wherever it is shown as RGB."""

    pts_s: float
    pixels: Pixels
    small_HWC: UInt8
    """RGB at detection scale: 1 / ``divisor`` of the frame's size without fractions of a pixel; all of it where that is 1."""
    divisor: int

    def __post_init__(self) -> None:
        small = (self.pixels.height // self.divisor, self.pixels.width // self.divisor, 3)
        _check(self.small_HWC.shape == small and self.small_HWC.dtype == np.uint8, f"small frame {self.small_HWC.shape}, {small}")
        _check(math.isfinite(self.pts_s), f"pts {self.pts_s}")

    @property
    def height(self) -> int:
        return self.pixels.height

    @property
    def width(self) -> int:
        return self.pixels.width

    @property
    def rgb_HWC(self) -> UInt8:
        """All of it as RGB, for those who need the whole frame: a scan does not. Converted anew each time it is asked for."""
        return self.pixels.region(0, 0, self.height, self.width)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Glance:
    """What is known of a frame before its faces are: its time, and float32 [64, 3] mean colours (``worker.faces.track``)."""

    pts_s: float
    signature_G3: Float32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detections:
    """Faces of a batch of frames, grouped by frame in rising ``frame_N``.

    boxes_N4 float32, prob_N float32 in [0, 1] (O-Net's face probability), landmarks_NK2 float32 (left eye, right eye, nose, left
    mouth corner, right mouth corner, as seen in the upright face), frame_N int64 (place in the batch), turn_N int64 (quarter
    turns, as ``np.rot90`` counts them, that make the face upright: 0 but for faces upside down or on their side).
    """

    boxes_N4: Float32
    prob_N: Float32
    landmarks_NK2: Float32
    frame_N: Int64
    turn_N: Int64

    def __post_init__(self) -> None:
        n = len(self.boxes_N4)
        _check(self.boxes_N4.shape == (n, 4), f"boxes {self.boxes_N4.shape}")
        _check(self.prob_N.shape == (n,), f"probabilities {self.prob_N.shape}")
        _check(self.landmarks_NK2.shape == (n, 5, 2), f"landmarks {self.landmarks_NK2.shape}")
        _check(self.frame_N.shape == (n,), f"frame numbers {self.frame_N.shape}")
        _check(self.turn_N.shape == (n,), f"turns {self.turn_N.shape}")

    def __len__(self) -> int:
        return len(self.boxes_N4)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """Of F crops: ``logit_F`` float32, uncalibrated; of a head that draws also ``draws_FN`` float32, the logits of N draws, of
    which ``logit_F`` is the mean."""

    logit_F: Float32
    draws_FN: Float32 | None = None

    def __post_init__(self) -> None:
        _check(self.logit_F.ndim == 1, f"logits {self.logit_F.shape}")
        if self.draws_FN is not None:
            _check(self.draws_FN.ndim == 2 and len(self.draws_FN) == len(self.logit_F), f"draws {self.draws_FN.shape}")

    def __len__(self) -> int:
        return len(self.logit_F)


@dataclass(frozen=True, slots=True, kw_only=True)
class Face:
    """One face in one looked-at frame, scored or (``logit`` None) too small or poor to vote."""

    pts_s: float
    box_xyxy: tuple[float, float, float, float]
    det_prob: float
    track: int
    quality: float
    """Sharpness and size in [0, 1]: 0 useless, 1 good."""
    logit: float | None
    too_small: bool = False
    draws_N: Float32 | None = field(default=None, compare=False, repr=False)
    """Of a head that draws, the logit of each draw."""

    @property
    def votes(self) -> bool:
        return self.logit is not None

    @property
    def side_px(self) -> float:
        """Shorter side of the box."""
        x1, y1, x2, y2 = self.box_xyxy
        return min(x2 - x1, y2 - y1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How thinly the media were looked at; what the sampling rules of the verdict need."""

    kind: MediaKind
    strategy: Strategy
    requested: int
    decoded: int
    with_face: int
    max_gap_s: float
    """Longest stretch of the scanned window without a looked-at frame; 0 for a picture, and where every frame of the file was
    looked at, however long each is shown."""
    apart_s: float = math.inf
    """That stretch in seconds, also where every frame was looked at: a track's suspicious segments end where its votes lie more
    than twice as far apart. Infinite: they never do."""
    undecodable_s: float = 0.0
    """About how much of the scanned window could not be decoded, or was cut off."""
    is_crowded: bool = False
    """Whether faces that could vote were not looked at, as there were enough larger ones in the frame."""
    start_s: float = 0.0
    end_s: float = math.inf
    """The scanned window is [start_s, end_s); ``end_s`` is infinite where the media's length is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackScore:
    """One track's aggregated, uncalibrated logit and the number of faces that voted for it."""

    track: int
    logit: float
    votes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A stretch of one track above a level; ``max_logit`` is the highest smoothed vote in it."""

    start_s: float
    end_s: float
    max_logit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """What a score's draws say of it (CARD, section 4.2): ``piw`` is their 95 % interval's width in p, ``ttest_p`` the p-value
    of the paired t-test that fake and real are equally probable (None below two draws), ``n_samples`` their number."""

    piw: float
    ttest_p: float | None
    n_samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A score was possible: ``label`` is fake, real or uncertain, ``score`` the calibrated p(fake)."""

    label: Label
    score: float
    calibrated: bool
    reasons: tuple[Reason, ...]
    thresholds: tuple[float, float]
    """Below the first it was taken for real, above the second for fake."""
    tracks: tuple[TrackScore, ...]
    track_scores: Mapping[int, float] = field(default_factory=dict)
    """Calibrated p(fake) of each track by its number."""
    track_labels: Mapping[int, Label] = field(default_factory=dict)
    """What each track would make the verdict if it decided."""
    segments: Mapping[int, tuple[Segment, ...]] = field(default_factory=dict)
    """Suspicious stretches by track, for a video; tracks without one are left out."""
    frame_std: float | None = None
    """Standard deviation of the decisive track's frame logits; None below two votes."""
    log_odds: float = 0.0
    """Calibrated log odds of the decisive track, before ``offset`` and ``temperature``."""
    offset: float = 0.0
    """Log odds added for the user's own footage; 0 without."""
    temperature: float = 1.0
    """What the log odds' distance from undecided was divided by, for poor faces; 1: nothing."""
    doubt: Doubt | None = None
    """Of the score, over the draws; None where the head has none."""

    def __post_init__(self) -> None:
        _check(self.label is not Label.NOT_APPLICABLE, "not_applicable is a NoVerdict")
        _check(0.0 <= self.score <= 1.0, f"score {self.score}")
        _check((self.label is Label.UNCERTAIN) == bool(self.reasons), f"{self.label} with reasons {self.reasons}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoVerdict:
    """Nothing could be scored, and why; never a number."""

    reasons: tuple[Reason, ...]

    def __post_init__(self) -> None:
        _check(bool(self.reasons), "a NoVerdict needs a reason")


Json = dict[str, Any]
