"""Real pictures for comparing runtimes: faces of the demo clips, and what MTCNN's networks see of them.

Axes: F crops, N pictures, H rows, W columns, C colours (RGB).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from worker.demo import demo_files
from worker.faces.crop import crop_faces
from worker.faces.detect import MtcnnDetector
from worker.frames.limits import Limits
from worker.frames.sandbox import SandboxedFrames
from worker.types import Float32, SamplingRequest, Strategy, UInt8

FRAMES_EACH = 6
NET_SIDES = {"rnet": 24, "onet": 48}
PNET_HW = (108, 192)
PNET_PICTURES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """crops_FHWC uint8, for the classifier; nets_NHWC float32 pixel values 0..255, by MTCNN's network."""

    crops_FHWC: UInt8
    nets_NHWC: dict[str, Float32]


def demo_pictures(*, margin: float, size: int, frames_each: int = FRAMES_EACH) -> Pictures:
    """Every face found in evenly spaced frames of each demo clip, cut as a scan cuts it; the same ones each time."""
    crops: list[UInt8] = []
    whole: list[UInt8] = []
    request = SamplingRequest(strategy=Strategy.UNIFORM, max_frames=frames_each)
    with SandboxedFrames(Limits()) as frames, MtcnnDetector(threads=1) as detector:
        for clip in demo_files():
            with frames.open(clip.path) as media:
                for frame in media.frames(request):
                    rgb_HWC = frame.rgb_HWC
                    found = detector.detect([rgb_HWC])
                    crops.extend(crop_faces(rgb_HWC, found.boxes_N4, margin=margin, size=size))
                    whole.append(np.asarray(cv2.resize(rgb_HWC, PNET_HW[::-1], interpolation=cv2.INTER_AREA), np.uint8))
    crops_FHWC = np.stack(crops)
    nets = {net: _shrunk(crops_FHWC, side) for net, side in NET_SIDES.items()}
    nets["pnet"] = np.stack(whole[:: max(1, len(whole) // PNET_PICTURES)]).astype(np.float32)
    return Pictures(crops_FHWC=crops_FHWC, nets_NHWC=nets)


def _shrunk(crops_FHWC: UInt8, side: int) -> Float32:
    small = [cv2.resize(crop_HWC, (side, side), interpolation=cv2.INTER_AREA) for crop_HWC in crops_FHWC]
    return np.stack(small).astype(np.float32)
