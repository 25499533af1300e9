"""What parent, zygote and decoding child say to each other: JSON with its length in front, never pickle.

The parent believes nothing that comes from a child: ``info_from``, ``frame_from`` and ``error_from`` check every field and raise
``ProtocolError``. Requests go the other way, from the side that is trusted.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from worker.errors import BY_CODE, DecodeCrash, DecodeError, MediaError, VeriframeError
from worker.frames.layout import bytes_of, fits_layout
from worker.frames.limits import Limits
from worker.patience import LOOK_S, Patience
from worker.pixels import MATRICES, YuvPixels
from worker.types import Frame, Json, Layout, MediaInfo, MediaKind, SamplingRequest, Strategy

HEADER = struct.Struct("!I")
MAX_MESSAGE_BYTES = 1 << 20
_READ_BYTES = 1 << 16
_MAX_TEXT = 64
_MAX_ERROR_TEXT = 300
_MAX_FPS = 1e9
NVDEC = "nvdec"
"""What ``MediaInfo.decoder`` says where a card decodes."""
PTS_SLACK_S = 60.0
"""Frames may lie so far outside the length that the header announces."""


class ProtocolError(Exception):
    """A message that an honest peer would not send."""


class PeerGone(Exception):
    """The other end is closed."""


def encode(message: Json) -> bytes:
    body = json.dumps(message, separators=(",", ":")).encode()
    return HEADER.pack(len(body)) + body


def decode(body: bytes) -> Json:
    try:
        message = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError) as exc:
        raise ProtocolError("not JSON") from exc
    if not isinstance(message, dict):
        raise ProtocolError("not an object")
    return message


def read_message(read: Callable[[int], bytes]) -> Json:
    """One message by ``read``, which gives some bytes, at most as many as asked for, and none at the end."""
    (length,) = HEADER.unpack(_exactly(read, HEADER.size))
    if length > MAX_MESSAGE_BYTES:
        raise ProtocolError(f"a message of {length} bytes")
    return decode(_exactly(read, length))


class Channel:
    """The parent's end of a socket; every wait ends in time (TimeoutError), however slowly bytes trickle in."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._unread = b""

    def send(self, message: Json, *, timeout_s: float, fds: Sequence[int] = ()) -> None:
        self._sock.settimeout(max(timeout_s, 1e-3))
        data = encode(message)
        try:
            if fds:
                sent = socket.send_fds(self._sock, [data], list(fds))
                data = data[sent:]
            self._sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as exc:
            raise PeerGone from exc

    def receive(self, patience: Patience) -> Json:
        def read(size: int) -> bytes:
            data = self._unread or self._some(patience)
            self._unread = data[size:]
            return data[:size]

        return read_message(read)

    def _some(self, patience: Patience) -> bytes:
        """What has come: a message at a time, as a rule."""
        while (left_s := patience.spend()) > 0:  # asked also where bytes are there: a peer may always have some
            self._sock.settimeout(min(left_s, LOOK_S))
            try:
                return self._sock.recv(_READ_BYTES)
            except TimeoutError:
                continue
            except ConnectionResetError as exc:
                raise PeerGone from exc
        raise TimeoutError

    def close(self) -> None:
        self._sock.close()


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """Where a frame lies and what it is; the last two say what the planes of one that is not RGB mean."""

    slot: int
    height: int
    width: int
    pts_s: float
    matrix: int
    full_range: bool


def request_to(request: SamplingRequest) -> Json:
    return asdict(request)


def request_from(message: Json) -> SamplingRequest:
    times_s = message.pop("times_s")
    strategy = Strategy(message.pop("strategy"))
    return SamplingRequest(strategy=strategy, times_s=None if times_s is None else tuple(times_s), **message)


def part_of(message: Json, key: str) -> Json:
    """The object that a message holds by this name."""
    part = message.get(key)
    if not isinstance(part, dict):
        raise ProtocolError(f"no {key}")
    return part


def info_to(info: MediaInfo) -> Json:
    return asdict(info)


def pixels_allowed(kind: MediaKind, limits: Limits) -> int:
    return limits.max_picture_pixels if kind is MediaKind.PICTURE else limits.max_pixels


