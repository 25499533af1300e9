"""Decoded frames to upright, square-pixel, SDR BT.709 full-range RGB.

Matrix and range are applied by libswscale. Where the stream does not name its matrix, BT.709 is taken from 1280 columns or more
than 576 rows upwards, else BT.601, as players do; an unnamed range is limited, or full where there are no colours.

PQ (SMPTE ST 2084) and HLG (ITU-R BT.2100) are shown as SDR in four steps, on 16-bit RGB: to linear light (1.0 = 203 cd/m2, the
reference white of ITU-R BT.2408; HLG with the system gamma of a 1,000 cd/m2 screen), BT.2020 to BT.709 primaries, highlights
compressed by the largest component ``m``: unchanged to 0.75, above that 0.75 + 0.25 x / (x + 0.25) with x = m - 0.75, so that
hues stay; then the sRGB curve. SDR with BT.2020 primaries takes the same way with a gamma of 2.4 and no compression.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any, cast

import av
import cv2
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import ColorRange, Colorspace, Interpolation

from worker.types import Float32, UInt8

BT709, UNSPECIFIED, BT2020_NCL, BT2020_CL = 1, 2, 9, 10
"""Values of ITU-T H.273 matrix coefficients and primaries."""
PQ, HLG = 16, 18
"""Values of ITU-T H.273 transfer characteristics."""
LIMITED_RANGE, FULL_RANGE = 1, 2
KNEE = 0.75
BAND_ROWS = 128
"""Wide colours are mapped so many rows at a time: linear light takes many times the memory of the frame."""
MAX_ASPECT = 8
SAME_SHAPE = 0.03
"""A picture that would leave no larger share of a frame empty fills it."""
REFERENCE_WHITE = 203.0
_TURNS = {1: cv2.ROTATE_90_CLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_COUNTERCLOCKWISE}
BT2020_TO_BT709 = np.array(
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]], np.float32
)
_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    BT2020_NCL: 9,
    BT2020_CL: 9,
}


Turn = tuple[int, bool]
"""Quarter turns clockwise, and whether frames are mirrored left to right before them."""


def matrix_of(frame: av.VideoFrame) -> int:
    """swscale's number of the frame's colour matrix, by the rule above where the stream names none."""
    default = Colorspace.ITU709 if frame.width >= 1280 or frame.height > 576 else Colorspace.ITU601
    return int(_MATRICES.get(int(frame.colorspace), default))


def is_full_range(frame: av.VideoFrame) -> bool:
    return int(frame.color_range) == FULL_RANGE or frame.format.name.startswith("yuvj")


def is_hdr(frame: av.VideoFrame) -> bool:
    return int(frame.color_trc) in (PQ, HLG)


def is_wide(frame: av.VideoFrame) -> bool:
    """Whether its colours go beyond SDR BT.709 and are mapped."""
    return is_hdr(frame) or int(frame.color_primaries) == BT2020_NCL


def shown_size(frame: av.VideoFrame, aspect: Fraction | None) -> tuple[int, int]:
    """Width and height with square pixels, before the frame is turned: the shorter side of a pixel is stretched, none shrunk.
    A sample aspect beyond 1:8 is taken for an error."""
    if not aspect or not 1 / MAX_ASPECT <= aspect <= MAX_ASPECT:
        return frame.width, frame.height
    if aspect >= 1:
        return round(frame.width * aspect), frame.height
    return frame.width, round(frame.height / aspect)


def fitted(own: tuple[int, int], shown: tuple[int, int]) -> tuple[int, int]:
    """The size at which a picture of the size ``own``, pixels square, is put into frames of the size ``shown``: the whole frame's
    where it has about the same shape."""
    scale = min(shown[0] / own[0], shown[1] / own[1])
    width, height = (max(1, round(scale * side)) for side in own)
    fills = width >= (1 - SAME_SHAPE) * shown[0] and height >= (1 - SAME_SHAPE) * shown[1]
    return shown if fills else (width, height)


def _nameless(kind: type[SideDataType], value: object) -> SideDataType:
    """A kind of side data that PyAV has no name for, as EXIF: FFmpeg knows more of them, and one would make all unreadable."""
    found: Any = object.__new__(kind)
    found._name_, found._value_ = f"KIND_{value}", value
    return cast("SideDataType", found)


SideDataType._missing_ = classmethod(_nameless)  # type: ignore[assignment]


def orientation(frame: av.VideoFrame) -> Turn:
    """By the frame's display matrix. All have that of the container; one that H.264 gives, FFmpeg tells of a single frame."""
    matrix = cast("Mapping[SideDataType, bytes]", frame.side_data).get(SideDataType.DISPLAYMATRIX)
    if matrix is None:
        return 0, False
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(matrix))
    mirrored = a * d - b * c < 0
    if a == b == 0:
        return 0, False
    angle = math.degrees(math.atan2(-b if mirrored else b, -a if mirrored else a))
    return round(angle / 90) % 4, mirrored


def upright(picture: UInt8, turns: int, mirrored: bool) -> UInt8:
    """An RGB picture or a plane of it, turned as ``orientation`` says."""
    if mirrored:
        picture = np.asarray(cv2.flip(picture, 1), np.uint8)
    return np.asarray(cv2.rotate(picture, _TURNS[turns]), np.uint8) if turns else picture


