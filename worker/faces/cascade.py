"""MTCNN's three stages over a batch of frames (Zhang et al. 2016): candidates, refined, confirmed with landmarks."""

from __future__ import annotations

import numpy as np

from worker.faces.candidates import AreaTable, SingleCuts
from worker.faces.nets import PIXELS_AT_ONCE
from worker.faces.suppress import suppress
from worker.ports import FaceNet, FaceNets
from worker.types import Detections, Float32, Int64

PYRAMID_FACTOR = 0.709
WINDOW = 12
"""Side of P-Net's window, the size of a face at the pyramid level that finds it."""
THRESHOLDS = (0.6, 0.7, 0.7)
"""Least face probability for P-Net, R-Net and O-Net."""
SURE = 0.995
"""O-Net's probability from which a face is upright. Frames without such a face may be shown upside down or on their side: there
candidates are also looked at turned (docs/decisions/0015-turned-faces.md)."""
LESS_DOUBT = 200
"""A candidate is taken for turned where one minus its probability then falls to less than one in so many,"""
LEAN = 0.3
"""and it then leans by no more: so much across, from the eyes to the mouth, for each step down (17 degrees)."""


class Cascade:
    """The stages; used by several threads at once. All boxes are in pixels of the frames that it is given;
    ``min_face_px``: smallest face looked for."""

    def __init__(self, nets: FaceNets, *, min_face_px: int) -> None:
        if min_face_px < WINDOW:
            raise ValueError(f"min_face_px {min_face_px} must be at least {WINDOW}")
        self._pnet, self._rnet, self._onet = nets
        self._min_face_px = min_face_px

    def detect(self, table: AreaTable) -> Detections:
        """All faces of the frames."""
        if min(table.height, table.width) < self._min_face_px:
            return no_faces()
        boxes, frame = self._propose(table)
        boxes, frame = self._refine(table, boxes, frame)
        return self.confirm(table, boxes, frame)

    def _propose(self, table: AreaTable) -> tuple[Float32, Int64]:
        """Square candidates [N, 4] and their frames from P-Net over the pyramid."""
        found: list[tuple[Float32, Float32, Float32, Int64]] = []
        scale = WINDOW / self._min_face_px
        shorter = min(table.height, table.width) * WINDOW / self._min_face_px  # "* scale" may round to below WINDOW
        while shorter >= WINDOW:
            prob, offset = self._pnet(table.level(int(table.height * scale + 1), int(table.width * scale + 1)))
            frame, y, x = np.nonzero(prob >= np.float32(THRESHOLDS[0]))
            corners = np.stack([x, y, x, y], 1) * 2 + np.array([1, 1, WINDOW, WINDOW])
            boxes = np.floor(corners.astype(np.float32) / np.float32(scale))
            score, offset = prob[frame, y, x], offset[frame, :, y, x]
            keep = suppress(boxes, score, frame, 0.5)
            found.append((boxes[keep], score[keep], offset[keep], frame[keep]))
            scale, shorter = scale * PYRAMID_FACTOR, shorter * PYRAMID_FACTOR
        boxes, score, offset = (np.concatenate([level[i] for level in found]) for i in range(3))
        frame = np.concatenate([level[3] for level in found])
        keep = suppress(boxes, score, frame, 0.7)
        return squared(_moved(boxes[keep], offset[keep], 0)), frame[keep]

    def _refine(self, table: AreaTable, boxes_N4: Float32, frame_N: Int64) -> tuple[Float32, Int64]:
        """The square candidates that R-Net confirms, moved."""
        boxes_N4, frame_N, (prob, offset) = _run(self._rnet, table, boxes_N4, frame_N, side=24, widths=(0, 4))
        sure = np.flatnonzero(prob > np.float32(THRESHOLDS[1]))
        keep = sure[suppress(boxes_N4[sure], prob[sure], frame_N[sure], 0.7)]
        return squared(_moved(boxes_N4[keep], offset[keep], 1)), frame_N[keep]

    def confirm(self, table: AreaTable | SingleCuts, boxes_N4: Float32, frame_N: Int64) -> Detections:
        """The faces that O-Net confirms among square candidates, with landmarks; grouped by rising frame."""
        boxes_N4, frame_N, upright = _run(self._onet, table, boxes_N4, frame_N, side=48, widths=(0, 4, 10))
        prob, offset, points, turn = *upright, np.zeros(len(frame_N), np.float32)
        weak = np.flatnonzero(~np.isin(frame_N, frame_N[prob >= np.float32(SURE)]))
        _, _, turned = _run(self._turned, table, boxes_N4[weak], frame_N[weak], side=48, widths=(0, 4, 10, 0))
        better = (1 - turned[0]) * np.float32(LESS_DOUBT) < 1 - prob[weak]
        for told, instead in zip((prob, offset, points, turn), turned, strict=True):
            told[weak[better]] = instead[better]
        found = np.flatnonzero(prob > np.float32(THRESHOLDS[2]))
        boxes_N4, prob, frame_N, turn = boxes_N4[found], prob[found], frame_N[found], turn[found]
        size = boxes_N4[:, 2:] - boxes_N4[:, :2] + 1
        landmarks = points[found].reshape(-1, 2, 5).transpose(0, 2, 1) * size[:, None] + boxes_N4[:, None, :2] - 1
        boxes_N4 = _moved(boxes_N4, offset[found], 1)
        keep = suppress(boxes_N4, prob, frame_N, 0.7, over_smaller=True)
        if turn.any():  # what lies half upon a turned face is that face, found as if it stood
            apart = suppress(boxes_N4[keep], prob[keep], frame_N[keep], 0.4, over_smaller=True)
            keep = keep[np.isin(np.arange(len(keep)), apart) | ~np.isin(frame_N[keep], frame_N[turn > 0])]
        return Detections(
            boxes_N4=boxes_N4[keep],
            prob_N=prob[keep],
            landmarks_NK2=landmarks[keep].astype(np.float32),
            frame_N=frame_N[keep],
            turn_N=turn[keep].astype(np.int64),
        )

    def _turned(self, pictures_NHWC: Float32) -> list[Float32]:
        """O-Net's answers on pictures turned by one, two or three quarters, whichever it finds most probable, with offsets and
        landmarks as they are in the picture; and the number of quarters. Probability 0 where no turn makes the face stand."""
        answers = []
        for turn in (1, 2, 3):
            prob, offset, points = self._onet(np.ascontiguousarray(np.rot90(pictures_NHWC, turn, axes=(1, 2))))
            across, down = (at[:, 3] + at[:, 4] - at[:, 0] - at[:, 1] for at in (points[:, :5], points[:, 5:]))
            prob = np.where(np.abs(across) <= np.float32(LEAN) * down, prob, np.float32(0))
            for _ in range(turn):
                left, top, right, bottom = offset.T
                offset = np.stack([-bottom, left, -top, right], axis=1)
                points = np.hstack([1 - points[:, 5:], points[:, :5]])
            answers.append((prob, offset, points, np.full(len(prob), turn, np.float32)))
        best = np.argmax([prob for prob, *_ in answers], axis=0)
        return [np.stack(told)[best, np.arange(len(best))] for told in zip(*answers, strict=True)]


