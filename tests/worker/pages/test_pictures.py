"""Which pictures a page holds."""

from __future__ import annotations

import base64

from worker.pages.pictures import Pictures
from worker.pages.words import NOT_RETAINED

STORE = {"a.jpg": b"\xff\xd8aa", "b.jpg": b"\xff\xd8" + bytes(20), "c.jpg": b"\xff\xd8", "evil.jpg": b"<svg onload='x'>"}


def test_a_picture_is_inside_as_it_is() -> None:
    uri = Pictures(STORE.get).get("a.jpg").uri
    assert base64.b64decode(uri.removeprefix("data:image/jpeg;base64,")) == STORE["a.jpg"]


def test_what_is_gone_or_no_jpeg_is_not_retained() -> None:
    pictures = Pictures(STORE.get)
    for name in (None, "gone.jpg", "evil.jpg"):
        found = pictures.get(name)
        assert (found.uri, found.missing) == ("", NOT_RETAINED)


def test_beyond_the_limit_pictures_are_left_out_and_smaller_ones_may_follow() -> None:
    pictures = Pictures(STORE.get, most_bytes=8)
    assert pictures.get("a.jpg").uri
    assert "too large" in pictures.get("b.jpg").missing
    assert pictures.get("c.jpg").uri


def test_a_picture_that_is_asked_for_twice_is_read_and_counted_once() -> None:
    read: list[str] = []
    pictures = Pictures(lambda name: read.append(name) or STORE.get(name), most_bytes=4)  # type: ignore[func-returns-value]
    assert pictures.get("a.jpg") == pictures.get("a.jpg")
    assert pictures.get("a.jpg").uri
    assert read == ["a.jpg"]
