"""The decoder decord, for the kinds of files on which it is exact: read from the start, frame by frame, by ``next`` alone.

decord 0.6.0 gives wrong frames by random access and by ``skip_frames`` (MPEG-TS, open groups of pictures, fragments, edit lists,
HEVC), and fills up with repeated frames what a damaged packet took away; so PyAV decodes every file through once before decord
may have it. It is optional: see ``is_installed``.
"""

from __future__ import annotations

import importlib.util
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any, BinaryIO

import numpy as np

from worker.errors import CorruptMedia, UnsupportedMedia
from worker.frames import sampling
from worker.frames.limits import Limits
from worker.frames.pyav import PyavDecoder, PyavMedia, packets_behind
from worker.pixels import rgb_frame
from worker.types import Frame, Layout, MediaInfo, SamplingRequest, Strategy

NAME = "decord"
CODECS = frozenset(("h264", "hevc", "vp9"))
CONTAINERS = frozenset(("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"))
MAX_AHEAD_BYTES = 512 * 1024**2
MAX_FILE_BYTES = 256 * 1024**2
"""decord cannot read from a descriptor, only from memory; it also reads ahead without bound. Larger files are left to PyAV."""


def is_installed() -> bool:
    return importlib.util.find_spec("decord") is not None


def import_early() -> None:
    """Before it is needed, where it is installed. Whatever it raises then is raised here."""
    if is_installed():
        importlib.import_module("decord")


def unfit(media: PyavMedia) -> str | None:
    """Why decord would not be exact on a file of this kind, or None."""
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
    return next((reason for reason, applies in reasons.items() if applies), None)


class DecordDecoder:
    """Decodes by decord; the probe is PyAV's."""

    name = NAME

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    @contextmanager
    def open(self, file: BinaryIO) -> Iterator[DecordMedia]:
        """Raises UnsupportedMedia where decord is not installed or not exact on the file; otherwise what PyAV's probe raises."""
        if not is_installed():
            raise UnsupportedMedia("decord is not installed")
        with PyavDecoder(self._limits).open(file) as probed:
            reason = unfit(probed) if os.fstat(file.fileno()).st_size <= MAX_FILE_BYTES else "the file does not fit in memory"
            if reason is not None:
                raise UnsupportedMedia(f"decord is not exact on this kind of file: {reason}")
            info = probed.info
            starts_s, keys_s = probed.decode_through()
        if len(starts_s) != info.n_frames:
            raise UnsupportedMedia(f"decord is not exact on damaged files: {len(starts_s)} of {info.n_frames} frames decode")
        if any(later_s <= earlier_s for earlier_s, later_s in pairwise(starts_s)):
            raise UnsupportedMedia("decord is not exact where several frames are shown at one moment, or time goes back")
        yield DecordMedia(file, info, starts_s, replace(probed.clip, keys_s=tuple(keys_s)))


class DecordMedia:
    """``OpenMedia`` of one video, of which all can be decoded (``unfit``)."""

    lost_share = 0.0

    def __init__(self, file: BinaryIO, info: MediaInfo, starts_s: list[float], clip: sampling.Clip) -> None:
        self.info = replace(info, decoder=DecordDecoder.name, layout=Layout.RGB)
        fd = file.fileno()  # FFmpeg has moved the descriptor behind the back of ``file``'s own buffer
        self._data = os.pread(fd, os.fstat(fd).st_size, 0)
        self._clip = clip
        self._starts_s = starts_s

    def frames(self, request: SamplingRequest) -> Iterator[Frame]:
        """Raises CorruptMedia where decord fails in mid-file."""
        plan = sampling.plan(request, self._clip)
        wanted = sampling.nearest_frames(self._starts_s, plan.times_s, request.end_s)
        if plan.keys_only and request.strategy is not Strategy.KEYFRAMES:
            last = [*(np.searchsorted(self._starts_s, self._clip.keys_s) - 1).tolist(), len(self._starts_s) - 1]
            wanted = [
                min(index + packets_behind(number), next(end for end in last if end >= index))
                for number, index in enumerate(wanted)
            ]
        reader = self._reader()
        at = -1
        for index in wanted:
            if request.end_s is not None and self._starts_s[index] >= request.end_s:
                return
            while at < index:
                frame = self._next(reader)
                at += 1
            yield rgb_frame(self._starts_s[index], frame.asnumpy())

    def _reader(self) -> Any:
        import decord

        decord.logging.set_level(decord.logging.QUIET)
        try:
            return decord.VideoReader(io.BytesIO(self._data), ctx=decord.cpu(0), num_threads=1)
        except (decord.DECORDError, RuntimeError) as exc:
            raise CorruptMedia(f"decord cannot open the file: {exc}") from exc

    def _next(self, reader: Any) -> Any:
        import decord

        try:
            return reader.next()
        except (decord.DECORDError, StopIteration) as exc:
            raise CorruptMedia(f"decord stopped: {exc}") from exc
