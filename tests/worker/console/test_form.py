"""Forms with a file, in whatever pieces they come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import anyio
import pytest

from worker.api.problems import HttpError
from worker.console.form import MAX_FIELD_BYTES, Field, FileBegins, FileEnds, Piece, file_bytes, read_form
from worker.errors import BadRequest, MediaTooLarge

KIND = 'multipart/form-data; boundary="--x"'


def part(name: str, value: bytes, filename: str | None = None) -> bytes:
    named = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename is not None else "")
    return f"----x\r\nContent-Disposition: {named}\r\n\r\n".encode() + value + b"\r\n"


END = b"----x--\r\n"


async def pieces_of(body: bytes, step: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), step):
        yield body[start : start + step]


def read(body: bytes, *, kind: str = KIND, step: int = 1 << 20, max_bytes: int = 1 << 20) -> list[Piece]:
    async def reading() -> list[Piece]:
        return [piece async for piece in read_form(kind, pieces_of(body, step), max_bytes=max_bytes)]

    return anyio.run(reading)


def joined(pieces: Sequence[Piece]) -> list[Piece]:
    """Bytes that follow each other as one."""
    found: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, bytes) and found and isinstance(found[-1], bytes):
            found[-1] += piece
        else:
            found.append(piece)
    return found


@pytest.mark.parametrize("step", [1, 7, 64, 1 << 20])
def test_fields_and_files_come_in_their_order(step: int) -> None:
    video = bytes(range(256)) * 3 + b"\r\n---x not the end\r\n--\r\n"
    body = part("a", "é\r\nb".encode()) + part("file", video, 'c"lip.mp4'.replace('"', "%22")) + part("after", b"") + END
    assert joined(read(body, step=step)) == [
        Field(name="a", value="é\nb"),
        FileBegins(name="file", filename="c%22lip.mp4"),
        video,
        FileEnds(),
        Field(name="after", value=""),
    ]


def test_a_file_is_passed_on_to_its_end_and_what_follows_stays() -> None:
    async def reading() -> tuple[bytes, list[Piece]]:
        pieces = read_form(KIND, pieces_of(part("file", b"abc" * 50, "f") + part("after", b"1") + END, 16), max_bytes=1 << 20)
        async for piece in pieces:
            if isinstance(piece, FileBegins):
                break
        taken = b"".join([chunk async for chunk in file_bytes(pieces)])
        return taken, [piece async for piece in pieces]

    assert anyio.run(reading) == (b"abc" * 50, [Field(name="after", value="1")])


@pytest.mark.parametrize(
    "kind", ["", "multipart/form-data", "multipart/mixed; boundary=x", "application/json", "text/plain; boundary=x"]
)
def test_what_is_no_such_form_is_refused(kind: str) -> None:
    with pytest.raises(HttpError) as refused:
        read(b"x", kind=kind)
    assert refused.value.status_code == 415


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        part("a", b"1"),
        part("file", b"half", "f")[:-4],
        part("a", b"\xff") + END,
        part("a", b"x" * (MAX_FIELD_BYTES + 1)) + END,
        b"".join(part(f"a{n}", b"") for n in range(40)) + END,
        b"----x\r\nContent-Disposition: form-data\r\n\r\n1\r\n" + END,
        b"----x\r\nContent-Disposition: attachment; name=a\r\n\r\n1\r\n" + END,
        b"----x\r\n" + b"A: b\r\n" * 50 + b"\r\n1\r\n" + END,
        b"----x\r\nContent-Disposition: form-data; name=" + b"n" * 70000 + b"\r\n\r\n1\r\n" + END,
    ],
)
@pytest.mark.parametrize("step", [13, 1 << 20])
def test_what_is_broken_or_beyond_reason_is_refused(body: bytes, step: int) -> None:
    with pytest.raises(BadRequest):
        read(body, step=step)


def test_no_more_is_read_than_may_come() -> None:
    asked = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal asked
        yield part("file", b"", "f")[:-2]
        while True:
            asked += 1
            yield b"x" * 1000

    async def reading() -> None:
        async for _ in read_form(KIND, endless(), max_bytes=10_000):
            pass

    with pytest.raises(MediaTooLarge):
        anyio.run(reading)
    assert asked == 10
