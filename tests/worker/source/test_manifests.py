"""Manifests that an extractor has yt-dlp read: ours reads them, and those that would take hours or all memory cost nothing."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from yt_dlp.utils import ExtractorError

from tests.worker.source.local_site import LocalSiteIE
from tests.worker.source.loopback import reply, serve
from tests.worker.source.recordings import FPS, SECONDS, dash, frames_in
from tests.worker.source.test_social import one, posts, site
from tests.worker.spy import Spy
from worker.errors import FetchTimeout, VeriframeError
from worker.source.client import guarded_client
from worker.source.dash import read_dash
from worker.source.extract import MAX_FORMATS, look_at
from worker.source.guard import AddressGuard
from worker.source.manifests import bounded

MANY = 10**9
PERIOD = '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" mediaPresentationDuration="PT{seconds}S"><Period>{sets}</Period></MPD>'
RENDITION = '<Representation id="a" bandwidth="1" height="9"/>'


def manifest(template: str, *, seconds: int = 4, renditions: int = 1) -> bytes:
    sets = f'<AdaptationSet mimeType="video/mp4">{template}{RENDITION * renditions}</AdaptationSet>'
    return PERIOD.format(seconds=seconds, sets=sets).encode()


ENTITIES = b'<!DOCTYPE MPD [<!ENTITY a "' + b"a" * 1000 + b'">]><MPD>' + b"&a;" * 100_000 + b"</MPD>"
HOSTILE = {
    "numbers.mpd": manifest('<SegmentTemplate media="$Number$" duration="1"/>', seconds=MANY // 10),
    "timeline.mpd": manifest(
        f'<SegmentTemplate media="$Time$"><SegmentTimeline><S d="1" r="{MANY}"/></SegmentTimeline></SegmentTemplate>'
    ),
    "width.mpd": manifest(f'<SegmentTemplate media="$Number%0{MANY}d$" duration="1"/>', seconds=50, renditions=60),
    "renditions.mpd": manifest('<SegmentTemplate media="$Number$" duration="1"/>', seconds=500, renditions=20_000),
    "tags.mpd": b"<MPD>" + b"<a/>" * 3_000_000 + b"</MPD>",
    "entities.mpd": ENTITIES,
    "chunks.ism": f'<SmoothStreamingMedia Duration="{MANY}"><StreamIndex Type="video" Url="a"><c d="1" r="{MANY}"/>'
    '<QualityLevel FourCC="H264"/></StreamIndex></SmoothStreamingMedia>'.encode(),
    "renditions.m3u8": b"#EXTM3U\n" + b"#EXT-X-STREAM-INF:BANDWIDTH=1\na\n" * 300_000,
    "keys.m3u8": b"#EXTM3U\n" + b"#EXT-X-KEY:" * 700_000,
}


@pytest.fixture
def measured() -> Iterator[None]:
    """Some copies of the largest file at most."""
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 256 << 10


@pytest.mark.parametrize("declared", ['<!ENTITY x "y">', '<!ENTITY % x "y">', "<!ELEMENT a ANY>", "<!ATTLIST a b CDATA 'c'>"])
def test_xml_that_declares_anything_is_no_manifest(declared: str) -> None:
    extractor = bounded(LocalSiteIE(), max_segments=1)
    assert extractor._parse_xml("<!DOCTYPE a><a>text</a>", "v").text == "text"
    with pytest.raises(ExtractorError, match="declares"):
        extractor._parse_xml(f"<!DOCTYPE a [{declared}]><a/>", "v")


@pytest.mark.parametrize("name", HOSTILE)
def test_what_would_take_hours_or_all_memory_costs_nothing(name: str, measured: None, spy: Spy, tmp_path: Path) -> None:
    pages = {"a": {"manifest": name}}
    with posts(site(pages, HOSTILE), spy, max_bytes=64 << 20) as (server, urls), pytest.raises(VeriframeError) as caught:
        urls.fetch(server.url("/post/a"), tmp_path)
    assert caught.value.code in ("unsupported", "corrupt", "fetch_gone")


def test_a_manifest_that_an_extractor_reads_is_fetched(spy: Spy, tmp_path: Path) -> None:
    held = dash(tmp_path / "made")
    with posts(site({"a": {"manifest": "manifest.mpd"}}, held), spy) as (server, urls):
        assert frames_in(urls.fetch(server.url("/post/a"), tmp_path).path) == FPS * SECONDS


def test_several_periods_are_joined_here_too(spy: Spy, tmp_path: Path) -> None:
    held = dash(tmp_path / "made")
    text = held["manifest.mpd"].decode()
    period = text[text.index("<Period") : text.index("</Period>") + len("</Period>")]
    text = text.replace(period, period * 2).replace(' start="PT0.0S"', f' duration="PT{SECONDS}S"')
    text = text.replace(f'mediaPresentationDuration="PT{SECONDS}.0S"', "")
    held = {**held, "manifest.mpd": text.encode()}
    with posts(site({"a": {"manifest": "manifest.mpd"}}, held), spy) as (server, urls):
        assert frames_in(urls.fetch(server.url("/post/a"), tmp_path).path) == 2 * FPS * SECONDS


def test_of_a_page_of_formats_without_end_the_first_are_looked_at(spy: Spy) -> None:
    page = {"formats": [{"url": f"http://media.example/{i}", "format_id": str(i)} for i in range(5 * MAX_FORMATS)]}
    page["thumbnails"] = one()["formats"] * 9000
    with serve(site({"a": page})) as server, guarded_client(AddressGuard(allow_private_hosts=[server.at])) as client:
        spy.allow(server.at)
        (found,) = look_at(
            server.url("/post/a"), client=client, extractors=[LocalSiteIE], items=1, max_redirects=1, max_segments=9
        )
    assert len(found.info["formats"]) == MAX_FORMATS


@pytest.mark.parametrize(("pages", "are_read"), [(7, True), (9, False)])
def test_of_all_pages_of_a_post_so_many_bytes_are_read(pages: int, are_read: bool, spy: Spy, tmp_path: Path) -> None:
    page = {"ask": ["HERE/large"] * pages, "need": "HERE/small", **one()}
    held = {"large": b" " * (15 << 20), "small": b"small", "clip.mp4": b"clip"}
    with posts(site({"a": page}, held), spy) as (server, urls):
        if are_read:
            assert urls.fetch(server.url("/post/a"), tmp_path).size_bytes == 4
        else:
            with pytest.raises(FetchTimeout):
                urls.fetch(server.url("/post/a"), tmp_path)


def test_a_page_too_large_to_be_one_is_not_read(spy: Spy, tmp_path: Path) -> None:
    with posts(site({"a": reply(b" " * (17 << 20))}), spy) as (server, urls), pytest.raises(VeriframeError):
        urls.fetch(server.url("/post/a"), tmp_path)


PROPERTY = '<EssentialProperty id="1"/>'
KNOWN = '<EssentialProperty id="1" schemeIdUri="urn:mpeg:mpegB:cicp:ColourPrimaries"/>'
LARGE_SETS = f'<AdaptationSet mimeType="video/mp4">{RENDITION * 60}</AdaptationSet>' * 24
LARGE_PERIODS = f'<Period duration="PT1S">{LARGE_SETS}</Period>' * 10


@pytest.mark.parametrize(
    "data", [manifest(PROPERTY * 20_000 + KNOWN), f"<MPD>{LARGE_PERIODS}</MPD>".encode()], ids=["properties", "renditions"]
)
def test_a_manifest_of_many_things_takes_no_time_by_their_square(data: bytes) -> None:
    begun_s = time.process_time()
    assert read_dash(data, "https://media.example/list.mpd", max_segments=100).variants
    assert time.process_time() - begun_s < 1
