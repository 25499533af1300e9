"""Peak memory and time of scans of a ten-second and a half-hour 720p clip, default options: neither may grow with length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from optimize.bench.memory import PeakMemory
from optimize.bench.side import Rival, Side
from worker.demo import demo_files
from worker.errors import ConfigError

SCANS = Rival(name="veriframe", build="optimize.bench.rivals.scanner:build")
SHORT_S = 10.0
WIDTH, HEIGHT, FPS = 1280, 720, 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Soaked:
    """One scan in a fresh process. ``start_up_s`` is apart from ``scan_s``; ``peak_bytes`` counts all processes (PSS)."""

    path: Path
    media_s: float
    frames: int
    faces: int
    start_up_s: float
    scan_s: float
    peak_bytes: int


def make_clip(path: Path, seconds: float = SHORT_S) -> None:
    """A 720p H.264 clip of two people: a demo clip enlarged, played forth and back until the time is up."""
    source = next(file.path for file in demo_files() if file.people == 2)
    with av.open(str(source)) as container:
        small = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    inner = round(small[0].shape[1] * HEIGHT / small[0].shape[0])
    left = (WIDTH - inner) // 2
    swing = [*small, *small[-2:0:-1]]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "23", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for n in range(round(seconds * FPS)):
            large = cv2.resize(swing[n % len(swing)], (inner, HEIGHT), interpolation=cv2.INTER_CUBIC)
            frame = cv2.copyMakeBorder(large, 0, 0, left, WIDTH - inner - left, cv2.BORDER_REFLECT_101)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(frame, np.uint8), format="rgb24")))
        container.mux(stream.encode(None))


def loop_clip(source: Path, target: Path, seconds: float) -> float:
    """The first video stream of ``source`` repeated, packet by packet, until it lasts ``seconds``; returns what it lasts.

    Nothing is encoded again: each round has its time stamps moved by the length of one. Raises ConfigError for what is no video.
    """
    try:
        return _looped(source, target, seconds)
    except (av.FFmpegError, ValueError) as exc:
        raise ConfigError(f"{source} cannot be repeated: {exc}") from exc


def _looped(source: Path, target: Path, seconds: float) -> float:
    with av.open(str(source)) as reading, av.open(str(target), "w") as writing:
        if not reading.streams.video:
            raise ValueError("it has no video stream")
        stream = reading.streams.video[0]
        copy = writing.add_stream_from_template(stream)
        packets = [packet for packet in reading.demux(stream) if packet.dts is not None]
        base = packets[0].time_base if packets else None
        ends = [(packet.pts or 0) + (packet.duration or 0) for packet in packets]
        length = max(ends, default=0) - min((packet.pts or 0 for packet in packets), default=0)
        if base is None or length <= 0:
            raise ValueError("its packets have no times")
        stamps = [(packet.dts or 0, packet.pts or 0) for packet in packets]
        rounds = max(1, -(-Fraction(seconds).limit_denominator(1000) // (length * base)))
        for number in range(int(rounds)):
            for packet, (dts, pts) in zip(packets, stamps, strict=True):
                again = av.Packet(bytes(packet))
                again.stream, again.time_base = copy, base
                again.dts, again.pts, again.duration = dts + number * length, pts + number * length, packet.duration
                again.is_keyframe = packet.is_keyframe
                writing.mux(again)
    return float(rounds * length * base)


def soak(clips: Sequence[tuple[Path, float]], *, threads: int) -> list[Soaked]:
    """Scan each clip (path, seconds it lasts) in a fresh process by the default options. Raises SideFailed."""
    results = []
    for path, media_s in clips:
        with Side(SCANS, threads=threads) as side, PeakMemory(side.pid) as memory:
            run = side.ask({"path": str(path)})
        results.append(
            Soaked(
                path=path,
                media_s=media_s,
                frames=run.reply["frames"],
                faces=run.reply["faces"],
                start_up_s=side.start_up_s,
                scan_s=run.wall_s,
                peak_bytes=memory.peak_bytes,
            )
        )
    return results
