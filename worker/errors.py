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
|-- FetchError            the bytes could not be had
|   |-- FetchRefused      fetch_refused    an address, path or protocol that we do not go to
|   |-- FetchAuth         fetch_auth       the server wants credentials
|   |-- FetchGeo          fetch_geo        not from where we are
|   |-- FetchGone         fetch_gone       not there, or not any more
|   |-- FetchRateLimited  fetch_rate_limited  the server asks to come later
|   `-- FetchTimeout      fetch_timeout    no connection, no byte or no end in time, or the server's own failure
|-- QueueError            the service around the scans
|   |-- LeaseLost         lease_lost       the attempt was given to another worker, or ended
|   |-- QueueFull         queue_full       backlog, quota or rate limit; ``retry_after_s`` says when to come again
|   |-- Conflict          conflict         one idempotency key for two different requests, or a state that forbids it
|   |   `-- UnreadableRecord  unreadable_record  stored by another version
|   |-- DamagedRecord     damaged_record   what a scan has in Redis was altered, or is not of one moment (restored)
|   |-- BadRequest        bad_request      a payload that is not a request
|   |-- NoSuchScan        no_such_scan     no record of it, or another owner's
|   |-- Unauthorized      unauthorized     no API key, an unknown one, or one that has ended
|   |-- Forbidden         forbidden        the API key does not have the scope
|   |-- BadSignature      bad_signature    a callback that was not signed with this secret, or not lately
|   `-- RedisDown         redis_down       Redis did not come back in time
|-- StorageError          where bytes are put: mended from outside, then a second try helps
|   |-- StorageFull       storage_full     no room on the disk or in the store
|   `-- StorageDown       storage_down     the store of artefacts does not answer or refuses
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


class FetchError(VeriframeError):
    """The bytes of a source could not be had."""


class FetchRefused(FetchError):
    code = "fetch_refused"


class FetchAuth(FetchError):
    code = "fetch_auth"


class FetchGeo(FetchError):
    code = "fetch_geo"


class FetchGone(FetchError):
    code = "fetch_gone"


class FetchRateLimited(FetchError):
    """``retry_after_s``: when the server wants to be asked again, if it said so; ``host``: which one, where it was one.
    ``is_turn``: nobody was asked, and the turn to ask comes then."""

    code = "fetch_rate_limited"
    retryable = True

    def __init__(
        self, message: str, *, retry_after_s: float | None = None, host: str | None = None, is_turn: bool = False
    ) -> None:
        super().__init__(message)
        self.retry_after_s, self.host, self.is_turn = retry_after_s, host, is_turn


class FetchTimeout(FetchError):
    code = "fetch_timeout"
    retryable = True


class QueueError(VeriframeError):
    """The service around the scans refused or failed."""


class LeaseLost(QueueError):
    code = "lease_lost"
    retryable = True


class QueueFull(QueueError):
    """``retry_after_s``: when to come again."""

    code = "queue_full"
    retryable = True

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Conflict(QueueError):
    code = "conflict"


class UnreadableRecord(Conflict):
    """Stored by another version of veriframe."""

    code = "unreadable_record"


class DamagedRecord(QueueError):
    """What no version of veriframe stores so."""

    code = "damaged_record"
    retryable = True


class BadRequest(QueueError):
    code = "bad_request"


class NoSuchScan(QueueError):
    code = "no_such_scan"


class Unauthorized(QueueError):
    code = "unauthorized"


class Forbidden(QueueError):
    code = "forbidden"


class BadSignature(QueueError):
    code = "bad_signature"


class RedisDown(QueueError):
    code = "redis_down"
    retryable = True


class StorageError(VeriframeError):
    """Bytes could not be put where they should be; reports say ``internal``."""


class StorageFull(StorageError):
    code = "storage_full"
    retryable = True


class StorageDown(StorageError):
    code = "storage_down"
    retryable = True


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
        FetchRefused,
        FetchAuth,
        FetchGeo,
        FetchGone,
        FetchRateLimited,
        FetchTimeout,
        LeaseLost,
        Conflict,
        UnreadableRecord,
        DamagedRecord,
        BadRequest,
        NoSuchScan,
        Unauthorized,
        Forbidden,
        BadSignature,
        RedisDown,
        StorageFull,
        StorageDown,
        SourceError,
        ConfigError,
        ModelError,
    )
}
"""Leaf errors by code, so that a child process can name one and its parent can raise it."""
