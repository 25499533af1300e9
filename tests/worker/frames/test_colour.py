"""Colours of decoded frames against the colours that were encoded: matrix, range, HDR, interlacing, aspect, turning."""

from __future__ import annotations

import io
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image

from worker.frames import colour, decord
from worker.frames.choose import open_media
from worker.frames.limits import Limits
from worker.types import MediaInfo, SamplingRequest, UInt8

PATCHES = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 150, 120), (90, 60, 40), (255, 255, 255), (16, 16, 16), (128, 128, 128))
BT709, BT601, BT2020 = 1, 5, 9
LIMITED, FULL = 1, 2


def draw(width: int, height: int) -> np.ndarray:
    return np.repeat(np.repeat(np.array([PATCHES], np.uint8), width // 8, axis=1), height, axis=0)


def encode(
    path: Path, size: tuple[int, int], matrix: int, colour_range: int, tagged: bool, aspect: Fraction | None = None
) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "veryfast", "crf": "4"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        if tagged:
            stream.codec_context.colorspace, stream.codec_context.color_range = matrix, colour_range
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        frame = av.VideoFrame.from_ndarray(draw(*size), format="rgb24").reformat(
            format="yuv420p", dst_colorspace=matrix, dst_color_range=colour_range
        )
        frame.colorspace, frame.color_range = (matrix, colour_range) if tagged else (2, 0)
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def first_frame(path: Path, decoder: Any = "auto") -> tuple[MediaInfo, UInt8]:
    with path.open("rb") as file, open_media(file, Limits(), decoder=decoder) as media:
        return media.info, next(media.frames(SamplingRequest())).rgb_HWC


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
@pytest.mark.parametrize(
    ("size", "matrix", "colour_range", "tagged"),
    [
        ((320, 192), BT709, LIMITED, True),
        ((320, 192), BT709, FULL, True),
        ((320, 192), BT601, LIMITED, True),
        ((320, 192), BT601, FULL, True),
        ((320, 192), BT2020, LIMITED, True),
        ((320, 192), BT601, LIMITED, False),
        ((1280, 720), BT709, LIMITED, True),
        ((1280, 720), BT709, LIMITED, False),
    ],
)
def test_matrix_and_range(
    tmp_path: Path, decoder: str, size: tuple[int, int], matrix: int, colour_range: int, tagged: bool
) -> None:
    if decoder == "decord" and not decord.is_installed():
        pytest.skip("decord is not installed")
    path = tmp_path / "patches.mp4"
    encode(path, size, matrix, colour_range, tagged)
    info, rgb_HWC = first_frame(path, decoder)
    seen = rgb_HWC[size[1] // 2, [int((i + 0.5) * size[0] / 8) for i in range(8)]]
    assert np.abs(seen.astype(int) - PATCHES).max() <= 3
    assert info.decoder == ("pyav" if size[0] == 1280 and not tagged else decoder)


def test_pixels_are_made_square(tmp_path: Path) -> None:
    path = tmp_path / "wide.mp4"
    encode(path, (320, 192), BT601, LIMITED, True, aspect=Fraction(4, 3))
    info, rgb_HWC = first_frame(path)
    assert (info.width, info.height) == (427, 192)
    assert rgb_HWC.shape == (192, 427, 3)
    frame = av.VideoFrame(320, 192)
    assert colour.shown_size(frame, Fraction(1, 2)) == (320, 384)
    assert colour.shown_size(frame, Fraction(1000, 1)) == (320, 192)
    assert colour.shown_size(frame, None) == (320, 192)


def _hdr_frame(level: float, transfer: int, rgb: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> av.VideoFrame:
    code = np.zeros((16, 16, 3), np.uint16)
    code[:] = np.round(np.array(rgb) * level * 65535)
    frame = av.VideoFrame.from_ndarray(code, format="rgb48le").reformat(
        format="yuv420p10le", dst_colorspace=9, dst_color_range=LIMITED
    )
    frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc = BT2020, LIMITED, 9, transfer
    return frame


@pytest.mark.parametrize(("pix_fmt", "bits"), [("gray", 8), ("gray10le", 10), ("gray16le", 16)])
def test_greys_without_colours_have_the_range_that_is_said_of_them(pix_fmt: str, bits: int) -> None:
    """As of HEVC and AV1 in one plane: black, white and between."""
    codes = np.repeat(np.array([16, 126, 235], np.uint16) << (bits - 8), 16)[None].repeat(16, axis=0)
    frame = av.VideoFrame(48, 16, pix_fmt)
    codes_HB = (codes.astype(np.uint8) if bits == 8 else codes.astype("<u2")).view(np.uint8)
    rows_HB = np.zeros((16, frame.planes[0].line_size), np.uint8)
    rows_HB[:, : codes_HB.shape[1]] = codes_HB
    frame.planes[0].update(rows_HB.tobytes())
    for said, expected in ((LIMITED, (0, 128, 255)), (FULL, (16, 126, 235)), (0, (16, 126, 235))):
        frame.color_range = said
        shown = colour.to_rgb(frame, 48, 16)[8, 8::16]
        assert np.abs(shown.astype(int) - np.array(expected)[:, None]).max() <= 2, said


@pytest.mark.parametrize(
    ("transfer", "level", "grey"),
    [
        (colour.PQ, 0.0, 0),
        (colour.PQ, 0.5807, 240),
        (colour.PQ, 0.4408, 137),
        (colour.PQ, 0.7518, 253),
        (colour.HLG, 0.0, 0),
        (colour.HLG, 0.75, 240),
        (colour.HLG, 1.0, 253),
    ],
)
def test_hdr_levels(transfer: int, level: float, grey: int) -> None:
    """203 cd/m2, the reference white, is PQ code .5807 and HLG code .75 (ITU-R BT.2408); 50 cd/m2 is PQ .4408: sRGB 137."""
    rgb_HWC = colour.to_rgb(_hdr_frame(level, transfer), 16, 16)
    assert np.abs(rgb_HWC.astype(int) - grey).max() <= 4


@pytest.mark.parametrize(("name", "transfer", "white"), [("smpte2084", colour.PQ, 0.5807), ("arib-std-b67", colour.HLG, 0.75)])
def test_hdr_files_by_their_tags(tmp_path: Path, name: str, transfer: int, white: float) -> None:
    """A 10-bit HEVC file of reference white above and black below, by the tags that the encoder wrote."""
    code = np.zeros((128, 128, 3), np.uint16)
    code[:64] = round(white * 65535)
    path = tmp_path / "hdr.ts"
    with av.open(str(path), "w") as container:
        tags = f"colorprim=bt2020:transfer={name}:colormatrix=bt2020nc:range=limited:log-level=none:pools=none:frame-threads=1"
        tags += ":bframes=0"  # with them, x265 leaves the decode time of a single picture unset
        stream = container.add_stream("libx265", rate=30, options={"preset": "ultrafast", "crf": "10", "x265-params": tags})
        stream.width, stream.height, stream.pix_fmt = 128, 128, "yuv420p10le"
        frame = av.VideoFrame.from_ndarray(code, format="rgb48le").reformat(
            format="yuv420p10le", dst_colorspace=9, dst_color_range=LIMITED
        )
        frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc = BT2020, LIMITED, 9, transfer
        frame.pts = 0
        container.mux([*stream.encode(frame), *stream.encode(None)])
    info, rgb_HWC = first_frame(path)
    assert (info.hdr, info.codec) == (True, "hevc")
    assert np.abs(rgb_HWC[8:56].astype(int) - 240).max() <= 6
    assert rgb_HWC[72:].max() <= 6


def test_wide_colours_are_mapped_in_bands_without_seams() -> None:
    height = 2 * colour.BAND_ROWS + 10
    ramp = np.repeat(np.linspace(0, 65535, height).astype(np.uint16)[:, None, None], 3, axis=2).repeat(16, axis=1)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(ramp), format="rgb48le").reformat(
        format="yuv420p10le", dst_colorspace=9, dst_color_range=LIMITED
    )
    frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc = BT2020, LIMITED, 9, colour.PQ
    rgb_HWC = colour.to_rgb(frame, 16, height)
    assert rgb_HWC.shape == (height, 16, 3)
    steps = np.diff(rgb_HWC[:, 8, 1].astype(int))
    assert steps.min() >= 0
    assert 1 <= steps.max() <= 6


@pytest.mark.parametrize("transfer", [colour.PQ, colour.HLG])
def test_hdr_rises_and_keeps_hues(transfer: int) -> None:
    levels = [float(colour.to_rgb(_hdr_frame(level, transfer), 16, 16).mean()) for level in np.linspace(0, 1, 12)]
    assert all(b >= a for a, b in pairwise(levels))
    red, green, blue = colour.to_rgb(_hdr_frame(0.6, transfer, (1.0, 0.8, 0.75)), 16, 16)[8, 8].tolist()
    assert red > green > blue
    assert red < 255


def test_wide_gamut_sdr_is_mapped_to_bt709() -> None:
    grey = colour.to_rgb(_hdr_frame(0.5, 14), 16, 16)
    assert np.ptp(grey.reshape(-1, 3).mean(axis=0)) < 3
    assert abs(float(grey.mean()) - 124) < 6
    skin_709, skin_2020 = (224, 172, 150), _hdr_frame(1.0, 14, (0.817, 0.678, 0.595))
    assert np.abs(colour.to_rgb(skin_2020, 16, 16)[8, 8].astype(int) - skin_709).max() <= 14


def test_interlaced_frames_show_one_field(clips: Any) -> None:
    path = clips["interlaced"].path
    _, rgb_HWC = first_frame(path)
    lower = rgb_HWC[110:180, 40:280].astype(int)
    assert np.abs(np.diff(lower[..., 1], axis=0)).max() <= 12
    assert abs(lower.mean() - 220) <= 12 or abs(lower.mean() - 30) <= 12


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((1, 0, 0, 1), lambda image: image),
        ((-1, 0, 0, 1), lambda image: cv2.flip(image, 1)),
        ((1, 0, 0, -1), lambda image: cv2.flip(image, 0)),
        ((0, 1, -1, 0), lambda image: cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE)),
        ((-1, 0, 0, -1), lambda image: cv2.rotate(image, cv2.ROTATE_180)),
        ((0, -1, 1, 0), lambda image: cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE)),
        ((0, 1, 1, 0), lambda image: cv2.transpose(image)),
    ],
)
def test_display_matrices_turn_and_mirror(clips: Any, tmp_path: Path, matrix: tuple[int, ...], expected: Any) -> None:
    """(a, b, c, d) of the track header: a point (x, y) is shown at (a x + c y, b x + d y); ISO/IEC 14496-12."""
    data = bytearray(clips["h264"].path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value * 0x10000 for value in matrix)
    for offset, value in ((0, a), (4, b), (12, c), (16, d)):
        data[at + offset : at + offset + 4] = value.to_bytes(4, "big", signed=True)
    path = tmp_path / "turned.mp4"
    path.write_bytes(data)
    _, plain = first_frame(clips["h264"].path)
    info, turned = first_frame(path)
    assert turned.shape[:2] == (info.height, info.width)
    assert np.array_equal(turned, expected(plain))


