"""Every trick in every place where an address may stand: no packet leaves, whichever of our clients it is; and, in the same run,
the one private host that the operator allows is fetched from and its video gets a verdict."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import pytest

from tests.worker.source.trick_place import DEMO, NO_TLS, Place, placed, refused
from tests.worker.source.url_tricks import TRICKS
from tests.worker.spy import Spy
from worker.compose import build_scanner
from worker.content import Content
from worker.errors import CorruptMedia, FetchGone, UnsupportedMedia
from worker.queue.delivery import post
from worker.settings import load_settings
from worker.source.client import guarded_client
from worker.source.dash import read_dash
from worker.source.hls import MediaPlaylist, read_hls
from worker.source.parts import Part, PartReader


@pytest.fixture
def place(spy: Spy) -> Iterator[Place]:
    with placed(spy) as made:
        yield made


def test_there_are_many_of_them() -> None:
    assert len(set(TRICKS)) == len(TRICKS) >= 80


def test_fetched_outright(place: Place, tmp_path: Path, spy: Spy) -> None:
    for trick in place.tricks:
        refused(lambda trick=trick: place.urls.fetch(trick, tmp_path), trick)  # type: ignore[misc]
    assert spy.connections == []


def test_as_callbacks(place: Place, spy: Spy) -> None:
    for trick in place.tricks:
        given = post(lambda ends_at: guarded_client(place.guard, ends_at=ends_at, ssl_context=NO_TLS), trick, "{}", {}, 5)
        assert given.outcome != "delivered", trick
        assert not re.fullmatch(r"\w*|status \d+|no answer within .*", given.error), f"{trick}: {given}, not refused by the guard"
    assert spy.connections == []


def test_where_a_redirect_leads(place: Place, tmp_path: Path) -> None:
    with place.http.session() as session:
        for trick in place.tricks:
            url = place.leads_to(trick)
            refused(lambda url=url: session.download(url, tmp_path / "a"), trick, leads_nowhere=(FetchGone,))  # type: ignore[misc]


def test_as_segments_maps_and_keys_of_hls(place: Place) -> None:
    lines = []
    used = [trick for trick in place.fitting if not {'"', "\t", "\n"} & set(trick) and not trick.startswith("#")]
    for trick in used:
        lines += [f'#EXT-X-KEY:METHOD=AES-128,URI="{trick}",IV=0x1', f'#EXT-X-MAP:URI="{trick}"', "#EXTINF:1,", trick]
    text = "\n".join(["#EXTM3U", *lines, "#EXT-X-ENDLIST"])
    playlist = read_hls(text.encode(), f"{place.base}/list.m3u8", max_segments=10_000)
    assert isinstance(playlist, MediaPlaylist)
    assert len(playlist.segments) == len(used)
    with place.http.session() as session:
        reader = PartReader(session)
        for trick, segment in zip(used, playlist.segments, strict=True):
            assert segment.init is not None
            assert segment.part.key is not None
            clip = Part(url=f"{place.base}/clip.mp4", key=segment.part.key)
            for part in (segment.part, segment.init, clip):
                refused(lambda part=part: reader.read(part), trick, leads_nowhere=(FetchGone,))  # type: ignore[misc]
                if part is clip:
                    break


def test_a_playlist_with_an_endless_address_is_refused_whole(place: Place) -> None:
    (trick,) = set(place.tricks) - set(place.fitting)
    for lines in (f"#EXTINF:1,\n{trick}\n#EXT-X-ENDLIST", f"#EXT-X-STREAM-INF:BANDWIDTH=1\n{trick}"):
        with pytest.raises(CorruptMedia):
            read_hls(f"#EXTM3U\n{lines}".encode(), f"{place.base}/list.m3u8", max_segments=9)


def test_as_renditions_of_hls(place: Place) -> None:
    lines = [f"#EXT-X-STREAM-INF:BANDWIDTH=1\n{trick}" for trick in place.fitting]
    variants = read_hls("\n".join(["#EXTM3U", *lines]).encode(), f"{place.base}/list.m3u8", max_segments=1)
    assert isinstance(variants, list)
    assert len(variants) == len(place.fitting)
    with place.http.session() as session:
        for trick, variant in zip(place.fitting, variants, strict=True):
            refused(lambda url=variant.what: session.read(url, max_bytes=99), trick, leads_nowhere=(FetchGone,))  # type: ignore[misc]


@pytest.mark.parametrize("where", ["BaseURL", "Initialization", "SegmentURL", "SegmentTemplate"])
def test_in_dash_manifests(where: str, place: Place) -> None:
    with place.http.session() as session:
        reader = PartReader(session)
        for trick in place.tricks:
            name = quoteattr(trick)
            inside = {
                "BaseURL": f"<BaseURL>{escape(trick)}</BaseURL>",
                "Initialization": f'<SegmentList><Initialization sourceURL={name}/><SegmentURL media="a"/></SegmentList>',
                "SegmentURL": f"<SegmentList><SegmentURL media={name}/></SegmentList>",
                "SegmentTemplate": f'<SegmentTemplate media={name} duration="1"/>',
            }[where]
            representation = f'<AdaptationSet mimeType="video/mp4"><Representation>{inside}</Representation></AdaptationSet>'
            text = f'<MPD mediaPresentationDuration="PT1S"><Period>{representation}</Period></MPD>'
            if trick not in place.fitting:
                with pytest.raises(CorruptMedia):
                    read_dash(text.encode(), f"{place.base}/list.mpd", max_segments=9).variants[0].what()
                continue
            (variant,) = read_dash(text.encode(), f"{place.base}/list.mpd", max_segments=9).variants
            part = variant.what()[0]
            refused(lambda part=part: reader.read(part), trick, leads_nowhere=(FetchGone,))  # type: ignore[misc]


def test_on_the_pages_that_yt_dlp_reads(place: Place, tmp_path: Path) -> None:
    """Asked for by the extractor, outright and by redirects of the site; thumbnails and subtitles are named, and not fetched."""
    redirects = [place.leads_to(trick) for trick in place.tricks]
    page = place.shows(
        ask=[*place.tricks, *redirects],
        formats=[{"url": f"{place.base}/clip.mp4"}],
        thumbnails=[{"url": trick} for trick in place.tricks],
        subtitles={"en": [{"url": trick} for trick in place.tricks]},
    )
    assert place.urls.fetch(page, tmp_path).size_bytes == DEMO.stat().st_size
    assert {place.base + path for path, _ in place.server.requests} >= set(redirects)


WAYS: dict[str, Callable[[str, str], dict[str, Any]]] = {
    "file": lambda trick, base: {"url": trick, "protocol": "https"},
    "playlist": lambda trick, base: {"url": trick, "protocol": "m3u8_native"},
    "fragment": lambda trick, base: {"url": base, "protocol": "http_dash_segments", "fragments": [{"url": trick}]},
    "base": lambda trick, base: {
        "url": base,
        "protocol": "http_dash_segments",
        "fragment_base_url": trick,
        "fragments": [{"path": "a"}],
    },
}


@pytest.mark.parametrize("number", range(4))
def test_as_what_yt_dlp_finds(number: int, place: Place, tmp_path: Path) -> None:
    """Each trick in one of the ways that a format may hold an address."""
    for trick in place.tricks[number::4]:
        chosen = list(WAYS.values())[number](trick, place.base)
        url = place.shows(formats=[{"format_id": "a", **chosen}])
        refused(lambda url=url: place.urls.fetch(url, tmp_path), trick, leads_nowhere=(FetchGone, UnsupportedMedia))  # type: ignore[misc]


def test_the_allowed_host_gets_a_verdict(place: Place, tmp_path: Path) -> None:
    """By its name, by a redirect, as a playlist's segment and as a post's video, after some tricks that are refused."""
    for trick in place.tricks[:5]:
        refused(lambda trick=trick: place.urls.fetch(trick, tmp_path), trick)  # type: ignore[misc]
    clip = f"{place.base}/clip.mp4"
    ways = (
        clip,
        place.leads_to(clip),
        place.says(f"#EXTM3U\n#EXTINF:9,\n{clip}\n#EXT-X-ENDLIST\n"),
        place.shows(formats=[{"url": clip}]),
    )
    fetched = []
    for number, url in enumerate(ways):
        folder = tmp_path / str(number)
        folder.mkdir()
        fetched.append(place.urls.fetch(url, folder))
    assert len({one.sha256 for one in fetched}) == 1
    with build_scanner(load_settings()) as scanner:
        content = Content(sha256=fetched[0].sha256, size_bytes=fetched[0].size_bytes)
        report = scanner.scan(fetched[0].path, content=content).report
    assert report.status == "completed"
    assert report.verdict is not None
