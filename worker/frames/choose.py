"""The one way into a file: judges it by its content and opens it with the decoder that is exact on it.

A still or animated picture goes to Pillow, a video to PyAV. decord is used where it was asked for by name, is installed and is
exact on the kind of file (``decord.unfit``), and so is a card by ``nvdec``; ``auto`` means PyAV in software for every video: that
is exact on all of them and was faster than decord on each (docs/decisions/0004-decoders.md).

Every decoder makes ``OpenMedia`` of an open file, inside the sandboxed child: it never opens anything by name.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO, Literal

import av
from PIL import Image

from worker.errors import CorruptMedia, EmptyMedia, MediaTooLarge, OutOfMemory, UnsupportedMedia
from worker.frames import decord, nvdec, probe
from worker.frames.decord import DecordDecoder
from worker.frames.limits import Limits
from worker.frames.picture import PictureDecoder, is_picture
from worker.frames.pyav import PyavDecoder
from worker.ports import OpenMedia

logger = logging.getLogger(__name__)

DecoderName = Literal["auto", "pyav", "decord", "nvdec"]


@contextmanager
def open_media(file: BinaryIO, limits: Limits, decoder: DecoderName = "auto", threads: int = 1) -> Iterator[OpenMedia]:
    """Probe an open, seekable file. Raises a MediaError: empty, unsupported, corrupt, too_large or too_long."""
    size = file.seek(0, 2)
    file.seek(0)
    if size == 0:
        raise EmptyMedia("the file has no bytes")
    if size > limits.max_bytes:
        raise MediaTooLarge(f"{size} bytes, limit {limits.max_bytes}")
    head = file.read(probe.HEAD_BYTES)
    if is_picture(head):
        with PictureDecoder(limits).open(file) as picture:
            yield picture
        return
    if probe.container_of(head) is None:
        raise UnsupportedMedia("not a video or picture that is read here")
    with ExitStack() as stack:
        yield _open_video(stack, file, limits, decoder, threads)


def _open_video(stack: ExitStack, file: BinaryIO, limits: Limits, decoder: DecoderName, threads: int) -> OpenMedia:
    if decoder == decord.NAME:
        try:
            return stack.enter_context(DecordDecoder(limits).open(file))
        except UnsupportedMedia as exc:
            logger.info("decoding by PyAV: %s", exc)
    if decoder == nvdec.NAME and (card := nvdec.taken()) is not None:
        try:
            return stack.enter_context(PyavDecoder(limits, accel=card).open(file))
        except (CorruptMedia, OutOfMemory, UnsupportedMedia) as exc:  # not for this card, or the file is to blame: software tells
            logger.info("decoding in software: %s", exc)
    return stack.enter_context(PyavDecoder(limits, threads).open(file))


def warm_up() -> None:
    """Import everything that the decoders would import when first used: later the process may no longer open files. decord, asked
    for by name, is imported once it is."""
    Image.preinit()
    for module in ("MpoImagePlugin", "WebPImagePlugin", "TiffImagePlugin", "AvifImagePlugin", "ImageCms"):
        importlib.import_module(f"PIL.{module}")
    for found in pkgutil.walk_packages(av.__path__, "av."):
        if not found.name.startswith(("av.__main__", "av.datasets")):
            importlib.import_module(found.name)
