"""Carrying: between fully detected frames of a shot, MTCNN's last network alone follows each face.

The first and the last frame of a stretch are detected in full, and some between (*anchors*). On the line between a face's
places in the two anchors around a frame lies the candidate that O-Net is asked about. The frame is detected in full after all
where O-Net is not sure of every face, moves one far, or where the two anchors do not show the same faces, all upright. So a face
is missed only if it comes and goes between two anchors that show others; docs/decisions/0010-carrying.md says how often that is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from worker.faces.cascade import no_faces
from worker.faces.detect import MtcnnDetector
from worker.faces.track import is_cut
from worker.types import Detections, Float32, Glance, Int64, UInt8

MAX_GAP_S = 1.0
"""Frames farther apart are always detected in full."""
EVERY = 15
"""Most steps from one anchor to the next."""
MIN_PROB = 0.9
"""O-Net's least probability of a carried face; 0.7 is asked of a detected one."""
SAME_BEFORE, SAME_AFTER = 0.3, 0.5
"""Least IoU of a face's boxes in two anchors, and of its box with the one that was carried."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Follow:
    """A frame between two anchors, and the boxes of the faces to be looked for in it."""

    frame: int
    boxes_N4: Float32


class CarryingDetector:
    """A FaceDetector that carries faces within each batch: it remembers nothing, so a batch is always answered alike."""

    def __init__(self, detector: MtcnnDetector) -> None:
        self._detector = detector

    def detect_small(
        self, small_BHWC: UInt8 | Sequence[UInt8], divisor: int, glances: Sequence[Glance] | None = None
    ) -> Detections:
        """As ``MtcnnDetector.detect_small``, except between anchors. Without ``glances`` all frames are detected in full."""
        if glances is None:
            return self._detector.detect_small(small_BHWC, divisor)
        marks = [anchors(stretch) for stretch in stretches(glances)]
        seen = self._full(small_BHWC, [frame for mark in marks for frame in mark], divisor)
        follows = [follow for mark in marks for follow in _follows(mark, [glance.pts_s for glance in glances], seen)]
        seen |= self._followed(small_BHWC, follows, divisor)
        seen |= self._full(small_BHWC, [frame for frame in range(len(small_BHWC)) if frame not in seen], divisor)
        return _joined([seen[frame] for frame in range(len(small_BHWC))])

    def _full(self, small_BHWC: UInt8 | Sequence[UInt8], frames: Sequence[int], divisor: int) -> dict[int, Detections]:
        found = self._detector.detect_small([small_BHWC[frame] for frame in frames], divisor)
        return dict(zip(frames, _by_frame(found, len(frames)), strict=True))

    def _followed(self, small_BHWC: UInt8 | Sequence[UInt8], follows: Sequence[_Follow], divisor: int) -> dict[int, Detections]:
        """The frames in which every face was found again."""
        if not follows:
            return {}
        found = self._detector.confirm_small(
            [small_BHWC[follow.frame] for follow in follows],
            np.concatenate([follow.boxes_N4 for follow in follows]),
            np.repeat(np.arange(len(follows)), [len(follow.boxes_N4) for follow in follows]),
            divisor,
        )
        answers = zip(follows, _by_frame(found, len(follows)), strict=True)
        return {
            follow.frame: faces
            for follow, faces in answers
            if (faces.prob_N >= MIN_PROB).all() and pairs(follow.boxes_N4, faces.boxes_N4, SAME_AFTER) is not None
        }


def stretches(frames: Sequence[Glance]) -> list[range]:
    """The frames, divided where a shot ends, or more than ``MAX_GAP_S`` lie between two, or time steps back."""
    ends = [
        after
        for after in range(1, len(frames))
        if not 0 < frames[after].pts_s - frames[after - 1].pts_s <= MAX_GAP_S or is_cut(frames[after - 1], frames[after])
    ]
    bounds = [0, *ends, len(frames)]
    return [range(start, end) for start, end in pairwise(bounds) if end > start]


def anchors(stretch: range) -> list[int]:
    """Both ends of a stretch, and as few frames between, evenly spread, as leave no more than ``EVERY`` steps."""
    steps = len(stretch) - 1
    parts = -(-steps // EVERY)
    return [stretch[part * steps // parts] for part in range(parts + 1)] if steps else [stretch[0]]


def pairs(boxes_N4: Float32, others_N4: Float32, least_iou: float) -> list[int] | None:
    """For each box the other box that is the same face; None unless they pair off without rest."""
    if len(boxes_N4) != len(others_N4):
        return None
    if len(boxes_N4) == 0:
        return []
    a, b = boxes_N4[:, None], others_N4[None]
    shared = np.maximum(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0).prod(-1)
    iou = shared / np.maximum((a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - shared, 1e-3)
    best = iou.argmax(axis=1)
    if iou.max(axis=1).min() < least_iou or len(np.unique(best)) < len(best):
        return None
    return [int(other) for other in best]


def _follows(mark: Sequence[int], times_s: Sequence[float], seen: dict[int, Detections]) -> list[_Follow]:
    """What to look for between the anchors of one stretch; frames between anchors that differ, or show
    no face, or a turned one, are left out."""
    follows: list[_Follow] = []
    for before, after in pairwise(mark):
        start, end = seen[before].boxes_N4, seen[after].boxes_N4
        order = pairs(start, end, SAME_BEFORE)
        if not order or seen[before].turn_N.any() or seen[after].turn_N.any():
            continue
        for frame in range(before + 1, after):
            share = np.float32((times_s[frame] - times_s[before]) / (times_s[after] - times_s[before]))
            follows.append(_Follow(frame=frame, boxes_N4=start + share * (end[order] - start)))
    return follows


def _by_frame(found: Detections, count: int) -> list[Detections]:
    return [_chosen(found, np.flatnonzero(found.frame_N == frame)) for frame in range(count)]


def _chosen(found: Detections, index_N: Int64) -> Detections:
    return Detections(
        boxes_N4=found.boxes_N4[index_N],
        prob_N=found.prob_N[index_N],
        landmarks_NK2=found.landmarks_NK2[index_N],
        frame_N=found.frame_N[index_N],
        turn_N=found.turn_N[index_N],
    )


def _joined(frames: Sequence[Detections]) -> Detections:
    """Faces of the frames in their order."""
    if not frames:
        return no_faces()
    return Detections(
        boxes_N4=np.concatenate([frame.boxes_N4 for frame in frames]),
        prob_N=np.concatenate([frame.prob_N for frame in frames]),
        landmarks_NK2=np.concatenate([frame.landmarks_NK2 for frame in frames]),
        frame_N=np.repeat(np.arange(len(frames)), [len(frame) for frame in frames]),
        turn_N=np.concatenate([frame.turn_N for frame in frames]),
    )
