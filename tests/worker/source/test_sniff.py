from __future__ import annotations

import pytest

from worker.source.sniff import Kind, sniff


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"#EXTM3U\n#EXT-X-VERSION:3\n", Kind.HLS),
        (b"\xef\xbb\xbf\r\n#EXTM3U", Kind.HLS),
        (b"#EXT", Kind.MEDIA),
        (b'<?xml version="1.0"?><MPD xmlns="x">', Kind.DASH),
        (b"<!-- made by a tool --><mpd:MPD\n", Kind.DASH),
        (b"<MPDs>", Kind.MEDIA),
        (b"\n<!doctype HTML>", Kind.PAGE),
        (b"<html lang=x>", Kind.PAGE),
        (b"<svg>", Kind.MEDIA),
        (b"\x00\x00\x00\x20ftypisom", Kind.MEDIA),
        (b"\x00<html>", Kind.MEDIA),
        (b"", Kind.MEDIA),
    ],
)
def test_kinds(head: bytes, kind: Kind) -> None:
    assert sniff(head) is kind
