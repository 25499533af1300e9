"""The roles that the pipeline joins; each has one or more implementations and a contract test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from worker.types import Detections, Float32, Frame, Glance, MediaInfo, SamplingRequest, Scores, UInt8


class OpenMedia(Protocol):
    """A probed file, ready to give frames. Frames of one pass come in rising time and stay good as long as anything refers to
    them, also after the media were closed. Decoding goes on meanwhile, in memory that is bounded but for frames that are kept."""

    @property
    def info(self) -> MediaInfo: ...

    @property
    def lost_share(self) -> float:
        """Of the moments that the last pass to its end was to look at, those whose pictures could not be decoded."""
        ...

    def frames(self, request: SamplingRequest) -> Iterator[Frame]:
        """Decode one pass. Raises a MediaError or DecodeError; frames given before it stay good."""
        ...


class FrameSource(Protocol):
    """The parent's side: opens a path in a killable child and hands its frames over."""

    def open(self, path: Path) -> AbstractContextManager[OpenMedia]: ...


FaceNet = Callable[[Float32], list[Float32]]
"""One of MTCNN's networks, called by several threads at once: float32 pixels 0..255 [N, H, W, 3] -> its outputs."""
FaceNets = tuple[FaceNet, FaceNet, FaceNet]
"""P-Net, R-Net and O-Net."""


class FaceDetector(Protocol):
    """Used by several threads at once."""

    def detect_small(
        self, small_BHWC: UInt8 | Sequence[UInt8], divisor: int, glances: Sequence[Glance] | None = None
    ) -> Detections:
        """All faces of equally sized frames (uint8 RGB), shrunk ``divisor`` times, in rising time; boxes in pixels of the full
        size. ``glances``: one of each frame, for detectors that follow faces. Never fails on a frame without a face."""
        ...


class Classifier(Protocol):
    """Scores crops, on several threads at once. The same crop gives the same scores in any batch and on any backend (within 1e-3
    in probability, fp32)."""

    @property
    def name(self) -> str:
        """Of the backend that runs."""
        ...

    def scores(self, crops_FHWC: UInt8) -> Scores:
        """uint8 RGB crops [F, S, S, 3], S the checkpoint's size -> log p(fake) - log p(real), uncalibrated; F from 0 upwards."""
        ...
