"""Copies of a clip encoded again, as sites do with uploads: training crops get the traces of real H.264, not only of JPEG."""

from __future__ import annotations

import io
import itertools
from collections.abc import Set
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Colorspace

from worker.errors import CorruptMedia, UnsupportedMedia
from worker.types import UInt8

SAME_MOMENT_S = 0.25
"""A face moves little in so short a time; the last frames of FF++ clips are up to 0.12 s late."""


def to_rgb(frame: av.VideoFrame) -> UInt8:
    """rgb_HWC uint8. Untagged streams: BT.709 from 720 rows up, else BT.601 (the usual players' rule)."""
    matrix = Colorspace.ITU709 if frame.height >= 720 else Colorspace.ITU601
    return np.asarray(frame.reformat(format="rgb24", src_colorspace=matrix).to_ndarray(), np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """x264 at a constant rate factor, scaled to ``rows`` first where given; ``phase`` picks frames that its like do not."""

    crf: int
    phase: float
    rows: int | None = None

    def frames(self, path: Path, wanted: Set[int]) -> dict[int, UInt8]:
        """The frames of ``path`` with these numbers, from a copy encoded up to the last of them, held in memory.

        Decodes in this process, without the scan's sandbox: for media of one's own. Rotation is not applied. Raises CorruptMedia
        where the clip does not decode to the last of them or cannot be encoded, UnsupportedMedia where one of these numbers
        (``training.clips``) is another moment than its place among the frames, as these are shown unevenly.
        """
        if not wanted:
            return {}
        try:
            encoded = self._encoded(path, wanted)
            with av.open(encoded, "r", format="mp4") as container:
                return {number: to_rgb(frame) for number, frame in enumerate(container.decode(video=0)) if number in wanted}
        except av.FFmpegError as exc:
            raise CorruptMedia(f"{path}: cannot be encoded again: {exc}") from exc

    def _encoded(self, path: Path, wanted: Set[int]) -> io.BytesIO:
        out = io.BytesIO()
        with av.open(str(path)) as source, av.open(out, "w", format="mp4") as sink:
            stream = source.streams.video[0]
            stream.thread_type = "AUTO"
            height = self.rows or stream.height
            width = round(stream.width * height / stream.height / 2) * 2
            rate = stream.average_rate or Fraction(25)
            first_s: float | None = None
            target = sink.add_stream("libx264", rate=rate, options={"crf": str(self.crf), "preset": "veryfast"})
            target.width, target.height, target.pix_fmt = width, height // 2 * 2, "yuv420p"
            for number, frame in enumerate(itertools.islice(source.decode(stream), max(wanted) + 1)):
                at_s = frame.time
                first_s = at_s if first_s is None else first_s
                late_s = 0.0 if at_s is None or first_s is None else at_s - first_s - float(number / rate)
                if number in wanted and abs(late_s) > SAME_MOMENT_S:
                    raise UnsupportedMedia(f"{path}: its frames are shown unevenly, number {number} at another moment")
                scaled = frame.reformat(width=target.width, height=target.height, format="yuv420p")
                scaled.pts, scaled.time_base = number, 1 / target.codec_context.framerate
                sink.mux(target.encode(scaled))
            sink.mux(target.encode(None))
        out.seek(0)
        return out


VARIANTS = {
    "crf23": Variant(crf=23, phase=0.1),
    "crf29": Variant(crf=29, phase=0.3),
    "crf35": Variant(crf=35, phase=0.7),
    "360p-crf26": Variant(crf=26, phase=0.9, rows=360),
}