def no_faces() -> Detections:
    """An empty answer."""
    return Detections(
        boxes_N4=np.empty((0, 4), np.float32),
        prob_N=np.empty(0, np.float32),
        landmarks_NK2=np.empty((0, 5, 2), np.float32),
        frame_N=np.empty(0, np.int64),
        turn_N=np.empty(0, np.int64),
    )


def squared(boxes_N4: Float32) -> Float32:
    """Squares about the same centres, as wide as the longer side."""
    size = boxes_N4[:, 2:] - boxes_N4[:, :2]
    side = size.max(axis=1, keepdims=True)
    start = boxes_N4[:, :2] + size * np.float32(0.5) - side * np.float32(0.5)
    return np.hstack([start, start + side])


def _moved(boxes_N4: Float32, offset_N4: Float32, one: int) -> Float32:
    """Corners moved by offsets in units of the box, which counts ``one`` pixel more than end - start."""
    size = boxes_N4[:, 2:] - boxes_N4[:, :2] + np.float32(one)
    return boxes_N4 + offset_N4 * np.hstack([size, size])


def _run(
    net: FaceNet, table: AreaTable | SingleCuts, boxes_N4: Float32, frame_N: Int64, *, side: int, widths: tuple[int, ...]
) -> tuple[Float32, Int64, list[Float32]]:
    """A network on the crops of all candidates, a chunk at a time; candidates wholly outside the frame are dropped.

    MTCNN counts pixels from 1 and boxes include their last one. ``widths`` are those of the outputs, 0 for a flat one.
    """
    whole = np.trunc(boxes_N4).astype(np.int64)
    cut = np.hstack([np.maximum(whole[:, :2], 1) - 1, np.minimum(whole[:, 2:], [table.width, table.height])])
    inside = (cut[:, 2:] > cut[:, :2]).all(axis=1)
    boxes_N4, frame_N, cut = boxes_N4[inside], frame_N[inside], cut[inside]
    outputs = [[np.empty((0, width) if width else 0, np.float32)] for width in widths]
    at_once = PIXELS_AT_ONCE // side**2
    for start in range(0, len(cut), at_once):
        chunk = slice(start, start + at_once)
        for collected, output in zip(outputs, net(table.crops(cut[chunk], frame_N[chunk], side)), strict=True):
            collected.append(output)
    return boxes_N4, frame_N, [np.concatenate(collected) for collected in outputs]
