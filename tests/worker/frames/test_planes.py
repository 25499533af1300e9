"""Which frames are given as planes, and that these show what the RGB of ``colour`` shows."""

from __future__ import annotations

import platform
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from worker.frames import colour, planes
from worker.frames.choose import open_media
from worker.frames.limits import Limits
from worker.pixels import RgbPixels, YuvPixels, shrink
from worker.types import Layout, SamplingRequest, UInt8

SIZE = (640, 480)
PQ = 16
BT2020 = 9
AS_CODED = (0, False)
TURNED = b"\0\0\0\1\x06\x2f\x03\x08\0\x09\x80"
"""A display orientation of 90 degrees that persists (ITU-T H.264, annex D), with its start code."""
SWSCALE_SLACK = 0 if platform.machine() in ("x86_64", "AMD64") else 3


def scene(width: int = SIZE[0], height: int = SIZE[1]) -> UInt8:
    """Smooth colours that differ in every corner."""
    across, down = np.linspace(20, 230, width), np.linspace(220, 30, height)[:, None]
    return np.stack([across + 0 * down, down + 0 * across, (across + down) / 2], axis=-1).astype(np.uint8)


def picture(pix_fmt: str = "yuv420p", size: tuple[int, int] = SIZE, **attributes: Any) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(scene(*size), format="rgb24").reformat(format=pix_fmt)
    for name, value in attributes.items():
        setattr(frame, name, value)
    return frame


@pytest.mark.parametrize(
    ("pix_fmt", "layout"),
    [
        ("yuv420p", Layout.YUV420),
        ("yuvj420p", Layout.YUV420),
        ("yuv444p", Layout.YUV444),
        ("yuvj444p", Layout.YUV444),
        ("yuv422p", Layout.RGB),
        ("yuv420p10le", Layout.RGB),
        ("rgb24", Layout.RGB),
        ("gray", Layout.RGB),
    ],
)
def test_layout_goes_by_the_pixel_format(pix_fmt: str, layout: Layout) -> None:
    assert planes.layout_of(picture(pix_fmt), SIZE) is layout


@pytest.mark.parametrize(
    ("frame", "shown"),
    [
        (picture(color_trc=PQ), SIZE),
        (picture(color_primaries=BT2020), SIZE),
        (picture(), (960, 480)),
        (picture(size=(640, 482)), (640, 481)),
        (picture("yuv444p", size=(641, 480)), (641, 480)),
        (picture(size=(640, 478)), (640, 478)),
    ],
    ids=["HDR", "wide colours", "aspect", "resized", "odd side", "looked at in full"],
)
def test_other_frames_are_rgb(frame: av.VideoFrame, shown: tuple[int, int]) -> None:
    assert planes.layout_of(frame, shown) is Layout.RGB
    given = planes.frame_of(0.5, frame, shown, Layout.RGB, AS_CODED)
    assert isinstance(given.pixels, RgbPixels)
    np.testing.assert_array_equal(given.rgb_HWC, colour.to_rgb(frame, *shown))


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuvj420p", "yuv444p", "yuvj444p"])
def test_planes_show_what_the_converted_frame_shows(pix_fmt: str) -> None:
    frame = picture(pix_fmt)
    given = planes.frame_of(0.5, frame, SIZE, planes.layout_of(frame, SIZE), AS_CODED)
    assert isinstance(given.pixels, YuvPixels)
    expected = colour.to_rgb(frame, *SIZE)
    assert np.abs(given.rgb_HWC.astype(int) - expected).max() <= (SWSCALE_SLACK if given.pixels.is_subsampled else 0)
    assert np.abs(given.small_HWC.astype(int) - shrink(expected, 2)).max() <= 1


@pytest.mark.parametrize("layout", [Layout.YUV420, Layout.YUV444])
@pytest.mark.parametrize(
    ("odd", "shown"), [(picture(color_trc=PQ), SIZE), (picture(size=(320, 240)), SIZE), (picture("yuv422p"), SIZE)]
)
def test_an_odd_frame_among_planes_becomes_planes_too(odd: av.VideoFrame, shown: tuple[int, int], layout: Layout) -> None:
    given = planes.frame_of(0.5, odd, shown, layout, AS_CODED)
    assert isinstance(given.pixels, YuvPixels)
    assert given.pixels.is_subsampled is (layout is Layout.YUV420)
    expected = colour.to_rgb(odd, *shown)
    assert np.abs(given.rgb_HWC.astype(int) - expected).mean() <= 2
    assert np.abs(given.small_HWC.astype(int) - shrink(expected, 2)).mean() <= 2


def encoded(path: Path, rotation_deg: int = 0, size: tuple[int, int] = SIZE, head: bytes = b"") -> Path:
    """``head``: in front of the first packet."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        if rotation_deg:
            stream.set_display_rotation(rotation_deg)
        frames = [picture(size=size, pts=number, time_base=Fraction(1, 25)) for number in range(2)]
        for packet in [packet for frame in (*frames, None) for packet in stream.encode(frame)]:
            more = av.Packet(head + bytes(packet))
            more.stream, more.time_base, more.pts, more.dts = stream, packet.time_base, packet.pts, packet.dts
            more.is_keyframe, head = packet.is_keyframe, b""
            container.mux(more)
    return path


@pytest.mark.parametrize("size", [SIZE, (320, 240)], ids=["planes", "RGB"])
def test_all_frames_are_turned_as_the_first(tmp_path: Path, size: tuple[int, int]) -> None:
    path = encoded(tmp_path / "turned.mp4", size=size, head=TURNED)
    with av.open(str(path)) as container:
        assert [frame.rotation for frame in container.decode(video=0)] == [90, 0]
    with path.open("rb") as file, open_media(file, Limits()) as media:
        first, second = media.frames(SamplingRequest(times_s=(0.0, 0.04)))
        assert (media.info.height, media.info.width, media.info.rotation_deg) == (size[0], size[1], 270)
        assert (second.height, second.width) == (first.height, first.width) == (size[0], size[1])
        assert np.abs(second.rgb_HWC.astype(int) - first.rgb_HWC).mean() < 2
        assert np.abs(second.small_HWC.astype(int) - first.small_HWC).mean() < 2


@pytest.mark.parametrize("rotation_deg", [90, 180, 270])
def test_planes_are_turned_upright(tmp_path: Path, rotation_deg: int) -> None:
    def first(path: Path) -> UInt8:
        with path.open("rb") as file, open_media(file, Limits()) as media:
            assert media.info.layout is Layout.YUV420
            frame = next(iter(media.frames(SamplingRequest())))
            assert (frame.height, frame.width) == (media.info.height, media.info.width)
            return frame.rgb_HWC

    flat, turned = first(encoded(tmp_path / "flat.mp4")), first(encoded(tmp_path / "turned.mp4", rotation_deg))
    np.testing.assert_array_equal(turned, np.rot90(flat, rotation_deg // 90))
