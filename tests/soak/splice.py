"""Builds a long real video with a short face swap in it: one encoder, closed GOPs, packets joined without encoding twice."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

FPS = 25


def _frames(path: Path, count: int) -> Iterator[npt.NDArray[np.uint8]]:
    """``count`` RGB frames of a clip, played forwards and backwards so that the loop has no cut."""
    with av.open(str(path)) as container:
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    cycle = shown + shown[-2:0:-1]
    for i in range(count):
        yield cycle[i % len(cycle)]


def encode_unit(clip: Path, out: Path, *, seconds: float) -> None:
    """``seconds`` of a looped clip as H.264 with a key frame every 2 s, as a social network would re-encode it."""
    with av.open(str(out), "w") as container:
        stream: av.VideoStream | None = None
        for rgb in _frames(clip, round(seconds * FPS)):
            if stream is None:
                stream = container.add_stream(
                    "libx264", rate=FPS, options={"preset": "veryfast", "crf": "23", "g": "50", "x264-params": "open-gop=0"}
                )
                stream.height, stream.width = rgb.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.thread_count = 1
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        if stream is None:
            raise ValueError(f"{clip} has no frames")
        container.mux(stream.encode(None))


def join_units(units: list[Path], out: Path) -> None:
    """Play the units one after another in one MP4. All must come from ``encode_unit`` and have one frame size."""
    with av.open(str(out), "w") as target:
        stream: av.VideoStream | None = None
        start = Fraction(0)
        for unit in units:
            with av.open(str(unit)) as source:
                video = source.streams.video[0]
                if stream is None:
                    stream = target.add_stream_from_template(video)
                last = Fraction(0)
                for packet in source.demux(video):
                    if packet.pts is None or packet.dts is None or packet.time_base is None:
                        continue
                    shift = int(start / packet.time_base)
                    last = max(last, (packet.pts + packet.duration) * packet.time_base)
                    packet.pts += shift
                    packet.dts += shift
                    packet.stream = stream
                    target.mux(packet)
                start += last


def splice(real_unit: Path, fake_unit: Path, out: Path, *, real_units_before: int, real_units_after: int) -> None:
    """The real unit, looped, with the fake unit once between."""
    join_units([real_unit] * real_units_before + [fake_unit] + [real_unit] * real_units_after, out)
