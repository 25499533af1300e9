"""One batch: which faces are cut, which of them vote, and that logits find their faces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from worker.look import FaceRules, look_at
from worker.pixels import rgb_frame
from worker.types import Detections, Frame, Glance, Scores, UInt8

SIDE = 200


class Faces:
    """Gives boxes by frame, and remembers what it was asked."""

    def __init__(self, *boxes: Sequence[tuple[float, float, float, float]], turns: Sequence[int] = ()) -> None:
        self._boxes, self._turns = boxes, turns
        self.times_s: list[float] = []

    def detect_small(
        self, small_BHWC: UInt8 | Sequence[UInt8], divisor: int, glances: Sequence[Glance] | None = None
    ) -> Detections:
        self.times_s = [glance.pts_s for glance in glances or ()]
        n = sum(map(len, self._boxes))
        return Detections(
            boxes_N4=np.array([box for boxes in self._boxes for box in boxes], np.float32).reshape(-1, 4),
            prob_N=np.linspace(0.9, 0.8, n, dtype=np.float32),
            landmarks_NK2=np.zeros((n, 5, 2), np.float32),
            frame_N=np.repeat(np.arange(len(self._boxes)), [len(boxes) for boxes in self._boxes]),
            turn_N=np.array(self._turns or [0] * n, np.int64),
        )


DRAWN_N = np.array([-1.0, 0.0, 1.0], np.float32)


class Grey:
    """The mean grey of a crop is its logit, and its draws lie about it; remembers the sizes of its batches."""

    name = "grey"

    def __init__(self, draws: bool = False) -> None:
        self.batches: list[int] = []
        self.draws = draws

    def scores(self, crops_FHWC: UInt8) -> Scores:
        self.batches.append(len(crops_FHWC))
        grey_F = crops_FHWC.mean((1, 2, 3)).astype(np.float32)
        return Scores(logit_F=grey_F, draws_FN=grey_F[:, None] + DRAWN_N if self.draws else None)


RULES = FaceRules(margin=1.0, size=64, min_vote_px=40, min_vote_quality=0.0, batch=2)


def frame(time_s: float, left: int, right: int) -> Frame:
    rgb_HWC = np.full((SIDE, SIDE, 3), left, np.uint8)
    rgb_HWC[:, SIDE // 2 :] = right
    return rgb_frame(time_s, rgb_HWC)


LEFT, RIGHT, TINY, SHARP = (10, 10, 70, 70), (110, 10, 190, 90), (10, 150, 40, 180), (110, 120, 165, 175)


def test_each_face_gets_the_score_of_its_own_crop_largest_first() -> None:
    classifier, detector = Grey(), Faces([LEFT, RIGHT], [], [RIGHT])
    look = look_at([frame(0.0, 10, 20), frame(1.0, 30, 40), frame(2.0, 50, 60)], detector, lambda: classifier, RULES)
    assert [[face.logit for face in seen.faces] for seen in look.frames] == [[20.0, 10.0], [], [60.0]]
    assert [seen.sighting.pts_s for seen in look.frames] == detector.times_s == [0.0, 1.0, 2.0]
    assert look.frames[0].faces[0].sighting.box_xyxy == RIGHT
    assert [face.prob for face in look.frames[0].faces] == [np.float32(0.85), np.float32(0.9)]
    assert classifier.batches == [2, 1], "faces of several frames together"
    assert min(look.detect_s, look.infer_s) >= 0.0


def test_each_face_gets_the_draws_of_its_own_crop() -> None:
    frames = [frame(0.0, 10, 20), frame(1.0, 30, 40)]
    look = look_at(frames, Faces([LEFT, TINY, RIGHT], [RIGHT]), lambda: Grey(draws=True), RULES)
    drawn = [[None if face.draws_N is None else face.draws_N.tolist() for face in seen.faces] for seen in look.frames]
    assert drawn == [[[19.0, 20.0, 21.0], [9.0, 10.0, 11.0], None], [[39.0, 40.0, 41.0]]]
    plain = look_at(frames[:1], Faces([LEFT, TINY, RIGHT]), lambda: Grey(), RULES)
    assert [face.draws_N for face in plain.frames[0].faces] == [None, None, None]


def test_faces_too_small_or_too_poor_are_told_but_not_scored() -> None:
    classifier = Grey()
    (seen,) = look_at([frame(0.0, 10, 20)], Faces([LEFT, TINY]), lambda: classifier, RULES).frames
    assert [(face.too_small, face.logit, face.crop_HWC is None) for face in seen.faces] == [
        (False, 10.0, False),
        (True, None, True),
    ]
    strict = FaceRules(margin=1.0, size=64, min_vote_px=40, min_vote_quality=0.5, batch=2)
    (flat,) = look_at([frame(0.0, 10, 20)], Faces([LEFT]), lambda: classifier, strict).frames
    assert [(face.quality, face.logit) for face in flat.faces] == [(0.0, None)], "a plain grey crop has no detail"
    assert classifier.batches == [1]


def test_turned_faces_are_scored_upright_and_told_where_they_are_shown() -> None:
    rgb_HWC = np.repeat(np.linspace(0, 255, SIDE).astype(np.uint8), SIDE * 3).reshape(SIDE, SIDE, 3)
    (seen,) = look_at([rgb_frame(0.0, rgb_HWC)], Faces([LEFT, RIGHT], turns=[0, 2]), lambda: Grey(), RULES).frames
    turned, upright = seen.faces
    assert turned.sighting.box_xyxy == RIGHT
    rows = [face.crop_HWC[:, 0, 0].astype(int) for face in (turned, upright) if face.crop_HWC is not None]
    assert [np.sign(np.diff(row[[0, -1]])).item() for row in rows] == [-1, 1]


def test_a_frame_is_kept_where_a_face_votes() -> None:
    given = [frame(0.0, 10, 20), frame(1.0, 10, 20)]
    voting, voteless = look_at(given, Faces([LEFT], [TINY]), lambda: Grey(), RULES).frames
    assert voting.small_HWC is not None
    assert np.array_equal(voting.small_HWC, given[0].small_HWC)
    assert voteless.small_HWC is None


@pytest.mark.parametrize(
    ("others", "is_crowded"), [([TINY], False), ([LEFT], False), ([LEFT, TINY], False), ([SHARP], True), ([LEFT, SHARP], True)]
)
def test_of_a_crowd_only_the_largest_are_looked_at(others: Sequence[tuple[int, int, int, int]], is_crowded: bool) -> None:
    """It is one where another face could vote: not the tiny one, nor the one without detail."""
    few = FaceRules(margin=1.0, size=64, min_vote_px=40, min_vote_quality=0.5, batch=2, faces_per_frame=1)
    rgb_HWC = np.full((SIDE, SIDE, 3), 20, np.uint8)
    rgb_HWC[SIDE // 2 :: 4] = 200
    (seen,) = look_at([rgb_frame(0.0, rgb_HWC)], Faces([*others, RIGHT]), lambda: Grey(), few).frames
    assert [face.sighting.box_xyxy for face in seen.faces] == [RIGHT]
    assert seen.is_crowded is is_crowded
