"""Finding faces: our detector, with carrying or not, and facenet-pytorch's; decoding and shrinking are done before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from optimize.bench.rivals.by_decord import decode
from optimize.bench.side import Answer
from worker.faces.carry import CarryingDetector
from worker.faces.detect import MtcnnDetector
from worker.faces.track import describe_frame
from worker.overlap import Crew
from worker.pixels import detection_divisor
from worker.ports import FaceDetector
from worker.settings import FaceSettings, Settings
from worker.types import Float32, Json, UInt8

Find = Callable[[UInt8, list[float]], list[Float32]]
"""Boxes [N, 4] of each shrunk frame at its time, in pixels of the full size."""


@contextmanager
def build(options: Json, threads: int) -> Iterator[Answer]:
    """``options``: ``kind``, one of ``ours``, ``carrying``, ``a`` and ``b`` (those of the reference pipelines).

    A request: ``path`` and ``times_s``. The frames of the last request's file are kept, shrunk: the second answer about a file is
    detection alone; with ``boxes``, all are given.
    """
    kind = options["kind"]
    with (
        _ours(threads, carrying=kind == "carrying") if kind in ("ours", "carrying") else _reference(kind, threads) as (
            divisor_of,
            find,
        )
    ):
        path, small_BHWC = "", np.empty(0, np.uint8)

        def detect(request: Json) -> Json:
            nonlocal path, small_BHWC
            if path != request["path"]:
                frames_BHWC = decode(Path(request["path"]), request["times_s"], threads)
                path, small_BHWC = request["path"], _shrunk(frames_BHWC, divisor_of(*frames_BHWC.shape[1:3]))
            found = find(small_BHWC, request["times_s"])
            reply: Json = {"frames": len(found), "faces": sum(map(len, found))}
            if request.get("boxes"):
                reply["boxes"] = [boxes.tolist() for boxes in found]
            return reply

        yield detect


def _shrunk(frames_BHWC: UInt8, divisor: int) -> UInt8:
    if divisor == 1:
        return frames_BHWC
    height, width = (side // divisor for side in frames_BHWC.shape[1:3])
    whole = frames_BHWC[:, : height * divisor, : width * divisor]
    return np.stack([cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA) for frame in whole])


@contextmanager
def _ours(threads: int, *, carrying: bool) -> Iterator[tuple[Callable[[int, int], int], Find]]:
    """As a scan does it: batches side by side, each on one thread."""
    faces = Settings(faces=FaceSettings(carry=carrying)).faces
    together = faces.frames_together
    with MtcnnDetector(min_face_px=faces.min_face_px, threads=1) as plain, Crew(threads) as crew:
        detector: FaceDetector = CarryingDetector(plain) if carrying else plain

        def find(small_BHWC: UInt8, times_s: list[float]) -> list[Float32]:
            def in_part(part: slice) -> list[Float32]:
                glances = [describe_frame(at, small, ()) for at, small in zip(times_s[part], small_BHWC[part], strict=True)]
                found = detector.detect_small(small_BHWC[part], divisor[0], glances)
                return [found.boxes_N4[found.frame_N == n] for n in range(len(small_BHWC[part]))]

            parts = (slice(start, start + together) for start in range(0, len(small_BHWC), together))
            with closing(crew.map(in_part, parts)) as found:
                return [boxes_N4 for boxes in found for boxes_N4 in boxes]

        divisor = [1]

        def divisor_of(height: int, width: int) -> int:
            divisor[0] = detection_divisor(height, width)
            return divisor[0]

        yield divisor_of, find


@contextmanager
def _reference(mode: Literal["a", "b"], threads: int) -> Iterator[tuple[Callable[[int, int], int], Find]]:
    from optimize.bench.rivals.reference import load_detector  # torch: its threads slow ours, so ours does not import it

    detector = load_detector(mode, threads)
    yield lambda height, width: detector.divisor, lambda small_BHWC, times_s: detector.boxes_in_small(small_BHWC)