@pytest.mark.parametrize("suffix", [".avi", ".mov"])
@pytest.mark.parametrize("with_exif", [(0, 1, 2), (2,)], ids=["all", "third"])
def test_frames_that_carry_exif_are_as_those_without(tmp_path: Path, suffix: str, with_exif: tuple[int, ...]) -> None:
    turn_deg = 90 if suffix == ".mov" else 0

    def frames(name: str, with_exif: tuple[int, ...]) -> list[UInt8]:
        path = tmp_path / (name + suffix)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mjpeg", rate=10)
            stream.width, stream.height, stream.pix_fmt = 320, 192, "yuvj420p"
            if turn_deg:
                stream.set_display_rotation(turn_deg)
            for number in range(3):
                jpeg, exif = io.BytesIO(), Image.Exif()
                exif[ExifTags.Base.Make] = "a camera"
                picture = Image.fromarray(np.roll(draw(320, 192), 40 * number, axis=1))
                picture.save(jpeg, "JPEG", exif=exif if number in with_exif else b"")
                packet = av.Packet(jpeg.getvalue())
                packet.pts = packet.dts = number
                packet.time_base, packet.is_keyframe, packet.stream = Fraction(1, 10), True, stream
                container.mux(packet)
        with path.open("rb") as file, open_media(file, Limits()) as media:
            return [frame.rgb_HWC for frame in media.frames(SamplingRequest())]

    plain = frames("plain", ())
    assert [frame.shape for frame in plain] == [(320, 192, 3) if turn_deg else (192, 320, 3)] * 3
    assert np.array_equal(frames("exif", with_exif), plain)
