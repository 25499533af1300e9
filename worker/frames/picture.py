"""Still pictures (one frame) and animated GIF, WebP, PNG and AVIF (video), read by Pillow."""

from __future__ import annotations

import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from worker.errors import CorruptMedia, MediaError, MediaTooLarge, MediaTooLong, UnsupportedMedia
from worker.frames import layout, sampling
from worker.frames.limits import Limits
from worker.pixels import rgb_frame
from worker.types import Frame, Layout, MediaInfo, MediaKind, SamplingRequest, UInt8

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF")
ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")
TIMED_BY_DECODING = ("WEBP", "AVIF")
"""Pillow knows the durations of their frames once it has decoded them."""
_AVIF_BRANDS, _GENERAL_BRANDS = frozenset((b"avif", b"avis")), (b"mif1", b"msf1", b"miaf")
TOO_SHORT_MS, DEFAULT_FRAME_S = 10, 0.1
"""Browsers show a frame that is to last so long or less for a tenth of a second."""
MOST_EXIF_BYTES = 1 << 20
"""Read of one PNG: a JPEG has room for 64 KiB."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PILLOW_ERRORS = (
    *(OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, OverflowError, ZeroDivisionError),
    *(struct.error, AttributeError, RuntimeError),
)
"""What Pillow's readers raise on damaged files."""


def is_picture(head: bytes) -> bool:
    """Whether a file that starts so is of a format in ``FORMATS``."""
    return (
        head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*"))
        or (head.startswith(b"BM") and head[6:10] == b"\0\0\0\0")
        or (head.startswith(b"RIFF") and head[8:12] == b"WEBP")
        or (head[4:8] == b"ftyp" and not _AVIF_BRANDS.isdisjoint(_brands(head)))
    )


def _brands(head: bytes) -> set[bytes]:
    """Of an ISO file: the major brand and, where that one is general, the compatible ones."""
    end = min(int.from_bytes(head[:4], "big"), len(head)) if head[8:12] in _GENERAL_BRANDS else 0
    return {head[8:12], *(head[at : at + 4] for at in range(16, end, 4))}


class PictureDecoder:
    """Decodes what ``is_picture`` knows, by Pillow."""

    name = "pillow"

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    @contextmanager
    def open(self, file: BinaryIO) -> Iterator[PictureMedia]:
        """Raises UnsupportedMedia, CorruptMedia, MediaTooLarge or MediaTooLong; nothing is decoded before the size is checked."""
        file.seek(0)
        with _translated():
            image = Image.open(file, formats=FORMATS)
        with image:
            yield PictureMedia(image, file, self._limits)


class PictureMedia:
    """``OpenMedia`` of one Pillow image, opened from ``file``. What an animated PNG shows where nothing is animated is no part of
    it, and passed over."""

    lost_share = 0.0

    def __init__(self, image: Image.Image, file: BinaryIO, limits: Limits) -> None:
        width, height = image.size
        if width * height > limits.max_picture_pixels:
            raise MediaTooLarge(f"a picture of {width}x{height} pixels, limit {limits.max_picture_pixels}")
        if not layout.fits_layout(height, width, Layout.RGB):
            raise MediaTooLarge(f"a picture of {width}x{height} pixels, too long for its width")
        self._image = image
        with _translated():
            pages = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
            if pages > 1:
                raise UnsupportedMedia(f"{pages} pages; only single pages are scanned: split it")
            count = getattr(image, "n_frames", 1) if image.format in ANIMATED else 1
            self._skipped = int(count > 1 and getattr(image, "default_image", False))
            count -= self._skipped
            self._animated = count > 1
            if self._animated and width * height > limits.max_pixels:
                raise MediaTooLarge(f"an animation of {width}x{height} pixels, limit {limits.max_pixels}")
            if count > limits.max_packets:
                raise MediaTooLarge(f"{count} frames, limit {limits.max_packets}")
            if self._animated and count * width * height > limits.max_animation_pixels:
                raise MediaTooLarge(f"{count} frames of {width}x{height} pixels, limit {limits.max_animation_pixels} in all")
            frames = range(self._skipped, self._skipped + count)
            self._starts_s = _frame_starts(image, frames, limits.max_duration_s) if self._animated else (0.0, 0.0)
            self._turn = _TURNS.get(_orientation(image, file))
            if self._skipped and not self._animated:
                image.seek(self._skipped)
            self._first = self._upright()
        duration_s = self._starts_s[-1]
        rows, columns = self._first.shape[:2]
        self.info = MediaInfo(
            kind=MediaKind.VIDEO if self._animated else MediaKind.PICTURE,
            container=str(image.format).lower(),
            codec=str(image.format).lower(),
            width=columns,
            height=rows,
            duration_s=duration_s,
            fps=count / duration_s if self._animated else 0.0,
            n_frames=count,
            pix_fmt=image.mode,
            decoder=PictureDecoder.name,
        )

    def frames(self, request: SamplingRequest) -> Iterator[Frame]:
        """A still picture's one frame, whatever is asked; an animation's frames by the plan. A damaged tail ends the pass."""
        if not self._animated:
            yield rgb_frame(0.0, self._first)
            return
        clip = sampling.Clip(duration_s=self.info.duration_s, fps=self.info.fps, keys_s=())
        times_s = sampling.plan(request, clip).times_s
        for index in sampling.nearest_frames(self._starts_s[:-1], times_s, request.end_s):
            try:
                with _translated():
                    self._image.seek(self._skipped + index)
                    rgb_HWC = self._upright()
            except CorruptMedia:
                return
            yield rgb_frame(self._starts_s[index], rgb_HWC)

    def _upright(self) -> UInt8:
        """The frame that Pillow is at, turned as the EXIF says. Pillow's own ``exif_transpose`` writes the EXIF anew, and fails
        on values of odd types in it."""
        self._image.load()
        return _to_rgb(self._image if self._turn is None else self._image.transpose(self._turn))


