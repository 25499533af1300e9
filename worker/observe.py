"""What was seen in the looked-at frames of one item, in bounded memory: faces, tracks over all frames, evidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worker.evidence import CAPACITY, EvidenceStore
from worker.faces.track import FrameSighting, Linker, link
from worker.key_frames import KeyFrames
from worker.look import FaceLook, FrameLook, Look
from worker.types import Face, Float32


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
    key_frames: KeyFrames
    is_crowded: bool
    """Whether a frame was (``worker.look``)."""

    @property
    def frames_with_face(self) -> int:
        return sum(bool(frame.faces) for frame in self.frames)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Noted:
    """A face without its crop."""

    prob: float
    quality: float
    too_small: bool
    logit: float | None
    draws_N: Float32 | None


class Observer:
    """Notes down batches, in any order of batches; ``result`` may be asked for at any time."""

    def __init__(self, *, evidence_per_track: int) -> None:
        self._faces: list[_Noted] = []
        self._frames: list[FrameSighting] = []
        self._linker = Linker()
        self._tracks: list[tuple[int, ...]] = []
        """Provisional numbers, linked over the frames in the order in which they came."""
        self._is_crowded = False
        self._evidence = EvidenceStore(CAPACITY if evidence_per_track else 0)  # tracks may be parted at the end
        self._key_frames = KeyFrames() if evidence_per_track else KeyFrames(capacity=0)

    @property
    def n_frames(self) -> int:
        return len(self._frames)

    def note(self, look: Look) -> None:
        """Remember what a batch showed."""
        for frame in look.frames:
            self._frames.append(frame.sighting)
            self._is_crowded |= frame.is_crowded
            self._tracks.append(self._linker.add(frame.sighting))
            for track, face in zip(self._tracks[-1], frame.faces, strict=True):
                self._note_face(face, track, frame)

    def _note_face(self, face: FaceLook, track: int, frame: FrameLook) -> None:
        """``track`` is provisional, linked over the frames so far."""
        if face.crop_HWC is not None and face.logit is not None:
            self._evidence.offer(track, len(self._faces), face.logit, face.crop_HWC)
            if frame.small_HWC is not None:
                self._key_frames.offer(track, face.logit, frame.sighting.pts_s, frame.small_HWC)
        self._faces.append(
            _Noted(prob=face.prob, quality=face.quality, too_small=face.too_small, logit=face.logit, draws_N=face.draws_N)
        )

    def result(self) -> Observations:
        """Link tracks over all frames in rising time."""
        firsts = np.cumsum([0] + [len(frame.faces) for frame in self._frames])
        order = sorted(range(len(self._frames)), key=lambda i: self._frames[i].pts_s)
        came_rising = order == list(range(len(order)))
        tracks = self._tracks if came_rising else link([self._frames[i] for i in order])
        faces: dict[int, Face] = {}
        seen: list[FrameSeen] = []
        for place, frame_tracks in zip(order, tracks, strict=True):
            frame = self._frames[place]
            numbers = range(int(firsts[place]), int(firsts[place + 1]))
            for number, track, sighting in zip(numbers, frame_tracks, frame.faces, strict=True):
                noted = self._faces[number]
                faces[number] = Face(
                    pts_s=frame.pts_s,
                    box_xyxy=sighting.box_xyxy,
                    det_prob=noted.prob,
                    track=track,
                    quality=noted.quality,
                    logit=noted.logit,
                    too_small=noted.too_small,
                    draws_N=noted.draws_N,
                )
            seen.append(FrameSeen(pts_s=frame.pts_s, faces=tuple(numbers)))
        return Observations(
            frames=tuple(seen),
            faces=tuple(faces[n] for n in sorted(faces)),
            evidence=self._evidence,
            key_frames=self._key_frames,
            is_crowded=self._is_crowded,
        )
