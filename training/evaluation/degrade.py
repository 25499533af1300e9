"""Degradations for robustness curves: what uploads go through, at stated levels, applied to a whole file.

Files are decoded as a scan does it (sandboxed, upright, RGB). Pictures are changed and kept losslessly (PNG). Videos are changed
frame by frame and encoded again by H.264 at CRF 12, which by itself hardly shows (``reencode`` measures it); ``h264`` changes
nothing but the CRF, ``rows`` is what a site serves to a small screen: fewer rows, at CRF 23. Sound is dropped; ``SECONDS`` are
kept at most.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.reformatter import Colorspace
from PIL import Image

from worker.errors import EmptyMedia
from worker.frames.colour import BT709
from worker.ports import FrameSource
from worker.types import MediaKind, SamplingRequest, Strategy, UInt8

SECONDS = 6.0
CLEAN_CRF = 12
LEAST_SIDE_PX = 16
DEFAULT_FPS = 25.0
Change = Callable[[UInt8, float, int], UInt8]
"""(rgb_HWC, level, seed) -> rgb_HWC."""


def jpeg(rgb_HWC: UInt8, quality: float, seed: int) -> UInt8:
    """JPEG and back, 4:2:0."""
    stream = io.BytesIO()
    Image.fromarray(rgb_HWC).save(stream, "JPEG", quality=round(quality), subsampling=2)
    return np.asarray(Image.open(stream).convert("RGB"))


def blur(rgb_HWC: UInt8, sigma: float, seed: int) -> UInt8:
    """Gaussian, sigma in pixels."""
    return np.asarray(cv2.GaussianBlur(rgb_HWC, (0, 0), sigma), dtype=np.uint8)


def noise(rgb_HWC: UInt8, sigma: float, seed: int) -> UInt8:
    """White Gaussian noise, sigma in grey levels."""
    drawn_HWC = np.random.default_rng(seed).standard_normal(rgb_HWC.shape, dtype=np.float32)
    return np.clip(rgb_HWC + sigma * drawn_HWC + 0.5, 0, 255).astype(np.uint8)


def resize(rgb_HWC: UInt8, factor: float, seed: int) -> UInt8:
    """Scaled down by area, and left small."""
    height, width = (max(LEAST_SIDE_PX, round(side * factor)) for side in rgb_HWC.shape[:2])
    return np.asarray(cv2.resize(rgb_HWC, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def rows(rgb_HWC: UInt8, most: float, seed: int) -> UInt8:
    """Scaled down by area to ``most`` rows; never up."""
    return resize(rgb_HWC, min(1.0, most / len(rgb_HWC)), seed)


def gray(rgb_HWC: UInt8, share: float, seed: int) -> UInt8:
    """Colours mixed with their luma; 1 is a grey picture."""
    luma_HW1 = cv2.cvtColor(rgb_HWC, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    return np.clip((1 - share) * rgb_HWC + share * luma_HW1 + 0.5, 0, 255).astype(np.uint8)


def flip(rgb_HWC: UInt8, level: float, seed: int) -> UInt8:
    """Left and right exchanged; level 2: upside down too, which faces rarely are."""
    return np.ascontiguousarray(rgb_HWC[::-1, ::-1] if level == 2 else rgb_HWC[:, ::-1])


def same(rgb_HWC: UInt8, level: float, seed: int) -> UInt8:
    """Nothing changed but the encoding."""
    return rgb_HWC


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One kind of degradation: its levels, mildest first, what they mean, and which files it is for."""

    name: str
    change: Change
    levels: tuple[float, ...]
    unit: str
    kinds: tuple[MediaKind, ...] = (MediaKind.VIDEO, MediaKind.PICTURE)
    crf: float | None = CLEAN_CRF
    """Of the copy of a video; None: the level is the CRF."""


VIDEO, PICTURE = (MediaKind.VIDEO,), (MediaKind.PICTURE,)
FAMILIES = (
    Family(name="jpeg", change=jpeg, levels=(90, 75, 60, 40, 20), unit="quality", kinds=PICTURE),
    Family(name="reencode", change=same, levels=(CLEAN_CRF,), unit="CRF", kinds=VIDEO),
    Family(name="h264", change=same, levels=(18, 23, 28, 35, 40), unit="CRF", kinds=VIDEO, crf=None),
    Family(name="rows", change=rows, levels=(360,), unit="rows at CRF 23", kinds=VIDEO, crf=23),
    Family(name="blur", change=blur, levels=(0.7, 1.5, 3.0), unit="sigma in pixels"),
    Family(name="resize", change=resize, levels=(0.75, 0.5, 0.35), unit="factor"),
    Family(name="noise", change=noise, levels=(3, 8, 16), unit="sigma in grey levels"),
    Family(name="gray", change=gray, levels=(0.5, 0.8, 1.0), unit="share"),
    Family(name="flip", change=flip, levels=(1,), unit="left to right"),
)


def degrade(frames: FrameSource, path: Path, family: Family, level: float, folder: Path, *, seconds: float = SECONDS) -> Path:
    """A degraded copy of a file in ``folder``; the same arguments give the same pixels. Raises a VeriframeError, OSError."""
    with frames.open(path.resolve()) as media:
        if media.info.kind is MediaKind.PICTURE:
            frame = next(media.frames(SamplingRequest()), None)
            if frame is None:
                raise EmptyMedia(f"{path} holds no picture")
            out = folder / "degraded.png"
            Image.fromarray(family.change(frame.rgb_HWC, level, 0)).save(out, compress_level=1)
            return out
        fps = media.info.fps or DEFAULT_FPS
        request = SamplingRequest(strategy=Strategy.FPS, fps=fps, end_s=seconds)
        changed = (family.change(frame.rgb_HWC, level, number) for number, frame in enumerate(media.frames(request)))
        out = folder / "degraded.mp4"
        if not encode(out, changed, fps=fps, crf=level if family.crf is None else family.crf):
            raise EmptyMedia(f"{path} has no frame")
        return out


def encode(out: Path, frames: Iterator[UInt8], *, fps: float, crf: float) -> int:
    """H.264, 4:2:0, BT.709; gives the number of frames. Sides are made even by cutting a row or column."""
    count = 0
    with av.open(str(out), "w") as target:
        stream = target.add_stream(
            "libx264", rate=Fraction(fps).limit_denominator(1001), options={"crf": f"{crf:g}", "preset": "veryfast"}
        )
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = BT709
        for rgb_HWC in frames:
            height, width = (side - side % 2 for side in rgb_HWC.shape[:2])
            if not count:
                stream.width, stream.height = width, height
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb_HWC[:height, :width]), format="rgb24")
            target.mux(stream.encode(picture.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)))
            count += 1
        if count:
            target.mux(stream.encode(None))
    return count
