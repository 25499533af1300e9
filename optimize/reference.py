"""The pipeline we measure ourselves against: decord, facenet-pytorch's ``detect`` and a timm network, the usual way.

Frames at given times, ``MTCNN(keep_all=True, min_face_size=40)`` on half-size frames in batches of 16, crops from the full
frames, EfficientNetV2-B0 eagerly in float32. Its weights are random: only its speed is of interest, its scores are thrown
away.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import decord
import numpy as np
import timm
import torch
from facenet_pytorch import MTCNN

from worker.faces.crop import crop_faces
from worker.types import Float32, UInt8

BACKBONE = "tf_efficientnetv2_b0"
BATCH = 16
MIN_FACE_PX = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    detector: Any
    classifier: torch.nn.Module


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceScan:
    """Faces found in all frames together, and the seconds of each stage."""

    frames: int
    faces: int
    decode_s: float
    detect_s: float
    infer_s: float


def load_models(threads: int) -> Models:
    """Both networks on the CPU; sets the number of threads of torch and OpenCV in this process."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    classifier: torch.nn.Module = timm.create_model(BACKBONE, pretrained=False, num_classes=2).eval()
    return Models(detector=MTCNN(keep_all=True, min_face_size=MIN_FACE_PX, device="cpu"), classifier=classifier)


def scan(path: Path, times_s: Sequence[float], models: Models, threads: int) -> ReferenceScan:
    """Decode the frames nearest ``times_s`` (presentation clock), find all faces and score them."""
    started = time.perf_counter()
    frames_BHWC = _decode(path, times_s, threads)
    decoded = time.perf_counter()
    boxes = [
        boxes for start in range(0, len(frames_BHWC), BATCH) for boxes in _detect(frames_BHWC[start : start + BATCH], models)
    ]
    detected = time.perf_counter()
    crops_FHWC = np.concatenate([crop_faces(frame, found) for frame, found in zip(frames_BHWC, boxes, strict=True)])
    for start in range(0, len(crops_FHWC), BATCH):
        _score(crops_FHWC[start : start + BATCH], models)
    return ReferenceScan(
        frames=len(frames_BHWC),
        faces=len(crops_FHWC),
        decode_s=decoded - started,
        detect_s=detected - decoded,
        infer_s=time.perf_counter() - detected,
    )


def _decode(path: Path, times_s: Sequence[float], threads: int) -> UInt8:
    reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=threads)
    starts_s = reader.get_frame_timestamp(range(len(reader)))[:, 0]
    indices = [int(np.abs(starts_s - starts_s[0] - t).argmin()) for t in times_s]
    return np.asarray(reader.get_batch(indices).asnumpy(), np.uint8)


def _detect(frames_BHWC: UInt8, models: Models) -> list[Float32]:
    """Boxes [N, 4] of each frame, in its own pixels."""
    half = [cv2.resize(frame, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for frame in frames_BHWC]
    found, _ = models.detector.detect(np.stack(half))
    return [np.zeros((0, 4), np.float32) if boxes is None else np.asarray(boxes, np.float32) * 2 for boxes in found]


def _score(crops_FHWC: UInt8, models: Models) -> None:
    with torch.inference_mode():
        pixels_FCHW = torch.from_numpy(crops_FHWC).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)
        models.classifier(pixels_FCHW)
