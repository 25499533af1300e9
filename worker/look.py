"""What a batch of frames shows: faces found, cut out, judged and scored. It may run on any thread, and on several at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat

import numpy as np
import numpy.typing as npt

from worker.faces.crop import crop_faces
from worker.faces.quality import face_quality
from worker.faces.track import FaceSighting, FrameSighting, describe_face, describe_frame
from worker.ports import Classifier, FaceDetector
from worker.types import Float32, Frame, Int64, UInt8


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FaceLook:
    """One face. Those that vote have a ``logit``, and their crop is kept."""

    sighting: FaceSighting
    prob: float
    quality: float
    too_small: bool
    logit: float | None
    crop_HWC: UInt8 | None
    draws_N: Float32 | None = None
    """Of a head that draws."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameLook:
    """One frame: what linking needs of it, and its faces, in the order of ``sighting.faces``."""

    sighting: FrameSighting
    faces: tuple[FaceLook, ...]
    small_HWC: UInt8 | None = None
    """It at detection scale, where a face votes: a view, which holds all of the frame's memory until the look is noted."""
    is_crowded: bool = False
    """Whether a face that could vote was not looked at, as there were enough larger ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A batch, its frames in the order in which they were given, and the seconds that it took."""

    frames: tuple[FrameLook, ...]
    detect_s: float
    infer_s: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Cut:
    """The faces of one frame, largest first, cut out and not yet scored."""

    boxes_N4: Float32
    prob_N: Float32
    crops_NHWC: UInt8
    quality_N: Float32
    too_small_N: npt.NDArray[np.bool_]
    votes_N: npt.NDArray[np.bool_]
    is_crowded: bool


def look_at(frames: Sequence[Frame], detector: FaceDetector, classifier: Callable[[], Classifier], rules: FaceRules) -> Look:
    """Detect, cut and score the faces of equally sized frames in rising time, which are not needed afterwards. ``classifier`` is
    asked for once the faces are cut, and may have to be waited for: no part of the seconds told."""
    started = time.perf_counter()
    glances = [describe_frame(frame.pts_s, frame.small_HWC, ()) for frame in frames]
    found = detector.detect_small([frame.small_HWC for frame in frames], frames[0].divisor, glances)
    detected = time.perf_counter()
    places = (found.frame_N == place for place in range(len(frames)))
    cuts = [
        _cut(frame, found.boxes_N4[mine], found.prob_N[mine], found.turn_N[mine], rules)
        for frame, mine in zip(frames, places, strict=True)
    ]
    scorer = classifier()
    cut = time.perf_counter()
    scores = _scores(np.concatenate([one.crops_NHWC[one.votes_N] for one in cuts]), scorer, rules.batch)
    seen = tuple(_seen(frame, glance, one, scores) for frame, glance, one in zip(frames, glances, cuts, strict=True))
    return Look(frames=seen, detect_s=detected - started, infer_s=time.perf_counter() - cut)


def _cut(frame: Frame, boxes_N4: Float32, prob_N: Float32, turn_N: Int64, rules: FaceRules) -> _Cut:
    size_N2 = boxes_N4[:, 2:] - boxes_N4[:, :2]
    order = np.argsort(-size_N2.prod(axis=1), kind="stable")
    too_small_N = size_N2.min(axis=1, initial=np.inf) < rules.min_vote_px

    def cut_out(which_K: Int64) -> tuple[UInt8, Float32]:
        """Crops and their quality."""
        crops_KHWC = crop_faces(frame.pixels, boxes_N4[which_K], turn_N=turn_N[which_K], margin=rules.margin, size=rules.size)
        return crops_KHWC, face_quality(crops_KHWC)

    largest, others = order[: rules.faces_per_frame], order[rules.faces_per_frame :]
    crops_NHWC, quality_N = cut_out(largest)
    is_crowded = any(cut_out(other[None])[1] >= rules.min_vote_quality for other in others[~too_small_N[others]])
    too_small_N = too_small_N[largest]
    return _Cut(
        boxes_N4=boxes_N4[largest],
        prob_N=prob_N[largest],
        crops_NHWC=crops_NHWC,
        quality_N=quality_N,
        too_small_N=too_small_N,
        votes_N=~too_small_N & (quality_N >= rules.min_vote_quality),
        is_crowded=is_crowded,
    )


def _scores(crops_FHWC: UInt8, classifier: Classifier, batch: int) -> Iterator[tuple[float, Float32 | None]]:
    """Logit and draws of each crop."""
    for start in range(0, len(crops_FHWC), batch):
        scores = classifier.scores(crops_FHWC[start : start + batch])
        yield from zip(scores.logit_F.tolist(), repeat(None) if scores.draws_FN is None else scores.draws_FN, strict=False)


def _seen(frame: Frame, glance: FrameSighting, cut: _Cut, scores: Iterator[tuple[float, Float32 | None]]) -> FrameLook:
    """``scores``: those of the faces that vote, of this frame first."""
    votes = [next(scores) if votes else (None, None) for votes in cut.votes_N]
    faces = tuple(
        FaceLook(
            sighting=describe_face(cut.boxes_N4[i], cut.crops_NHWC[i]),
            prob=float(cut.prob_N[i]),
            quality=float(cut.quality_N[i]),
            too_small=bool(cut.too_small_N[i]),
            logit=votes[i][0],
            crop_HWC=cut.crops_NHWC[i] if cut.votes_N[i] else None,
            draws_N=votes[i][1],
        )
        for i in range(len(cut.boxes_N4))
    )
    sighting = replace(glance, faces=tuple(face.sighting for face in faces))
    small_HWC = frame.small_HWC if cut.votes_N.any() else None
    return FrameLook(sighting=sighting, faces=faces, small_HWC=small_HWC, is_crowded=cut.is_crowded)
