"""Small recordings for the tests of playlists, cut into segments by FFmpeg's own muxers."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

FPS, SECONDS = 10, 3


def record(folder: Path, name: str, muxer: str, *, width_px: int = 64, **options: str) -> dict[str, bytes]:
    """Three seconds that grow brighter, a key frame each second, written by ``muxer``: every file that this made, by its name."""
    folder.mkdir(parents=True, exist_ok=True)
    with av.open(str(folder / name), "w", format=muxer, options=options) as out:
        stream = out.add_stream("libx264", rate=FPS, options={"g": str(FPS), "preset": "ultrafast", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = width_px, 48, "yuv420p"
        for i in range(FPS * SECONDS):
            frame = av.VideoFrame.from_ndarray(np.full((48, width_px, 3), 8 * i, np.uint8), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def hls(folder: Path, *, kind: str = "mpegts", single: bool = False, width_px: int = 64) -> dict[str, bytes]:
    options = {"hls_time": "1", "hls_playlist_type": "vod", "hls_segment_type": kind}
    flags = {"hls_flags": "single_file"} if single else {}
    return record(folder, "media.m3u8", "hls", width_px=width_px, **options, **flags)


def dash(folder: Path, *, width_px: int = 64, **options: str) -> dict[str, bytes]:
    return record(folder, "manifest.mpd", "dash", width_px=width_px, seg_duration="1", **options)


def below(name: str, held: dict[str, bytes]) -> dict[str, bytes]:
    """The files in a folder."""
    return {f"{name}/{one}": data for one, data in held.items()}


def times_in(path: Path) -> list[float]:
    """Of the frames that decode, in seconds."""
    with av.open(str(path)) as media:
        return [round(frame.time or 0.0, 3) for frame in media.decode(video=0)]


def frames_in(path: Path) -> int:
    """How many frames decode."""
    with av.open(str(path)) as media:
        return sum(1 for _ in media.decode(video=0))