def info_from(message: Json, limits: Limits) -> MediaInfo:
    """An honest child refuses media beyond the limits itself."""
    try:
        kind = MediaKind(_text(message, "kind"))
    except ValueError as exc:
        raise ProtocolError("unknown kind of media") from exc
    width, height = _size(message, pixels_allowed(kind, limits))
    duration_s = _real(message, "duration_s", 0.0, limits.max_duration_s)
    return MediaInfo(
        kind=kind,
        container=_text(message, "container"),
        codec=_text(message, "codec"),
        width=width,
        height=height,
        duration_s=duration_s,
        fps=_real(message, "fps", 0.0, _MAX_FPS),
        n_frames=_whole(message, "n_frames", 0, limits.max_packets),
        pix_fmt=_text(message, "pix_fmt"),
        rotation_deg=_whole(message, "rotation_deg", -360, 360),
        interlaced=_flag(message, "interlaced"),
        hdr=_flag(message, "hdr"),
        has_edit_list=_flag(message, "has_edit_list"),
        variable_rate=_flag(message, "variable_rate"),
        decoder=_text(message, "decoder"),
        layout=_layout(message),
        missing_s=_real(message, "missing_s", 0.0, duration_s),
        more_videos=_whole(message, "more_videos", 0, limits.max_streams),
        starts_s=_real(message, "starts_s", 0.0, limits.max_duration_s),
    )


def frame_to(frame: Frame, slot: int) -> Json:
    pixels = frame.pixels
    matrix, full_range = (pixels.matrix, pixels.full_range) if isinstance(pixels, YuvPixels) else (1, True)
    size: Json = {"slot": slot, "height": frame.height, "width": frame.width, "pts_s": float(frame.pts_s)}
    return size | {"matrix": matrix, "full_range": full_range}


def frame_from(
    message: Json, *, layout: Layout, max_pixels: int, duration_s: float, slots: set[int], slot_bytes: int
) -> FrameHeader:
    """``layout`` is that of all frames of the media, ``slots`` are those that the child may fill now."""
    slot = _whole(message, "slot", 0, max(slots, default=0))
    if slot not in slots:
        raise ProtocolError(f"slot {slot} is not the child's")
    width, height = _size(message, max_pixels)
    if not fits_layout(height, width, layout) or bytes_of(height, width, layout) > slot_bytes:
        raise ProtocolError(f"a frame of {width}x{height} is larger than its slot, or cannot be {layout}")
    matrix = _whole(message, "matrix", min(MATRICES), max(MATRICES))
    if matrix not in MATRICES:
        raise ProtocolError("unknown matrix")
    pts_s = _real(message, "pts_s", -PTS_SLACK_S, duration_s + PTS_SLACK_S)
    return FrameHeader(slot, height, width, pts_s, matrix, _flag(message, "full_range"))


def share_from(message: Json) -> float:
    """The share of moments whose pictures could not be decoded, as a pass ends."""
    return _real(message, "lost_share", 0.0, 1.0)


def error_to(code: str, message: str) -> Json:
    return {"error": {"code": code, "message": message[:_MAX_ERROR_TEXT]}}


def error_from(message: Json) -> VeriframeError:
    """The error that the child names; one that is not about media or decoding is not its to raise."""
    code, text = message.get("code"), message.get("message")
    kind = BY_CODE.get(code) if isinstance(code, str) else None
    if kind is None or not issubclass(kind, (MediaError, DecodeError)):
        kind = DecodeCrash
    return kind(printable(text, _MAX_ERROR_TEXT) if isinstance(text, str) else "")


def printable(text: str, longest: int) -> str:
    """``text`` cut to ``longest`` characters, without control characters."""
    return "".join(c if c.isprintable() else "?" for c in text[:longest])


def _exactly(read: Callable[[int], bytes], size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = read(size - len(data))
        if not part:
            raise PeerGone
        data += part
    return bytes(data)


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def _size(message: Json, max_pixels: int) -> tuple[int, int]:
    width, height = _whole(message, "width", 1, max_pixels), _whole(message, "height", 1, max_pixels)
    if width * height > max_pixels:
        raise ProtocolError(f"{width}x{height} pixels")
    return width, height


def _whole(message: Json, key: str, least: int, most: int) -> int:
    value = message.get(key)
    if type(value) is not int or not least <= value <= most:
        raise ProtocolError(f"bad {key}")
    return value


def _real(message: Json, key: str, least: float, most: float) -> float:
    value = message.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise ProtocolError(f"bad {key}")
    return float(value)


def _layout(message: Json) -> Layout:
    try:
        return Layout(_text(message, "layout"))
    except ValueError as exc:
        raise ProtocolError("unknown layout") from exc


def _flag(message: Json, key: str) -> bool:
    value = message.get(key)
    if type(value) is not bool:
        raise ProtocolError(f"bad {key}")
    return value


def _text(message: Json, key: str) -> str:
    value = message.get(key)
    if not isinstance(value, str):
        raise ProtocolError(f"bad {key}")
    return printable(value, _MAX_TEXT)
