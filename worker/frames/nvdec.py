"""Decoding on an NVIDIA card (NVDEC) by FFmpeg's CUDA acceleration, which PyAV's wheels carry. Not verified on hardware.

The decoding child takes the card before it is locked down: its libraries and device files can be opened only then. It decodes a
short clip of ours on it, so that all that decoding loads is loaded, and the card is known to decode. Frames come down to memory
as NV12 and become the planes that software decoding gives. Only codecs that leave a decoder no choice are decoded so.
``veriframe parity --decoder nvdec`` shows whether they are, on a machine with a card.
"""

from __future__ import annotations

import ctypes
import io
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
from av.codec.hwaccel import HWAccel
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

from worker.errors import UnsupportedMedia
from worker.frames import wire
from worker.frames.lockdown import lock_down

NAME = wire.NVDEC
LIBRARIES = ("libcuda.so.1", "libnvcuvid.so.1")
EXACT = frozenset(("h264", "hevc", "vp8", "vp9"))
"""Codecs that leave a decoder no choice; cards take more of them (MPEG-2, MPEG-4, ...). AV1 leaves none either, but PyAV takes
libdav1d for it, which knows no card and decodes in software."""
_SAMPLE_SIDE, _SAMPLE_FRAMES = 256, 4
_ASK_TIMEOUT_S = 30.0
_ASK = "import os, sys; sys.path.insert(0, sys.argv[1]); from worker.frames import nvdec; nvdec.ask(); os._exit(0)"
_ASK_MEMORY = 2 << 30
"""As ``worker.frames.sandbox`` gives."""
_PLANAR = {"nv12": "yuv420p", "p010le": "yuv420p10le"}


class NoCard(Exception):
    """No card decodes here; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """``accel`` is for ``av.open``. ``held`` keeps the card's context, which each file's decoder then shares."""

    accel: HWAccel
    held: HWAccel


_taken: list[Card] = []


def take_card() -> None:
    """For this process, once. Raises NoCard."""
    for library in LIBRARIES:
        try:
            ctypes.CDLL(library)
        except OSError as exc:
            raise NoCard(f"NVIDIA's driver is not installed, or not for video: {exc}") from exc
    accel = HWAccel("cuda", allow_software_fallback=False, options={"primary_ctx": "1"})
    try:
        held = accel.create(av.Codec("h264", "r"))
        decoded = decode_sample(sample(), accel)
    except (av.error.FFmpegError, NotImplementedError) as exc:
        raise NoCard(f"the card cannot be used: {exc}") from exc
    if decoded != _SAMPLE_FRAMES:
        raise NoCard(f"the card decodes {decoded} frames of {_SAMPLE_FRAMES}")
    _taken.append(Card(accel=accel, held=held))


def taken() -> HWAccel | None:
    """What ``av.open`` takes to decode on the card; None where this process has none."""
    return _taken[-1].accel if _taken else None


def lacking() -> str | None:
    """Why no card decodes here; None where one does. Asked in a process of its own, which locks itself down as a decoding child
    does, and ends."""
    command = [sys.executable, "-I", "-c", _ASK, str(Path(__file__).parents[2])]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_ASK_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"the card's driver does not answer within {_ASK_TIMEOUT_S:.0f} s"
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or [f"the card's driver ended the process ({done.returncode})"])[-1]


def ask(take: Callable[[], None] = take_card) -> None:
    """Exit with the reason where no card can be taken, or where it does not decode behind the sandbox, as files are decoded."""

    is_asked = False

    def take_first() -> bool:
        nonlocal is_asked
        is_asked = True
        take()
        return True

    clip = sample()
    try:
        lock_down(memory_bytes=_ASK_MEMORY, cpu_s=_ASK_TIMEOUT_S, parent_pid=os.getppid(), take_card=take_first)
        if not is_asked:
            sys.exit("no card is taken on this system")
        decoded = decode_sample(clip, taken())
    except NoCard as exc:
        sys.exit(str(exc))
    except (av.error.FFmpegError, NotImplementedError) as exc:
        sys.exit(f"a card is here, and does not decode behind the sandbox: {exc}")
    if decoded != _SAMPLE_FRAMES:
        sys.exit(f"a card is here, and decodes {decoded} frames of {_SAMPLE_FRAMES} behind the sandbox")


def sample() -> bytes:
    """A short H.264 clip."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "threads": "1"})
        stream.width = stream.height = _SAMPLE_SIDE
        stream.pix_fmt = "yuv420p"
        for place in range(_SAMPLE_FRAMES):
            frame = av.VideoFrame(_SAMPLE_SIDE, _SAMPLE_SIDE, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes([64 + 32 * place]) * plane.buffer_size)
            frame.pts = place
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def decode_sample(clip: bytes, accel: HWAccel | None) -> int:
    """How many of its frames decode."""
    with av.open(io.BytesIO(clip), "r", hwaccel=accel) as container:
        return len(list(container.decode(video=0)))


def check_taken(stream: VideoStream) -> None:
    """Raises UnsupportedMedia where a card does not decode the stream, or might give other pixels than software."""
    name = stream.codec_context.codec.canonical_name
    if not stream.codec_context.is_hwaccel or name not in EXACT:
        raise UnsupportedMedia(f"{name} is not decoded on the card")


def planar(frame: av.VideoFrame) -> av.VideoFrame:
    """The frame with its chroma in two planes, as software gives it; others as they are. No value changes."""
    wanted = _PLANAR.get(frame.format.name)
    if wanted is None:
        return frame
    told = frame.color_range, frame.colorspace
    frame = frame.reformat(
        format=wanted,
        src_color_range=ColorRange.MPEG,
        dst_color_range=ColorRange.MPEG,
        src_colorspace=Colorspace.ITU709,
        dst_colorspace=Colorspace.ITU709,
        threads=1,
    )
    frame.color_range, frame.colorspace = told
    return frame
