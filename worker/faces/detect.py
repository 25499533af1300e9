"""Face detection by MTCNN (Zhang et al. 2016) in true batches, with facenet-pytorch's weights and arithmetic.

Boxes and landmarks equal ``facenet_pytorch.MTCNN(keep_all=True).detect`` on the same pixels, whatever the batch; see
tests/worker/faces/test_detect.py for the tolerance. Faces upside down or on their side, which that finds badly, are found turned
(``Detections.turn_N``). Frames are first shrunk (``worker.pixels.detection_divisor``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

import numpy as np

from worker.faces.candidates import AreaTable, SingleCuts
from worker.faces.cascade import Cascade, no_faces, squared
from worker.faces.nets import load_nets, packaged_nets
from worker.pixels import PART_PX, detection_divisor, shrink
from worker.ports import FaceNets
from worker.types import Detections, Float32, Glance, Int64, UInt8


def _shrunk(frames_BHWC: Sequence[UInt8] | UInt8, times: int) -> UInt8:
    return np.asarray(frames_BHWC if times == 1 else [shrink(frame_HWC, times) for frame_HWC in frames_BHWC])


class MtcnnDetector:
    """A FaceDetector; a context manager that owns its threads.

    min_face_px: smallest face looked for, in pixels at detection scale. threads: frames are shared out to this many threads.
    nets: those of another runtime (``worker.backends.face_nets``); the packaged ones when None. Raises ModelError if those cannot
    be loaded.
    """

    def __init__(
        self,
        nets: FaceNets | None = None,
        *,
        min_face_px: int = 40,
        threads: int = 2,
    ) -> None:
        self._cascade = Cascade(nets or load_nets(packaged_nets()), min_face_px=min_face_px)
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
        self, small_BHWC: UInt8 | Sequence[UInt8], divisor: int, glances: Sequence[Glance] | None = None
    ) -> Detections:
        """``detect`` on frames that were shrunk before, ``divisor`` times (``detection_divisor`` of their full size); boxes and
        landmarks in pixels of the full size. Each frame by itself: ``glances`` are for detectors that remember."""
        return self._detect(small_BHWC, 1, divisor)

    def confirm_small(self, small_BHWC: UInt8 | Sequence[UInt8], boxes_N4: Float32, frame_N: Int64, divisor: int) -> Detections:
        """The faces that O-Net alone finds at these boxes (pixels of the full size, grouped by rising frame), moved to fit."""
        square_N4 = squared(boxes_N4 / np.float32(divisor))

        def confirmed(part: slice) -> Detections:
            mine = (frame_N >= part.start) & (frame_N < part.stop)
            return self._cascade.confirm(SingleCuts(small_BHWC[part]), square_N4[mine], frame_N[mine] - part.start)

        return self._in_parts(small_BHWC, 1, divisor, confirmed)

    def _detect(self, frames_BHWC: UInt8 | Sequence[UInt8], times: int, divisor: int) -> Detections:
        """Faces of frames still to be shrunk ``times`` times over, in pixels of frames ``divisor`` times the shrunk size."""
        return self._in_parts(
            frames_BHWC, times, divisor, lambda part: self._cascade.detect(AreaTable(_shrunk(frames_BHWC[part], times)))
        )

    def _in_parts(
        self,
        frames_BHWC: UInt8 | Sequence[UInt8],
        times: int,
        divisor: int,
        find: Callable[[slice], Detections],
    ) -> Detections:
        """The faces that ``find`` gives for each part of the frames, in pixels of the full size."""
        n = len(frames_BHWC)
        if n == 0:
            return no_faces()
        for frame_HWC in frames_BHWC:
            if frame_HWC.shape != frames_BHWC[0].shape or frame_HWC.ndim != 3 or frame_HWC.shape[2] != 3:
                raise ValueError(f"frames must be RGB and of one size: {frame_HWC.shape}, {frames_BHWC[0].shape}")
        height, width = frames_BHWC[0].shape[:2]
        fits = max(1, PART_PX * times**2 // max(1, height * width))
        size = min(fits, -(-n // self._threads))
        slices = [slice(start, start + size) for start in range(0, n, size)]
        spread = map if self._threads == 1 else self._pool.map
        found = [_shifted(part, place.start, divisor) for place, part in zip(slices, spread(find, slices), strict=True)]
        return Detections(
            boxes_N4=np.concatenate([part.boxes_N4 for part in found]),
            prob_N=np.concatenate([part.prob_N for part in found]),
            landmarks_NK2=np.concatenate([part.landmarks_NK2 for part in found]),
            frame_N=np.concatenate([part.frame_N for part in found]),
            turn_N=np.concatenate([part.turn_N for part in found]),
        )


def _shifted(part: Detections, first_frame: int, divisor: int) -> Detections:
    return Detections(
        boxes_N4=part.boxes_N4 * np.float32(divisor),
        prob_N=part.prob_N,
        landmarks_NK2=part.landmarks_NK2 * np.float32(divisor),
        frame_N=part.frame_N + first_frame,
        turn_N=part.turn_N,
    )
