"""The pipelines we measure ourselves against: decord, facenet-pytorch's ``detect`` and a timm network, the usual ways.

``a``: MTCNN by its defaults (``min_face_size=20``) on full-size frames. ``b``: as the winner of the Deepfake Detection Challenge
did it, ``min_face_size=40`` on half-size frames. Both: frames at given times in batches of 16, every face of a frame, crops from
the full frames as our scans' checkpoint has them, EfficientNetV2-B0 eagerly in float32. Its weights are random: only its speed is
of interest, and its scores are thrown away.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import timm
import torch
from facenet_pytorch import MTCNN

from optimize.bench.rivals.by_decord import decode
from optimize.bench.side import Answer
from worker.faces.crop import crop_faces
from worker.model.checkpoint import load_spec
from worker.model.packaged import default_checkpoint
from worker.settings import load_settings
from worker.types import Float32, Json, UInt8

Mode = Literal["a", "b"]
BACKBONE = "tf_efficientnetv2_b0"
BATCH = 16
DIVISOR = {"a": 1, "b": 2}
"""By what frames are shrunk before faces are looked for."""
MIN_FACE_PX = {"a": 20, "b": 40}


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector:
    """facenet-pytorch's ``detect`` at a size."""

    mtcnn: Any
    divisor: int

    def boxes(self, frames_BHWC: UInt8) -> list[Float32]:
        """Boxes [N, 4] of each frame, in its own pixels."""
        return self.boxes_in_small(self.shrunk(frames_BHWC))

    def shrunk(self, frames_BHWC: UInt8) -> UInt8:
        if self.divisor == 1:
            return frames_BHWC
        scale = 1 / self.divisor
        return np.stack([cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for frame in frames_BHWC])

    def boxes_in_small(self, small_BHWC: UInt8) -> list[Float32]:
        """``boxes`` of frames that were shrunk before."""
        found: list[Float32] = []
        for start in range(0, len(small_BHWC), BATCH):
            boxes_B, _ = self.mtcnn.detect(small_BHWC[start : start + BATCH])
            found += [_scaled(boxes, self.divisor) for boxes in boxes_B]
        return found


def _scaled(boxes_N4: Any, divisor: int) -> Float32:
    return np.zeros((0, 4), np.float32) if boxes_N4 is None else np.asarray(boxes_N4, np.float32) * divisor


def load_detector(mode: Mode, threads: int) -> Detector:
    """Sets the number of threads of torch and OpenCV in this process."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    return Detector(mtcnn=MTCNN(keep_all=True, min_face_size=MIN_FACE_PX[mode]), divisor=DIVISOR[mode])


def load_classifier() -> torch.nn.Module:
    classifier: torch.nn.Module = timm.create_model(BACKBONE, pretrained=False, num_classes=2).eval()
    return classifier


@contextmanager
def build(options: Json, threads: int) -> Iterator[Answer]:
    """``options``: ``mode``. A request: ``path`` and ``times_s``, the frames to look at, on the presentation clock.

    One stage follows the other, each on all threads.
    """
    detector, classifier = load_detector(options["mode"], threads), load_classifier()
    crop = load_spec(load_settings().model.checkpoint or default_checkpoint()).crop

    def scan(request: Json) -> Json:
        started = time.perf_counter()
        frames_BHWC = decode(Path(request["path"]), request["times_s"], threads)
        decoded = time.perf_counter()
        boxes = detector.boxes(frames_BHWC)
        detected = time.perf_counter()
        crops = [
            crop_faces(frame, found, margin=crop.margin, size=crop.size) for frame, found in zip(frames_BHWC, boxes, strict=True)
        ]
        crops_FHWC = np.concatenate(crops)
        for start in range(0, len(crops_FHWC), BATCH):
            _score(crops_FHWC[start : start + BATCH], classifier)
        return {
            "frames": len(frames_BHWC),
            "faces": len(crops_FHWC),
            "crop_px": crops_FHWC.shape[1],
            "decode_s": decoded - started,
            "detect_s": detected - decoded,
            "infer_s": time.perf_counter() - detected,
            "times_s": list(request["times_s"]),
            "stage_threads": threads,
        }

    yield scan


def _score(crops_FHWC: UInt8, classifier: torch.nn.Module) -> None:
    with torch.inference_mode():
        pixels_FCHW = torch.from_numpy(crops_FHWC).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)
        classifier(pixels_FCHW)
