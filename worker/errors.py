"""Everything a scan can fail with: one tree, one code for each leaf.

VeriframeError
|-- MediaError            the file's fault: a report with ``status: failed`` and this code
|   |-- UnsupportedMedia  unsupported      not a video or picture that we read
|   |-- CorruptMedia      corrupt          a known kind, but nothing in it decodes
|   |-- EmptyMedia        empty            no bytes, or no frames
|   |-- MediaTooLarge     too_large        pixels, bytes, packets or streams beyond the limit
|   `-- MediaTooLong      too_long         duration beyond the limit
|-- DecodeError           the decoding child's end: media that kills or hangs it
|   |-- DecodeTimeout     decode_timeout   killed at the wall-clock or CPU limit
|   |-- DecodeCrash       decode_crash     died by a signal or broke the protocol
|   `-- OutOfMemory       out_of_memory    refused memory beyond its limit
|-- SourceError           source_unreadable  the path cannot be opened (reported as ``unsupported``)
|-- ConfigError           config           a setting, flag or file the user must mend: exit code 2
`-- ModelError            model            no checkpoint, a damaged one, or one of an unknown version
"""

from __future__ import annotations

from typing import ClassVar


class VeriframeError(Exception):
    """Root of all errors raised on purpose; ``code`` is stable, ``retryable`` says whether a second try may help."""

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False


class MediaError(VeriframeError):
    """The media themselves are at fault; a second try gives the same."""


class UnsupportedMedia(MediaError):
    code = "unsupported"


class CorruptMedia(MediaError):
    code = "corrupt"


class EmptyMedia(MediaError):
    code = "empty"


class MediaTooLarge(MediaError):
    code = "too_large"


class MediaTooLong(MediaError):
    code = "too_long"


class DecodeError(VeriframeError):
    """The decoding child ended before its work did."""


class DecodeTimeout(DecodeError):
    code = "decode_timeout"


class DecodeCrash(DecodeError):
    code = "decode_crash"
    retryable = True


class OutOfMemory(DecodeError):
    code = "out_of_memory"


class SourceError(VeriframeError):
    """The path does not exist or may not be read."""

    code = "source_unreadable"


class ConfigError(VeriframeError):
    """Something the user set cannot be used; the message says what to do."""

    code = "config"


class ModelError(VeriframeError):
    """There is no usable checkpoint; the scanner never scores with random weights."""

    code = "model"


BY_CODE: dict[str, type[VeriframeError]] = {
    cls.code: cls
    for cls in (
        UnsupportedMedia,
        CorruptMedia,
        EmptyMedia,
        MediaTooLarge,
        MediaTooLong,
        DecodeTimeout,
        DecodeCrash,
        OutOfMemory,
        SourceError,
        ConfigError,
        ModelError,
    )
}
"""Leaf errors by code, so that a child process can name one and its parent can raise it."""
