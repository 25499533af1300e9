"""Frames -> faces -> scores: what was seen in the looked-at frames of one item, in bounded memory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from worker.evidence import EvidenceStore
from worker.faces.crop import crop_faces
from worker.faces.quality import face_quality
from worker.faces.track import FaceSighting, FrameSighting, Linker, describe_face, describe_frame, link
from worker.ports import Classifier, FaceDetector
from worker.types import Face, Float32, Frame, UInt8


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceRules:
    """How faces are cut and which of them vote; margin and size come from the checkpoint."""

    margin: float
    size: int
    min_vote_px: int
    min_vote_quality: float
    batch: int
    faces_per_frame: int = 64
    """Only the largest faces of a crowd are looked at."""


class StageClock(Protocol):
    detect: float
    infer: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameSeen:
    """A looked-at frame and the numbers of its faces in ``Observations.faces``."""

    pts_s: float
    faces: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observations:
    """Everything seen so far, frames in rising time, faces numbered as in ``frames``, tracks linked over all of them."""

    frames: tuple[FrameSeen, ...]
    faces: tuple[Face, ...]
    evidence: EvidenceStore

    @property
    def frames_with_face(self) -> int:
        return sum(bool(frame.faces) for frame in self.frames)


@dataclass(slots=True)
class _Sighted:
    pts_s: float
    box: tuple[float, float, float, float]
    prob: float
    quality: float
    too_small: bool
    logit: float | None


@dataclass(slots=True, kw_only=True)
class _Pending:
    """A face to be scored; ``track`` is provisional, linked over the frames so far."""

    number: int
    track: int
    crop_HWC: UInt8


class Observer:
    """Takes batches of equally sized frames, in any order of batches; ``result`` may be asked for at any time."""

    def __init__(
        self, detector: FaceDetector, classifier: Classifier, rules: FaceRules, clock: StageClock, *, evidence_per_track: int
    ) -> None:
        self._detector = detector
        self._classifier = classifier
        self._rules = rules
        self._clock = clock
        self._faces: list[_Sighted] = []
        self._frames: list[FrameSighting] = []
        self._linker = Linker()
        self._evidence = EvidenceStore(evidence_per_track)

    def look(self, frames: Sequence[Frame]) -> None:
        """Detect, cut and score the faces of one batch."""
        started = time.perf_counter()
        found = self._detector.detect([frame.rgb_HWC for frame in frames])
        self._clock.detect += time.perf_counter() - started
        pending: list[_Pending] = []
        for place, frame in enumerate(frames):
            mine = np.flatnonzero(found.frame_N == place)
            boxes = found.boxes_N4[mine]
            largest = np.argsort(-_areas(boxes), kind="stable")[: self._rules.faces_per_frame]
            mine, boxes = mine[largest], boxes[largest]
            cut = crop_faces(frame.rgb_HWC, boxes, margin=self._rules.margin, size=self._rules.size)
            numbers = self._note(frame, boxes, found.prob_N[mine], cut)
            tracks = self._linker.add(self._frames[-1])
            for number, track, crop in zip(numbers, tracks, cut, strict=True):
                face = self._faces[number]
                if not face.too_small and face.quality >= self._rules.min_vote_quality:
                    pending.append(_Pending(number=number, track=track, crop_HWC=crop))
        self._score(pending)

    def _note(self, frame: Frame, boxes_N4: Float32, prob_N: Float32, crops_NHWC: UInt8) -> list[int]:
        """Remember a frame's faces; returns their numbers."""
        sightings: list[FaceSighting] = []
        numbers: list[int] = []
        for box, prob, crop, quality in zip(boxes_N4, prob_N, crops_NHWC, face_quality(crops_NHWC), strict=True):
            x1, y1, x2, y2 = (float(v) for v in box)
            numbers.append(len(self._faces))
            self._faces.append(
                _Sighted(
                    pts_s=frame.pts_s,
                    box=(x1, y1, x2, y2),
                    prob=float(prob),
                    quality=float(quality),
                    too_small=min(x2 - x1, y2 - y1) < self._rules.min_vote_px,
                    logit=None,
                )
            )
            sightings.append(describe_face(box, crop))
        self._frames.append(describe_frame(frame.pts_s, frame.rgb_HWC, sightings))
        return numbers

    def _score(self, pending: Sequence[_Pending]) -> None:
        started = time.perf_counter()
        for start in range(0, len(pending), self._rules.batch):
            part = pending[start : start + self._rules.batch]
            logits = self._classifier.logits(np.stack([one.crop_HWC for one in part]))
            for one, logit in zip(part, logits, strict=True):
                self._faces[one.number].logit = float(logit)
                self._evidence.offer(one.track, one.number, float(logit), one.crop_HWC)
        self._clock.infer += time.perf_counter() - started

    def result(self) -> Observations:
        """Link tracks over all frames in rising time."""
        firsts = np.cumsum([0] + [len(frame.faces) for frame in self._frames])
        order = sorted(range(len(self._frames)), key=lambda i: self._frames[i].pts_s)
        tracks = link([self._frames[i] for i in order])
        number_of_track: dict[int, int] = {}
        seen: list[FrameSeen] = []
        for place, frame_tracks in zip(order, tracks, strict=True):
            numbers = range(int(firsts[place]), int(firsts[place + 1]))
            number_of_track |= dict(zip(numbers, frame_tracks, strict=True))
            seen.append(FrameSeen(pts_s=self._frames[place].pts_s, faces=tuple(numbers)))
        faces = tuple(
            Face(
                pts_s=face.pts_s,
                box_xyxy=face.box,
                det_prob=face.prob,
                track=number_of_track[number],
                quality=face.quality,
                logit=face.logit,
                too_small=face.too_small,
            )
            for number, face in enumerate(self._faces)
        )
        return Observations(frames=tuple(seen), faces=faces, evidence=self._evidence)


def _areas(boxes_N4: Float32) -> Float32:
    size = boxes_N4[:, 2:] - boxes_N4[:, :2]
    return np.asarray(size[:, 0] * size[:, 1], np.float32)
