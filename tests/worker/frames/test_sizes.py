"""Where pictures change their size within a stream, what they show keeps its shape."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from worker.frames import colour
from worker.frames.limits import Limits
from worker.frames.pyav import PyavDecoder
from worker.types import SamplingRequest, Strategy

FPS, FRAMES, SIDE = 25, 10, 120
LANDSCAPE = 640, 480


def part(path: Path, size: tuple[int, int], starts: int, aspect: Fraction) -> bytes:
    """Grey, with a white square in the middle, where pixels have that ratio."""
    width, height = size
    picture = np.full((height, width, 3), 128, np.uint8)
    across = round(SIDE / aspect)
    picture[(height - SIDE) // 2 :, (width - across) // 2 :][:SIDE, :across] = 255
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "g": "5"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.sample_aspect_ratio = aspect
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = starts + number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path.read_bytes()


@pytest.mark.parametrize(
    ("size", "aspect", "inner", "side"),
    [
        ((480, 640), Fraction(1), (360, 480), 90),
        ((320, 240), Fraction(1), LANDSCAPE, 240),
        ((480, 480), Fraction(4, 3), LANDSCAPE, 120),
        ((640, 352), Fraction(1), (640, 352), 120),
    ],
    ids=["turned", "smaller", "narrow pixels", "wider"],
)
def test_a_square_stays_square(
    tmp_path: Path, size: tuple[int, int], aspect: Fraction, inner: tuple[int, int], side: int
) -> None:
    path = tmp_path / "sizes.ts"
    first, then = (LANDSCAPE, Fraction(1)), (size, aspect)
    parts = [
        part(tmp_path / f"{number}.ts", its, number * FRAMES, pixel) for number, (its, pixel) in enumerate((first, then, first))
    ]
    path.write_bytes(b"".join(parts))
    with path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        frames = list(media.frames(SamplingRequest(strategy=Strategy.FPS, fps=FPS)))
    assert len(frames) == 3 * FRAMES
    for number, frame in enumerate(frames):
        grey_HW = np.asarray(frame.rgb_HWC)[..., 1].astype(int)
        assert grey_HW.shape == LANDSCAPE[::-1]
        expected, (width, height) = (SIDE, LANDSCAPE) if number // FRAMES != 1 else (side, inner)
        middle = grey_HW[240], grey_HW[:, 320]
        assert [int((line > 190).sum()) for line in middle] == pytest.approx([expected] * 2, abs=3)
        assert [int((line > 60).sum()) for line in middle] == pytest.approx([width, height], abs=3)


def test_pixels_that_the_container_alone_tells_of_keep_their_shape_at_every_size(tmp_path: Path) -> None:
    """VP9 says nothing of them; an MP4 does (``pasp``)."""
    with av.open(str(tmp_path / "two.mp4"), "w") as joined:
        copy = None
        for number, (width, height) in enumerate(((480, 360), (240, 180))):
            path = tmp_path / f"{number}.webm"
            with av.open(str(path), "w") as container:
                stream = container.add_stream("libvpx-vp9", rate=FPS, options={"deadline": "realtime", "cpu-used": "8"})
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                for at in range(FRAMES):
                    frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 200, np.uint8), format="rgb24")
                    frame.pts, frame.time_base = at, Fraction(1, FPS)
                    container.mux(stream.encode(frame))
                container.mux(stream.encode(None))
            with av.open(str(path)) as container:
                own = container.streams.video[0]
                if copy is None:
                    copy = joined.add_stream_from_template(own)
                    copy.codec_context.sample_aspect_ratio = Fraction(4, 3)
                for packet in container.demux(own):
                    if packet.pts is not None and packet.dts is not None:
                        shift = round(number * FRAMES / FPS / packet.time_base)
                        packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, copy
                        joined.mux(packet)
    with (tmp_path / "two.mp4").open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        frames = [np.asarray(frame.rgb_HWC) for frame in media.frames(SamplingRequest(strategy=Strategy.FPS, fps=FPS))]
    assert len(frames) == 2 * FRAMES
    assert {frame.shape for frame in frames} == {(360, 640, 3)}
    assert all(frame.min() > 150 for frame in frames), "nothing is black"


def test_nearly_the_same_shape_fills_the_frame() -> None:
    assert colour.fitted((1920, 1088), (1280, 720)) == (1280, 720)
    assert colour.fitted((1080, 1920), (1920, 1080)) == (608, 1080)
    assert colour.fitted((1, 9000), (640, 480)) == (1, 480)
