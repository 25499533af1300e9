"""The decoder decord, for the kinds of files on which it is exact: read from the start, frame by frame, by ``next`` alone.

decord 0.6.0 gives wrong frames by random access and by ``skip_frames`` (MPEG-TS, open groups of pictures, fragments, edit lists,
HEVC), and fills up with repeated frames what a damaged packet took away; so PyAV decodes every file through once before decord
may have it. It is optional: see ``is_installed``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np

from worker.errors import CorruptMedia, UnsupportedMedia
from worker.frames import sampling
from worker.frames.limits import Limits
from worker.frames.pyav import PyavDecoder, PyavMedia
from worker.types import Frame, MediaInfo, SamplingRequest

CODECS = frozenset(("h264", "hevc", "vp9"))
CONTAINERS = frozenset(("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"))
MAX_AHEAD_BYTES = 512 * 1024**2
"""It reads ahead without bound: files whose frames would take more are left to PyAV."""


def is_installed() -> bool:
    return importlib.util.find_spec("decord") is not None


def unfit(media: PyavMedia) -> str | None:
    """Why decord would not be exact on a file, or None. Decodes the file through if nothing else speaks against it."""
    info = media.info
    reasons = {
        f"container {info.container}": info.container not in CONTAINERS,
        f"codec {info.codec}": info.codec not in CODECS,
        f"pixel format {info.pix_fmt}": info.pix_fmt not in ("yuv420p", "yuvj420p"),
        "HDR": info.hdr,
        "interlaced": info.interlaced,
        "rotated": info.rotation_deg != 0,
        "edit list": info.has_edit_list,
        "pixels are not square": not media.has_square_pixels,
        "it takes an unnamed colour matrix for BT.601": media.matrix_is_guessed and (info.height > 576 or info.width >= 1280),
        "its read-ahead would not fit": info.n_frames * info.width * info.height * 3 > MAX_AHEAD_BYTES,
    }
    known = next((reason for reason, applies in reasons.items() if applies), None)
    if known is not None or media.is_undamaged():
        return known
    return "a packet is damaged or missing"


class DecordDecoder:
    """``FrameDecoder`` on decord; the probe is PyAV's."""

    name = "decord"

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    @contextmanager
    def open(self, file: BinaryIO) -> Iterator[DecordMedia]:
        """Raises UnsupportedMedia where decord is not installed or not exact on the file; otherwise what PyAV's probe raises."""
        if not is_installed():
            raise UnsupportedMedia("decord is not installed")
        with PyavDecoder(self._limits).open(file) as probed:
            reason = unfit(probed)
            if reason is not None:
                raise UnsupportedMedia(f"decord is not exact on this kind of file: {reason}")
            info, clip = probed.info, probed.clip
        yield DecordMedia(file, info, clip)


class DecordMedia:
    """``OpenMedia`` of one video."""

    def __init__(self, file: BinaryIO, info: MediaInfo, clip: sampling.Clip) -> None:
        self.info = replace(info, decoder=DecordDecoder.name)
        self._file = file
        self._clip = clip
        starts_N2 = self._reader().get_frame_timestamp(range(info.n_frames))
        self._starts_s: list[float] = (starts_N2[:, 0] - starts_N2[0, 0]).tolist()

    def frames(self, request: SamplingRequest) -> Iterator[Frame]:
        """Raises CorruptMedia where decord fails in mid-file."""
        times_s = sampling.plan(request, self._clip).times_s
        starts = np.asarray(self._starts_s)
        wanted = sorted({int(np.abs(starts - time_s).argmin()) for time_s in times_s})
        reader = self._reader()
        at = -1
        for index in wanted:
            if request.end_s is not None and self._starts_s[index] >= request.end_s:
                return
            while at < index:
                frame = self._next(reader)
                at += 1
            yield Frame(pts_s=self._starts_s[index], rgb_HWC=frame.asnumpy())

    def _reader(self) -> Any:
        import decord

        self._file.seek(0)
        try:
            return decord.VideoReader(self._file, ctx=decord.cpu(0), num_threads=1)
        except decord.DECORDError as exc:
            raise CorruptMedia(f"decord cannot open the file: {exc}") from exc

    def _next(self, reader: Any) -> Any:
        import decord

        try:
            return reader.next()
        except (decord.DECORDError, StopIteration) as exc:
            raise CorruptMedia(f"decord stopped: {exc}") from exc