def _frame_starts(image: Image.Image, frames: range, max_s: float) -> tuple[float, ...]:
    """Start of every frame, and the end of the last; the first is sought then. Raises MediaTooLong as soon as that is beyond
    ``max_s``."""
    starts = [0.0]
    for index in frames:
        image.seek(index)
        if image.format in TIMED_BY_DECODING:
            image.load()
        shown_ms = float(image.info.get("duration", 0))
        starts.append(starts[-1] + (shown_ms / 1000 if shown_ms > TOO_SHORT_MS else DEFAULT_FRAME_S))
        if starts[-1] > max_s:
            raise MediaTooLong(f"more than {max_s:.0f} s")
    image.seek(frames.start)
    return tuple(starts)


def _orientation(image: Image.Image, file: BinaryIO) -> Any:
    """By the EXIF alone, as browsers turn: where that says nothing, Pillow's ``getexif`` takes XMP and old text chunks for it."""
    exif = Image.Exif()
    try:
        exif.load(_png_exif(file) if image.format == "PNG" else image.info.get("exif", b""))
        return exif.get(ExifTags.Base.Orientation)
    except _PILLOW_ERRORS:  # what cannot be read turns nothing
        return None


def _png_exif(file: BinaryIO) -> bytes:
    """Of its chunk eXIf: where Pillow keeps that, a text chunk lies that is called ``exif``. Pillow reads on where it was."""
    was_at = file.tell()
    file.seek(len(b"\x89PNG\r\n\x1a\n"))
    try:
        while len(head := file.read(8)) == 8:
            size_bytes, kind = struct.unpack(">I4s", head)
            if kind == b"eXIf":
                return file.read(min(size_bytes, MOST_EXIF_BYTES))
            if kind == b"IEND":
                break
            file.seek(size_bytes + len(b"CRC!"), os.SEEK_CUR)
        return b""
    finally:
        file.seek(was_at)


def _to_rgb(image: Image.Image) -> UInt8:
    """RGB of any mode, transparency ignored; 16-bit and 32-bit greys keep their upper eight of 16 bits."""
    if image.mode.startswith("I"):
        grey_HW = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        return np.repeat(grey_HW[:, :, None], 3, axis=2)
    if image.mode == "F":
        raise UnsupportedMedia("a picture of floating-point values")
    return np.array(image.convert("RGB"))


@contextmanager
def _translated() -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except MediaError:
        raise
    except UnidentifiedImageError as exc:
        raise CorruptMedia("not a readable picture") from exc  # Pillow names the file object, which tells nobody anything
    except Image.DecompressionBombError as exc:
        raise MediaTooLarge(str(exc)) from exc
    except _PILLOW_ERRORS as exc:
        raise CorruptMedia(f"damaged picture: {exc}") from exc
