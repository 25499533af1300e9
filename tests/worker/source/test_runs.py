"""Recordings of several runs, by real multiplexers: joined where they are decoded alike, refused otherwise."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.worker.source.loopback import files
from tests.worker.source.recordings import FPS, SECONDS, below, dash, hls, times_in
from tests.worker.source.test_playlist import source
from tests.worker.spy import Spy
from worker.errors import CorruptMedia, UnsupportedMedia
from worker.source.fragments import described
from worker.source.parts import Part
from worker.source.runs import Runs

EVENLY = [round(i / FPS, 3) for i in range(2 * FPS * SECONDS)]


def two_of_hls(folder: Path, *, second_px: int = 64) -> dict[str, bytes]:
    """A playlist of two recordings one behind the other, with a discontinuity between them."""
    one, two = (hls(folder / name, kind="fmp4", width_px=px) for name, px in (("one", 64), ("two", second_px)))
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:1", "#EXT-X-VERSION:7"]
    for name, held in (("one", one), ("two", two)):
        told = [
            line
            for line in held["media.m3u8"].decode().splitlines()
            if "EXT-X-MAP" in line or "EXTINF" in line or line[:1] != "#"
        ]
        told = [re.sub('URI="', f'URI="{name}/', line) if line.startswith("#") else f"{name}/{line}" for line in told if line]
        lines += ["#EXT-X-DISCONTINUITY", *told]
    return {**below("one", one), **below("two", two), "media.m3u8": "\n".join([*lines, "#EXT-X-ENDLIST"]).encode()}


def two_of_dash(folder: Path, *, second_px: int = 64) -> dict[str, bytes]:
    """A manifest whose periods are two recordings."""
    one, two = (dash(folder / name, width_px=px) for name, px in (("one", 64), ("two", second_px)))
    texts = [held["manifest.mpd"].decode() for held in (one, two)]
    inner = [re.search(r"<Period[^>]*>(.*)</Period>", text, re.DOTALL) for text in texts]
    periods = [
        f'<Period duration="PT{SECONDS}S"><BaseURL>{name}/</BaseURL>{found[1]}</Period>'
        for name, found in zip(("one", "two"), inner, strict=True)
        if found
    ]
    whole = re.sub(r"<Period.*</Period>", lambda _: "".join(periods), texts[0], flags=re.DOTALL)
    whole = re.sub(r'mediaPresentationDuration="[^"]*"', f'mediaPresentationDuration="PT{2 * SECONDS}S"', whole)
    return {**below("one", one), **below("two", two), "media.m3u8": whole.encode()}


@pytest.mark.parametrize("made", [two_of_hls, two_of_dash])
def test_runs_that_are_decoded_alike_are_one_recording(made, spy: Spy, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with source(files(made(tmp_path / "made")), spy) as (server, urls):
        fetched = urls.fetch(server.url("/media.m3u8"), tmp_path)
    assert times_in(fetched.path) == EVENLY


@pytest.mark.parametrize("made", [two_of_hls, two_of_dash])
def test_runs_that_are_decoded_otherwise_are_refused(made, spy: Spy, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    held = made(tmp_path / "made", second_px=96)
    (tmp_path / "into").mkdir()
    with source(files(held), spy) as (server, urls), pytest.raises(UnsupportedMedia, match="otherwise"):
        urls.fetch(server.url("/media.m3u8"), tmp_path / "into")
    assert list((tmp_path / "into").iterdir()) == []


def test_runs_without_sense_are_refused(tmp_path: Path) -> None:
    held = hls(tmp_path / "made", kind="fmp4")
    init = next(data for name, data in held.items() if name.endswith(".mp4") and b"moov" in data)
    segment = next(data for name, data in held.items() if name.endswith(".m4s"))
    first, piece, long = Part(url="i", is_init=True), Part(url="s"), Part(url="s", duration_s=1e18)
    for parts, error in (
        ([(first, init), (piece, segment), (first, init)], UnsupportedMedia),
        ([(first, b"no boxes"), (long, segment), (first, b"no boxes")], UnsupportedMedia),
        ([(first, init), (long, segment), (first, init), (long, segment)], CorruptMedia),
    ):
        runs = Runs()
        for part, data in parts[:-1]:
            runs.take(part, data)
        with pytest.raises(error):
            runs.take(*parts[-1])


def test_what_an_initialisation_says(tmp_path: Path) -> None:
    held = hls(tmp_path / "made", kind="fmp4")
    init = next(data for name, data in held.items() if name.endswith(".mp4"))
    found = described(init)
    assert list(found.timescales) == [b"\0\0\0\1"]
    assert found.timescales[b"\0\0\0\1"] > 0
    assert any(b"avc1" in one for one in found.decoding)
    for end in range(0, len(init), 7):
        described(init[:end])
