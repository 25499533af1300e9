"""A form with a file, piece by piece as it comes (RFC 7578): the file is never held, in memory or on disk, only passed on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from worker.api.problems import HttpError
from worker.errors import BadRequest, MediaTooLarge

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_FIELDS = 32
MAX_FIELD_BYTES = 8192
AROUND_BYTES = 65536
"""For fields and boundaries, beside the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileBegins:
    """``filename`` is empty where the form was sent without a file."""

    name: str
    filename: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEnds:
    pass


Piece = Field | FileBegins | bytes | FileEnds


async def read_form(content_type: str, body: AsyncIterator[bytes], *, max_bytes: int) -> AsyncIterator[Piece]:
    """Fields whole, files in pieces between their begin and end. Raises HttpError (415), BadRequest, MediaTooLarge."""
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise HttpError(415, "this form is sent as multipart/form-data")
    parts = _Parts()
    seen = 0
    try:
        parser = MultipartParser(options[b"boundary"], parts.callbacks(), max_header_count=16)
        async for chunk in body:
            seen += len(chunk)
            if seen > max_bytes:
                raise MediaTooLarge(f"the form may have {max_bytes} bytes")
            parser.write(chunk)
            for piece in parts.taken():
                yield piece
        parser.finalize()
    except FormParserError as exc:
        raise BadRequest("the form cannot be read") from exc
    if not parts.is_whole:
        raise BadRequest("the form ended too early")


async def file_bytes(pieces: AsyncIterator[Piece]) -> AsyncIterator[bytes]:
    """Of the file that has just begun, to its end."""
    async for piece in pieces:
        if isinstance(piece, FileEnds):
            return
        if isinstance(piece, bytes):
            yield piece


@dataclass(slots=True)
class _Parts:
    """Gathers what the parser calls back."""

    is_whole: bool = False
    _found: list[Piece] = field(default_factory=list)
    _fields: int = 0
    _headers: dict[bytes, bytes] = field(default_factory=dict)
    _header: bytearray = field(default_factory=bytearray)
    _header_value: bytearray = field(default_factory=bytearray)
    _name: str = ""
    _is_file: bool = False
    _value: bytearray = field(default_factory=bytearray)

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header_value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def taken(self) -> list[Piece]:
        found, self._found = self._found, []
        return found

    def _begin(self) -> None:
        self._fields += 1
        if self._fields > MAX_FIELDS:
            raise BadRequest(f"the form may have {MAX_FIELDS} fields")
        self._headers, self._value = {}, bytearray()

    def _end_header(self) -> None:
        self._headers[bytes(self._header).lower()] = bytes(self._header_value)
        self._header, self._header_value = bytearray(), bytearray()

    def _end_headers(self) -> None:
        kind, options = parse_options_header(self._headers.get(b"content-disposition"))
        if kind != b"form-data" or b"name" not in options:
            raise BadRequest("a field of the form has no name")
        self._name, self._is_file = _text(options[b"name"]), b"filename" in options
        if self._is_file:
            self._found.append(FileBegins(name=self._name, filename=_text(options[b"filename"])))

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._found.append(bytes(data[start:end]))
            return
        self._value.extend(data[start:end])
        if len(self._value) > MAX_FIELD_BYTES:
            raise BadRequest(f"a field may have {MAX_FIELD_BYTES} bytes")

    def _end(self) -> None:
        self._found.append(FileEnds() if self._is_file else Field(name=self._name, value=_text(bytes(self._value))))

    def _finish(self) -> None:
        self.is_whole = True


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as exc:
        raise BadRequest("the form is not UTF-8") from exc
