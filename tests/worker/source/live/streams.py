"""Streams for the tests: made by FFmpeg's multiplexers, published on a clock that moves when somebody waits."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import av
import numpy as np

from tests.worker.source.loopback import Loopback, reply

FPS = 10


def made(
    folder: Path, muxer: str, greys: list[int], *, start_s: float = 0, name: str = "made", **options: str
) -> dict[str, bytes]:
    """A second of each grey, a key frame each second, its clock beginning at ``start_s``: the files by name."""
    folder.mkdir(parents=True, exist_ok=True)
    options = {"mpegts_copyts": "1", **options} if muxer == "mpegts" else options
    with av.open(str(folder / name), "w", format=muxer, options=options) as out:
        coding = {"g": str(FPS), "preset": "ultrafast", "threads": "1", "sc_threshold": "0"}
        stream = out.add_stream("libx264", rate=FPS, options=coding)
        stream.width, stream.height, stream.pix_fmt = 96, 96, "yuv420p"
        for place in range(FPS * len(greys)):
            frame = av.VideoFrame.from_ndarray(np.full((96, 96, 3), greys[place // FPS], np.uint8), format="rgb24")
            frame.pts, frame.time_base = place + round(start_s * FPS), Fraction(1, FPS)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def segments(folder: Path, greys: list[int], *, kind: str = "mpegts", seconds: int = 1, start_s: float = 0) -> dict[str, bytes]:
    """``seg0.ts``, ``seg1.ts``, ... or ``init.mp4``, ``seg0.m4s``, ..., each of ``seconds`` seconds."""
    ending = "ts" if kind == "mpegts" else "m4s"
    found = made(
        folder,
        "hls",
        greys,
        name="media.m3u8",
        start_s=start_s,
        hls_time=str(seconds),
        hls_list_size="0",
        hls_segment_type=kind,
        hls_segment_filename=str(folder / f"seg%d.{ending}"),
        hls_fmp4_init_filename="init.mp4",
    )
    return {name: data for name, data in found.items() if not name.endswith(".m3u8")}


class Clock:
    """Moves only when somebody sleeps; ``on_sleep`` is called each time."""

    def __init__(self, on_sleep: Callable[[float], None] = lambda now_s: None) -> None:
        self.now_s = 0.0
        self._on_sleep = on_sleep

    def now(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self._on_sleep(self.now_s)


class LiveHls:
    """An HLS server that publishes one segment every ``seconds`` of ``clock``, and lists the last ``listed`` of them.

    ``away_s``: between these moments it answers 503. ``ready``: so many segments are there from the start.
    ``unsaid``: of these it says that they last a millisecond.
    """

    def __init__(
        self,
        held: dict[str, bytes],
        clock: Clock,
        *,
        seconds: float = 1,
        listed: int = 5,
        ready: int = 1,
        away_s: tuple[float, float] = (0, 0),
        missing: frozenset[int] = frozenset(),
        unsaid: frozenset[int] = frozenset(),
        is_open: bool = False,
    ) -> None:
        self._held, self._clock = held, clock
        self._seconds, self._listed, self._ready, self._away_s = seconds, listed, ready, away_s
        self._missing, self._unsaid, self._is_open = missing, unsaid, is_open
        self.names = sorted((name for name in held if name.startswith("seg")), key=lambda name: int(name[3:].split(".")[0]))

    def __call__(self, request: BaseHTTPRequestHandler, served: Loopback) -> None:
        name = request.path.partition("?")[0].strip("/")
        if self._away_s[0] <= self._clock.now_s < self._away_s[1]:
            reply(b"", 503)(request, served)
        elif name == "live.m3u8":
            reply(self.playlist().encode())(request, served)
        elif name in self._held and name not in {f"seg{number}.ts" for number in self._missing}:
            reply(self._held[name])(request, served)
        else:
            reply(b"", 404)(request, served)

    def playlist(self) -> str:
        count = min(len(self.names), self._ready + int(self._clock.now_s / self._seconds))
        first = max(0, count - self._listed)
        lines = ["#EXTM3U", "#EXT-X-VERSION:7", f"#EXT-X-TARGETDURATION:{self._seconds:.0f}", f"#EXT-X-MEDIA-SEQUENCE:{first}"]
        lines += ['#EXT-X-MAP:URI="init.mp4"'] if "init.mp4" in self._held else []
        for number in range(first, count):
            lines += [f"#EXTINF:{0.001 if number in self._unsaid else self._seconds:.3f},", self.names[number]]
        if count == len(self.names) and not self._is_open:
            lines.append("#EXT-X-ENDLIST")
        return "\n".join(lines) + "\n"
