"""Small recordings for the tests of playlists, cut into segments by FFmpeg's own muxers."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

FPS, SECONDS = 10, 3


def record(folder: Path, name: str, muxer: str, **options: str) -> dict[str, bytes]:
    """Three seconds that grow brighter, a key frame each second, written by ``muxer``: every file that this made, by its name."""
    folder.mkdir(exist_ok=True)
    with av.open(str(folder / name), "w", format=muxer, options=options) as out:
        stream = out.add_stream("libx264", rate=FPS, options={"g": str(FPS), "preset": "ultrafast", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(FPS * SECONDS):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 8 * i, np.uint8), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def hls(folder: Path, *, kind: str = "mpegts", single: bool = False) -> dict[str, bytes]:
    flags = {"hls_flags": "single_file"} if single else {}
    return record(folder, "media.m3u8", "hls", hls_time="1", hls_playlist_type="vod", hls_segment_type=kind, **flags)


def dash(folder: Path, **options: str) -> dict[str, bytes]:
    return record(folder, "manifest.mpd", "dash", seg_duration="1", **options)


def frames_in(path: Path) -> int:
    """How many frames decode."""
    with av.open(str(path)) as media:
        return sum(1 for _ in media.decode(video=0))