def to_rgb(frame: av.VideoFrame, width: int, height: int) -> UInt8:
    """RGB [height, width, 3] of a frame, not turned; the size is that of ``shown_size``, also where the stream changes it."""
    wide = is_wide(frame)
    matrix = matrix_of(frame)
    if frame.interlaced_frame:
        frame = _first_field(frame)
    if frame.format.name.startswith("gray") and int(frame.color_range) == LIMITED_RANGE:
        frame = _with_chroma(frame)
    converted = frame.reformat(
        width=width,
        height=height,
        format="rgb48le" if wide else "rgb24",
        src_colorspace=matrix,
        dst_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.JPEG if is_full_range(frame) else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=Interpolation.BILINEAR,
        threads=1,
    )
    if wide:
        code_HWC, transfer = np.asarray(converted.to_ndarray(), np.uint16), int(frame.color_trc)
        bands = [_to_sdr(code_HWC[top : top + BAND_ROWS], transfer) for top in range(0, height, BAND_ROWS)]
        return np.concatenate(bands)
    return plane_of(converted, 0, 3 * width).reshape(height, width, 3)


def in_black(rgb_HWC: UInt8, width: int, height: int) -> UInt8:
    """A smaller picture in the middle of a frame of that size, as players show one whose shape has changed."""
    inner_height, inner_width = rgb_HWC.shape[:2]
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    out_HWC = np.zeros((height, width, 3), np.uint8)
    out_HWC[top : top + inner_height, left : left + inner_width] = rgb_HWC
    return out_HWC


def plane_of(frame: av.VideoFrame, number: int, row_bytes: int) -> UInt8:
    """uint8 [rows, row_bytes] of one plane: a view, which keeps the frame."""
    plane = frame.planes[number]
    return np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height, :row_bytes]


def _first_field(frame: av.VideoFrame) -> av.VideoFrame:
    """The upper field alone, at half the rows; ``to_rgb`` scales it back. A key frame stands alone, so no filter over time."""
    field = av.VideoFrame(frame.width, frame.height // 2, frame.format.name)
    for source, target in zip(frame.planes, field.planes, strict=True):
        rows_HB = np.frombuffer(memoryview(source), np.uint8).reshape(-1, source.line_size)[: source.height : 2]
        target_HB = np.frombuffer(memoryview(target), np.uint8).reshape(-1, target.line_size)
        height, width = min(len(rows_HB), target.height), min(source.line_size, target.line_size)
        target_HB[:height, :width] = rows_HB[:height, :width]
    return _described(field, frame)


def _with_chroma(frame: av.VideoFrame) -> av.VideoFrame:
    """A grey frame as one of colours that are all grey: libswscale takes the former's range for full, whatever is said of it."""
    full = {"src_color_range": ColorRange.JPEG, "dst_color_range": ColorRange.JPEG}
    return _described(frame.reformat(format=frame.format.name.replace("gray", "yuv420p"), threads=1, **full), frame)


def _described(made: av.VideoFrame, frame: av.VideoFrame) -> av.VideoFrame:
    """With the same said of its colours as of ``frame``'s."""
    made.colorspace, made.color_range = frame.colorspace, frame.color_range
    made.color_trc, made.color_primaries = frame.color_trc, frame.color_primaries
    return made


@lru_cache(maxsize=4)
def _linear_light(transfer: int) -> Float32:
    """16-bit code value -> linear light, 1.0 = reference white."""
    code = np.linspace(0.0, 1.0, 65536)
    if transfer == PQ:
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        power = code ** (1 / m2)
        light = 10000.0 / REFERENCE_WHITE * (np.maximum(power - c1, 0.0) / (c2 - c3 * power)) ** (1 / m1)
    elif transfer == HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
    else:
        light = code**2.4
    return light.astype(np.float32)


@lru_cache(maxsize=1)
def _srgb_curve() -> UInt8:
    """Linear light in steps of 1/16383 -> 8-bit sRGB."""
    light = np.linspace(0.0, 1.0, 16384)
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(curve * 255).astype(np.uint8)


def _to_sdr(code_HWC: np.ndarray, transfer: int) -> UInt8:
    light_HWC = _linear_light(transfer)[code_HWC]
    if transfer == HLG:
        luma_HW = light_HWC @ np.array([0.2627, 0.6780, 0.0593], np.float32)
        light_HWC *= (1000.0 / REFERENCE_WHITE * np.maximum(luma_HW, 1e-6) ** 0.2)[..., None]
    light_HWC = cv2.transform(light_HWC, BT2020_TO_BT709)
    if transfer in (PQ, HLG):
        peak_HW = light_HWC.max(axis=2)
        over_HW = np.maximum(peak_HW - KNEE, 0.0)
        mapped_HW = KNEE + 0.25 * over_HW / (over_HW + 0.25)
        light_HWC *= np.where(peak_HW > KNEE, mapped_HW / np.maximum(peak_HW, KNEE), 1.0)[..., None]
    return _srgb_curve()[(np.clip(light_HWC, 0.0, 1.0) * 16383 + 0.5).astype(np.uint16)]
