"""Face detection by MTCNN (Zhang et al. 2016) in true batches, with facenet-pytorch's weights and arithmetic.

Boxes and landmarks equal ``facenet_pytorch.MTCNN(keep_all=True).detect`` on the same pixels, whatever the batch; see
tests/worker/faces/test_detect.py for the tolerance. Frames are first shrunk (``detection_scale``).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np

from worker.faces.candidates import AreaTable
from worker.faces.nets import CHUNK, Net, load_nets, packaged_nets
from worker.faces.suppress import suppress
from worker.pixels import PART_PX, detection_divisor
from worker.types import Detections, Float32, Int64, UInt8

PYRAMID_FACTOR = 0.709
WINDOW = 12
"""Side of P-Net's window, the size of a face at the pyramid level that finds it."""


def _shrink(frames_BHWC: Sequence[UInt8] | UInt8, k: int) -> UInt8:
    """Frames averaged over k x k pixels; the last rows and columns that fill no square are left out."""
    if k == 1:
        return np.asarray(frames_BHWC)
    height, width = (side // k for side in frames_BHWC[0].shape[:2])
    small_BHWC = np.empty((len(frames_BHWC), height, width, 3), np.uint8)
    for frame_HWC, out in zip(frames_BHWC, small_BHWC, strict=True):
        cv2.resize(frame_HWC[: height * k, : width * k], (width, height), out, interpolation=cv2.INTER_AREA)
    return small_BHWC


class MtcnnDetector:
    """A FaceDetector; a context manager that owns its threads.

    min_face_px: smallest face looked for, in pixels at detection scale. thresholds: least face probability for P-Net, R-Net and
    O-Net. threads: frames are shared out to this many threads. Raises ModelError if the networks cannot be loaded.
    """

    def __init__(
        self,
        nets_dir: Path | None = None,
        *,
        min_face_px: int = 40,
        thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7),
        threads: int = 2,
    ) -> None:
        if min_face_px < WINDOW:
            raise ValueError(f"min_face_px {min_face_px} must be at least {WINDOW}")
        self._pnet, self._rnet, self._onet = load_nets(nets_dir or packaged_nets())
        self._min_face_px = min_face_px
        self._thresholds = thresholds
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="faces")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the threads. The detector cannot be used afterwards."""
        self._pool.shutdown()

    def detect(self, frames_BHWC: UInt8 | Sequence[UInt8]) -> Detections:
        """All faces of full-resolution frames of one size (uint8 RGB); boxes and landmarks in their pixels."""
        return self.detect_at(frames_BHWC, detection_divisor(*frames_BHWC[0].shape[:2]) if len(frames_BHWC) else 1)

    def detect_at(self, frames_BHWC: UInt8 | Sequence[UInt8], divisor: int) -> Detections:
        """``detect`` at 1 / ``divisor`` of the frames' size; 1 looks at the frames as they are."""
        return self._detect(frames_BHWC, divisor, divisor)

    def detect_small(
        self, small_BHWC: UInt8 | Sequence[UInt8], divisor: int, times_s: Sequence[float] | None = None
    ) -> Detections:
        """``detect`` on frames that were shrunk before, ``divisor`` times (``detection_divisor`` of their full size); boxes and
        landmarks in pixels of the full size. Each frame by itself: ``times_s`` is for detectors that remember."""
        return self._detect(small_BHWC, 1, divisor)

    def _detect(self, frames_BHWC: UInt8 | Sequence[UInt8], shrink: int, divisor: int) -> Detections:
        """Faces of frames that are still to be shrunk ``shrink`` times, in pixels of frames ``divisor`` times the shrunk size."""
        n = len(frames_BHWC)
        if n == 0:
            return _no_faces()
        for frame_HWC in frames_BHWC:
            if frame_HWC.shape != frames_BHWC[0].shape or frame_HWC.ndim != 3 or frame_HWC.shape[2] != 3:
                raise ValueError(f"frames must be RGB and of one size: {frame_HWC.shape}, {frames_BHWC[0].shape}")
        height, width = frames_BHWC[0].shape[:2]
        fits = max(1, PART_PX * shrink**2 // max(1, height * width))
        size = min(fits, -(-n // self._threads))
        starts = range(0, n, size)
        parts = self._pool.map(lambda start: self._detect_part(_shrink(frames_BHWC[start : start + size], shrink)), starts)
        found = [_shifted(part, start, divisor) for start, part in zip(starts, parts, strict=True)]
        return Detections(
            boxes_N4=np.concatenate([part.boxes_N4 for part in found]),
            prob_N=np.concatenate([part.prob_N for part in found]),
            landmarks_NK2=np.concatenate([part.landmarks_NK2 for part in found]),
            frame_N=np.concatenate([part.frame_N for part in found]),
        )

    def _detect_part(self, frames_BHWC: UInt8) -> Detections:
        if min(frames_BHWC.shape[1:3]) < self._min_face_px:
            return _no_faces()
        table = AreaTable(frames_BHWC)
        boxes, frame = self._propose(table)
        boxes, frame = self._refine(table, boxes, frame)
        return self._output(table, boxes, frame)

    def _propose(self, table: AreaTable) -> tuple[Float32, Int64]:
        """Square candidates [N, 4] and their frames from P-Net over the pyramid."""
        found: list[tuple[Float32, Float32, Float32, Int64]] = []
        scale = WINDOW / self._min_face_px
        shorter = min(table.height, table.width) * scale
        while shorter >= WINDOW:
            prob, offset = self._pnet(table.level(int(table.height * scale + 1), int(table.width * scale + 1)))
            frame, y, x = np.nonzero(prob >= np.float32(self._thresholds[0]))
            corners = np.stack([x, y, x, y], 1) * 2 + np.array([1, 1, WINDOW, WINDOW])
            boxes = np.floor(corners.astype(np.float32) / np.float32(scale))
            score, offset = prob[frame, y, x], offset[frame, :, y, x]
            keep = suppress(boxes, score, frame, 0.5)
            found.append((boxes[keep], score[keep], offset[keep], frame[keep]))
            scale, shorter = scale * PYRAMID_FACTOR, shorter * PYRAMID_FACTOR
        boxes, score, offset = (np.concatenate([level[i] for level in found]) for i in range(3))
        frame = np.concatenate([level[3] for level in found])
        keep = suppress(boxes, score, frame, 0.7)
        return _squared(_moved(boxes[keep], offset[keep], 0)), frame[keep]

    def _refine(self, table: AreaTable, boxes_N4: Float32, frame_N: Int64) -> tuple[Float32, Int64]:
        """The square candidates that R-Net confirms, moved."""
        boxes_N4, frame_N, (prob, offset) = _run(self._rnet, table, boxes_N4, frame_N, side=24, widths=(0, 4))
        sure = np.flatnonzero(prob > np.float32(self._thresholds[1]))
        keep = sure[suppress(boxes_N4[sure], prob[sure], frame_N[sure], 0.7)]
        return _squared(_moved(boxes_N4[keep], offset[keep], 1)), frame_N[keep]

    def _output(self, table: AreaTable, boxes_N4: Float32, frame_N: Int64) -> Detections:
        """The faces that O-Net confirms, with landmarks."""
        boxes_N4, frame_N, (prob, offset, points) = _run(self._onet, table, boxes_N4, frame_N, side=48, widths=(0, 4, 10))
        sure = np.flatnonzero(prob > np.float32(self._thresholds[2]))
        boxes_N4, prob, frame_N = boxes_N4[sure], prob[sure], frame_N[sure]
        size = boxes_N4[:, 2:] - boxes_N4[:, :2] + 1
        landmarks = points[sure].reshape(-1, 2, 5).transpose(0, 2, 1) * size[:, None] + boxes_N4[:, None, :2] - 1
        boxes_N4 = _moved(boxes_N4, offset[sure], 1)
        keep = suppress(boxes_N4, prob, frame_N, 0.7, over_smaller=True)
        return Detections(
            boxes_N4=boxes_N4[keep],
            prob_N=prob[keep],
            landmarks_NK2=landmarks[keep].astype(np.float32),
            frame_N=frame_N[keep],
        )


def _no_faces() -> Detections:
    return Detections(
        boxes_N4=np.empty((0, 4), np.float32),
        prob_N=np.empty(0, np.float32),
        landmarks_NK2=np.empty((0, 5, 2), np.float32),
        frame_N=np.empty(0, np.int64),
    )


def _shifted(part: Detections, first_frame: int, divisor: int) -> Detections:
    return Detections(
        boxes_N4=part.boxes_N4 * np.float32(divisor),
        prob_N=part.prob_N,
        landmarks_NK2=part.landmarks_NK2 * np.float32(divisor),
        frame_N=part.frame_N + first_frame,
    )


def _squared(boxes_N4: Float32) -> Float32:
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
    net: Net, table: AreaTable, boxes_N4: Float32, frame_N: Int64, *, side: int, widths: tuple[int, ...]
) -> tuple[Float32, Int64, list[Float32]]:
    """A network on the crops of all candidates, a chunk at a time; candidates wholly outside the frame are dropped.

    MTCNN counts pixels from 1 and boxes include their last one. ``widths`` are those of the outputs, 0 for a flat one.
    """
    whole = np.trunc(boxes_N4).astype(np.int64)
    cut = np.hstack([np.maximum(whole[:, :2], 1) - 1, np.minimum(whole[:, 2:], [table.width, table.height])])
    inside = (cut[:, 2:] > cut[:, :2]).all(axis=1)
    boxes_N4, frame_N, cut = boxes_N4[inside], frame_N[inside], cut[inside]
    outputs = [[np.empty((0, width) if width else 0, np.float32)] for width in widths]
    for start in range(0, len(cut), CHUNK):
        chunk = slice(start, start + CHUNK)
        for collected, output in zip(outputs, net(table.crops(cut[chunk], frame_N[chunk], side)), strict=True):
            collected.append(output)
    return boxes_N4, frame_N, [np.concatenate(collected) for collected in outputs]
