"""What a demuxer says once holds for all behind it, wherever decoding begins: parameter sets and colours."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.worker.frames.conftest import FPS, X264, Clips, Recipe, encode, read_number
from tests.worker.frames.iso import mp4
from worker.frames.lasting import Lasting
from worker.frames.limits import Limits
from worker.frames.pyav import PyavDecoder, PyavMedia
from worker.types import SamplingRequest, Strategy

KEYS = SamplingRequest(strategy=Strategy.KEYFRAMES)
SECOND_S, FRAMES = 3, 72
LEVELS = (40, 90, 140, 190)


def flv(source: Path, path: Path, start_s: int) -> bytes:
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        copy = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.pts is not None and packet.dts is not None:
                shift = round(start_s / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, copy
                new.mux(packet)
    return path.read_bytes()


def shown(media: PyavMedia, request: SamplingRequest) -> list[tuple[int, int | None]]:
    """Numbers of frames by the recordings' times, and as drawn."""
    return [(round(frame.pts_s % SECOND_S * FPS), read_number(np.asarray(frame.rgb_HWC))) for frame in media.frames(request)]


def recordings(clips: Clips) -> tuple[Path, Path]:
    """Of one encoder that was started anew, with another quality."""
    made = []
    for crf in ("40", "12"):
        options = {"preset": "veryfast", "crf": crf, "x264-params": X264.replace("bframes=2", "bframes=0")}
        made.append(encode(Recipe(options=options), clips.path(f"sets{crf}.mp4")).path)
    return made[0], made[1]


def test_each_part_of_an_flv_recording_is_decoded_by_its_own_parameter_sets(clips: Clips) -> None:
    """The head of the file has the first one's."""
    parts = [flv(source, source.with_suffix(".flv"), number * SECOND_S) for number, source in enumerate(recordings(clips))]
    path = clips.path("sets.flv")
    path.write_bytes(parts[0] + parts[1][len(b"FLV") + 10 :])
    with path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        assert shown(media, KEYS) == [(number, number) for number in (0, 24, 48)] * 2
        assert media.lost_share == 0
        again = SamplingRequest(times_s=(1.0, 1.9, SECOND_S + 1.0))
        assert shown(media, again) == [(30, 30), (57, 57), (30, 30)]


def test_each_part_of_a_joined_mp4_is_decoded_by_its_own_parameter_sets(clips: Clips) -> None:
    """The demuxer says that they are others beside a packet that is read ahead, and left undecoded for a seek to a later one."""
    path = clips.path("joined.mp4")
    path.write_bytes(mp4([*recordings(clips), clips.path("sets40.mp4")]))
    with path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        for numbers in ((60, 130), (20, 60, 130, 150), (0, 60, 200)):
            request = SamplingRequest(times_s=tuple(number / FPS for number in numbers))
            frames = [(round(frame.pts_s * FPS), read_number(np.asarray(frame.rgb_HWC))) for frame in media.frames(request)]
            assert frames == [(number, number % FRAMES) for number in numbers]


def test_a_file_that_is_opened_again_begins_with_what_its_head_says(clips: Clips) -> None:
    """Its new demuxer does not say so beside the first packet; the old one had come to the other part."""
    path = clips.path("opened_again.mp4")
    path.write_bytes(mp4(recordings(clips)))
    lasting = None
    said = []
    for _ in range(2):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            if lasting is None:
                lasting = Lasting(container.format.name, stream.codec_context.extradata)
            else:
                lasting.begin_anew()
            for packet in container.demux(stream):
                lasting.add_to(packet, is_first=False)
                if packet.is_keyframe:
                    said.append(bytes(packet.get_sidedata("new_extradata")))
    head, other = said[6], said[3]
    assert other != head == stream.codec_context.extradata
    assert said == [b""] * 3 + [other] * 3 + [head] * 3 + [other] * 3


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "suffix"), [("rawvideo", "pal8", ".mov"), ("rawvideo", "pal8", ".avi"), ("qtrle", "gray", ".mov")]
)
def test_the_colours_of_a_palette_are_shown(tmp_path: Path, codec: str, pix_fmt: str, suffix: str) -> None:
    path = tmp_path / f"palette{suffix}"
    bars_HW = np.repeat(np.arange(1, 5, dtype=np.uint8), 16)[None].repeat(64, axis=0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 64, 64, pix_fmt
        for number in range(4):
            frame = av.VideoFrame(64, 64, pix_fmt)
            frame.planes[0].update((bars_HW if pix_fmt == "pal8" else np.take((0, *LEVELS), bars_HW).astype(np.uint8)).tobytes())
            if pix_fmt == "pal8":
                colours = np.zeros(256, "<u4")
                colours[1:5] = [0xFF000000 | level * 0x10101 for level in LEVELS]
                frame.planes[1].update(colours.tobytes())
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        frames = [np.asarray(frame.rgb_HWC) for frame in media.frames(SamplingRequest())]
    assert len(frames) == 4
    for rgb_HWC in frames:
        assert [tuple(rgb_HWC[32, 16 * bar + 8].tolist()) for bar in range(4)] == [(level,) * 3 for level in LEVELS]
