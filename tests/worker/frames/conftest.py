"""Small clips whose every frame carries its own number, encoded once a session.

The number stands in a row of 16 black or white blocks along the upper edge: eight bits, then the same eight inverted, so that a
damaged row reads as nothing rather than as another number. It survives compression, scaling and turning upright.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

import av
import numpy as np
import pytest

WIDTH, HEIGHT = 320, 192
FPS = 30
GOP = 24
X264 = f"keyint={GOP}:min-keyint={GOP}:scenecut=0:bframes=2:b-adapt=0"
X265 = f"keyint={GOP}:min-keyint={GOP}:scenecut=0:bframes=3:b-adapt=0:log-level=none:pools=none:frame-threads=1"


def draw(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """uint8 RGB [height, width, 3]: the number in the upper quarter, a moving pattern below."""
    bits = [number >> bit & 1 for bit in range(8)]
    row_W = np.repeat(np.array(bits + [1 - bit for bit in bits], np.uint8) * 255, width // 16)
    grey_HW = ((np.arange(width) + np.arange(height)[:, None] + 5 * number) % 160 + 40).astype(np.uint8)
    grey_HW[: height // 4] = row_W
    return np.repeat(grey_HW[:, :, None], 3, axis=2)


def draw_on_its_side(number: int) -> np.ndarray:
    """What a camera held upright records: turned a quarter clockwise, to be turned back when shown."""
    return np.ascontiguousarray(np.rot90(draw(number, HEIGHT, WIDTH), -1))


def draw_fields(number: int) -> np.ndarray:
    """The lower half white in the upper field and black in the lower one: only one field alone is not striped."""
    rgb_HWC = draw(number)
    rgb_HWC[HEIGHT // 2 :: 2], rgb_HWC[HEIGHT // 2 + 1 :: 2] = 220, 30
    return rgb_HWC


def read_number(rgb_HWC: np.ndarray) -> int | None:
    """The number drawn into a frame of any size; None where it cannot be read."""
    height, width = rgb_HWC.shape[:2]
    row = height // 8
    centres = ((np.arange(16) + 0.5) * width / 16).astype(int)
    levels = rgb_HWC[row - 2 : row + 2, :, 1].mean(axis=0)[centres]
    if np.any((levels > 70) & (levels < 185)):
        return None
    bits = levels > 128
    return int(sum(1 << i for i in range(8) if bits[i])) if np.all(bits[:8] != bits[8:]) else None


@dataclass(frozen=True, kw_only=True)
class Barcoded:
    """A clip, and which number is shown when: ``shown`` are (seconds, number) in order, ``keys`` numbers of key frames."""

    path: Path
    shown: tuple[tuple[float, int], ...]
    keys: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a clip is encoded. ``ticks`` are the frames' times in quarters of 1/30 s; None means even."""

    suffix: str = ".mp4"
    codec: str = "libx264"
    options: dict[str, str] = field(default_factory=lambda: {"preset": "veryfast", "x264-params": X264})
    pix_fmt: str = "yuv420p"
    ticks: tuple[int, ...] | None = None
    rotation_deg: int = 0
    muxer: dict[str, str] = field(default_factory=dict)
    paint: Callable[[int], np.ndarray] = draw
    keys: tuple[int, ...] = (0, 24, 48)
    n_frames: int = 72


def encode(recipe: Recipe, path: Path) -> Barcoded:
    ticks = recipe.ticks or tuple(4 * i for i in range(recipe.n_frames))
    with av.open(str(path), "w", options=recipe.muxer) as container:
        stream = container.add_stream(recipe.codec, rate=FPS, options=recipe.options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, recipe.pix_fmt
        stream.codec_context.gop_size = GOP
        stream.codec_context.thread_count = 1
        tick = Fraction(1, FPS)
        if recipe.ticks:
            tick = stream.codec_context.time_base = Fraction(1, 4 * FPS)
        if recipe.rotation_deg:
            stream.set_display_rotation(recipe.rotation_deg)
        for number, at in enumerate(ticks):
            frame = av.VideoFrame.from_ndarray(recipe.paint(number), format="rgb24")
            frame = frame.reformat(format=recipe.pix_fmt, dst_colorspace="ITU601", dst_color_range="MPEG")
            frame.pts, frame.time_base = at if recipe.ticks else number, tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return Barcoded(path=path, shown=tuple((at / (4 * FPS), number) for number, at in enumerate(ticks)), keys=recipe.keys)


def cut_by_edit_list(source: Barcoded, path: Path, first: int) -> Barcoded:
    """The packets of a clip unchanged, with an edit list that starts the presentation at frame ``first``."""
    with av.open(str(source.path)) as old, av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        shift = round(first / FPS / stream.time_base)
        for packet in old.demux(stream):
            if packet.pts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copy
                new.mux(packet)
    shown = tuple((time_s - first / FPS, number) for time_s, number in source.shown if number >= first)
    return Barcoded(path=path, shown=shown, keys=tuple(key for key in source.keys if key >= first))


def repeat(source: Barcoded, path: Path, times: int) -> Barcoded:
    """The packets of a clip again and again, not encoded again: a long video for the price of a short one."""
    with av.open(str(source.path)) as old, av.open(str(path), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        packets = [(p.pts, p.dts, p.is_keyframe, bytes(p)) for p in old.demux(stream) if p.pts is not None]
        length_s = len(source.shown) / FPS
        for turn in range(times):
            shift = round(turn * length_s / stream.time_base)
            for pts, dts, is_key, data in packets:
                packet = av.Packet(data)
                packet.pts, packet.dts, packet.time_base = pts + shift, dts + shift, stream.time_base
                packet.is_keyframe, packet.stream = is_key, copy
                new.mux(packet)
    shown = tuple((turn * length_s + at, number) for turn in range(times) for at, number in source.shown)
    return Barcoded(path=path, shown=shown, keys=source.keys)


def damage(source: Barcoded, path: Path, number: int) -> Barcoded:
    """This frame overwritten; what may refer to it, decoded after it up to the next key frame, is not in ``shown``."""
    with av.open(str(source.path)) as container:
        packets = [p for p in container.demux(container.streams.video[0]) if p.pts is not None]
    order = sorted(p.pts for p in packets)
    decoded = [order.index(p.pts) for p in packets]
    first = decoded.index(number)
    last = next((i for i in range(first, len(packets)) if decoded[i] in source.keys), len(packets))
    hurt = set(decoded[first:last])
    data = bytearray(source.path.read_bytes())
    data[packets[first].pos : packets[first].pos + packets[first].size] = b"\xff" * packets[first].size
    path.write_bytes(data)
    return Barcoded(path=path, shown=tuple(entry for entry in source.shown if entry[1] not in hurt), keys=source.keys)


def shorten_header(source: Barcoded, path: Path, duration_s: float) -> Barcoded:
    """The media header (``mdhd``, version 0) announcing another duration."""
    data = bytearray(source.path.read_bytes())
    at = data.index(b"mdhd") + 4 + 12
    timescale = int.from_bytes(data[at : at + 4], "big")
    data[at + 4 : at + 8] = round(duration_s * timescale).to_bytes(4, "big")
    path.write_bytes(data)
    return Barcoded(path=path, shown=source.shown, keys=source.keys)


def cut_short(source: Barcoded, path: Path, share: float) -> Barcoded:
    """The first part of a file's bytes."""
    path.write_bytes(source.path.read_bytes()[: int(share * source.path.stat().st_size)])
    return Barcoded(path=path, shown=source.shown, keys=source.keys)


def _x265(more: str) -> dict[str, str]:
    return {"preset": "ultrafast", "x265-params": f"{X265}:{more}"}


RECIPES = {
    "h264": Recipe(muxer={"movflags": "faststart"}),
    "h264_mkv": Recipe(suffix=".mkv"),
    "h264_ip": Recipe(options={"preset": "veryfast", "x264-params": X264.replace("bframes=2", "bframes=0")}),
    "h264_often": Recipe(options={"preset": "veryfast", "x264-params": "keyint=8:min-keyint=8:scenecut=0:bframes=0"}),
    "all_keys": Recipe(codec="mpeg4", options={"q": "3", "g": "1", "bf": "0"}, n_frames=240),
    "h264_one_key": Recipe(options={"preset": "veryfast", "x264-params": X264.replace(str(GOP), "250")}, keys=(0,)),
    "fragmented": Recipe(muxer={"movflags": "frag_keyframe+empty_moov"}),
    "hevc": Recipe(codec="libx265", options=_x265("open-gop=0")),
    "vp9": Recipe(
        suffix=".webm", codec="libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "12", "crf": "20"}
    ),
    "av1": Recipe(codec="libsvtav1", options={"preset": "10", "svtav1-params": "lp=1:scd=0", "crf": "20"}),
    "h264_10bit": Recipe(pix_fmt="yuv420p10le"),
    "hevc_10bit": Recipe(codec="libx265", options=_x265("open-gop=0"), pix_fmt="yuv420p10le"),
    "rotated": Recipe(rotation_deg=90, paint=draw_on_its_side),
    "vfr": Recipe(ticks=tuple(accumulate(([4, 12, 4, 2, 20, 6, 8] * 11)[:71], initial=0))),
    "open_gop": Recipe(options={"preset": "veryfast", "x264-params": X264 + ":open-gop=1"}),
    "hevc_open_gop": Recipe(codec="libx265", options=_x265("open-gop=1")),
    "mpegts": Recipe(suffix=".ts"),
    "mpegts_one_key": Recipe(
        suffix=".ts", options={"preset": "veryfast", "x264-params": X264.replace(str(GOP), "250")}, keys=(0,), n_frames=240
    ),
    "interlaced": Recipe(
        options={"preset": "veryfast", "x264-params": X264 + ":tff=1", "flags": "+ildct+ilme", "crf": "10"}, paint=draw_fields
    ),
    "mpeg4_avi": Recipe(suffix=".avi", codec="mpeg4", options={"q": "3", "bf": "0"}),
    "h264_avi": Recipe(suffix=".avi"),
}


class Clips:
    """Clips by name, each made when first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[str, Barcoded] = {}

    def __getitem__(self, name: str) -> Barcoded:
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def path(self, name: str) -> Path:
        """A place for a file of the test's own."""
        return self._folder / name

    def _make(self, name: str) -> Barcoded:
        match name:
            case "edit_list":
                return cut_by_edit_list(self["h264"], self._folder / "edit_list.mp4", first=31)
            case "truncated":
                return cut_short(self["h264"], self._folder / "truncated.mp4", 0.6)
            case "truncated_ts":
                return cut_short(self["mpegts"], self._folder / "truncated.ts", 0.6)
            case "corrupt":
                return damage(self["h264"], self._folder / "corrupt.mp4", 30)
            case "corrupt_tail":
                return damage(self["h264"], self._folder / "corrupt_tail.mp4", 71)
            case "lying":
                return shorten_header(self["h264"], self._folder / "lying.mp4", 0.2)
            case "half_hour":
                return repeat(self["h264"], self._folder / "half_hour.mp4", 750)
            case "half_hour_ts":
                return repeat(self["h264"], self._folder / "half_hour.ts", 750)
            case "half_minute_ts":
                return repeat(self["h264"], self._folder / "half_minute.ts", 13)
            case "half_minute":
                return repeat(self["h264"], self._folder / "half_minute.mp4", 13)
        recipe = RECIPES[name]
        clip = encode(recipe, self._folder / (name + recipe.suffix))
        be_patient()
        return clip


def be_patient() -> None:
    """Back to normal scheduling: run by root, SVT-AV1 makes its process real-time, and that starves everything else."""
    if hasattr(os, "sched_setscheduler") and os.sched_getscheduler(0) != os.SCHED_OTHER:
        for thread in os.listdir("/proc/self/task"):
            os.sched_setscheduler(int(thread), os.SCHED_OTHER, os.sched_param(0))


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clips]:
    os.environ["SVT_LOG"] = "0"
    av.logging.set_level(None)
    yield Clips(tmp_path_factory.mktemp("clips"))
    del os.environ["SVT_LOG"]


@pytest.fixture(scope="session")
def read_barcode() -> Callable[[np.ndarray], int | None]:
    return read_number
