"""Posts, by yt-dlp's real machinery with an extractor of the tests' own against a loopback server."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import ssl
import sys
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.worker.source.local_site import LocalSiteIE
from tests.worker.source.loopback import Answer, Loopback, files, raw, reply, serve
from tests.worker.source.recordings import FPS, SECONDS, frames_in, hls
from tests.worker.spy import Spy
from worker.errors import (
    ConfigError,
    FetchAuth,
    FetchGeo,
    FetchGone,
    FetchRateLimited,
    FetchRefused,
    FetchTimeout,
    MediaTooLarge,
    MediaTooLong,
    UnsupportedMedia,
    VeriframeError,
)
from worker.source.fetch import UrlSource
from worker.source.guard import AddressGuard
from worker.source.http import HttpSource
from worker.source.limits import LocalSiteLimiter
from worker.source.playlist import PlaylistLimits, Playlists
from worker.source.social import LONGEST_HOLD_S, SocialOptions, SocialSource, formats_by_preference

Pages = dict[str, Any]
BODY = hashlib.shake_256(b"post").digest(5000)


def site(pages: Pages, held: Mapping[str, bytes] | None = None) -> Answer:
    """Posts' pages by name: JSON, or an answer; all else are files."""
    rest = files(held or {})

    def answer(request: BaseHTTPRequestHandler, served: Loopback) -> None:
        name = request.path.partition("?")[0].removeprefix("/post/")
        page = pages.get(name) if request.path.startswith("/post/") else None
        if callable(page):
            page(request, served)
        elif page is not None:
            text = json.dumps(page).replace("HERE", f"http://{served.at}")
            reply(text.encode(), Set_Cookie="seen=yes; Path=/")(request, served)
        else:
            rest(request, served)

    return answer


@contextlib.contextmanager
def posts(answer: Answer, spy: Spy, *, names: Sequence[str] = (), **changed: Any) -> Iterator[tuple[Loopback, UrlSource]]:
    """``names``: of this machine, besides its address."""
    options = {name: changed.pop(name) for name in ("items", "cookies", "max_duration_s") if name in changed}
    per_minute, longest_wait_s = changed.pop("per_minute", 1000), changed.pop("longest_wait_s", 30.0)
    with serve(answer) as server:
        spy.allow(server.at)
        allowed = [server.at, *(f"{name}:{server.port}" for name in names)]
        guard = AddressGuard(allow_private_hosts=allowed, resolve=lambda host, port: ["127.0.0.1"])
        limits: dict[str, Any] = {"max_bytes": 1 << 20, "timeout_s": 60, "retries": 0, **changed}
        http = HttpSource(guard=guard, ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), **limits)
        playlists = Playlists(PlaylistLimits())
        social = SocialSource(
            SocialOptions(extractors=["youtube"], **options),
            playlists=playlists,
            limiter=LocalSiteLimiter(per_minute=per_minute, longest_wait_s=longest_wait_s),
            extra=[LocalSiteIE],
        )
        yield server, UrlSource(http=http, playlists=playlists, social=social)


def fails(page: Any, spy: Spy, folder: Path, **changed: Any) -> VeriframeError:
    with posts(site({"a": page}), spy, **changed) as (server, urls), pytest.raises(VeriframeError) as caught:
        urls.fetch(server.url("/post/a?token=SECRET"), folder)
    assert [path for path in folder.iterdir() if path.name != "connections.jsonl"] == []
    assert "SECRET" not in str(caught.value)
    return caught.value


def one(url: str = "HERE/clip.mp4", **known: Any) -> Pages:
    return {"formats": [{"url": url, "format_id": "one", **known}]}


def test_a_posts_video_is_fetched_by_us(spy: Spy, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: Any) -> None:
    caplog.set_level(logging.DEBUG)
    page = one("HERE/clip.mp4?token=SECRET", http_headers={"Referer": "http://site.example/", "X-Odd": "1"})
    page["thumbnails"] = [{"url": "HERE/thumbnail.jpg"}]
    page["subtitles"] = {"en": [{"url": "HERE/subtitles.vtt"}]}
    with posts(site({"a": page}, {"clip.mp4": BODY}), spy) as (server, urls):
        fetched = urls.fetch(server.url("/post/a?token=SECRET"), tmp_path)
    assert fetched.path.read_bytes() == BODY
    assert fetched.sha256 == hashlib.sha256(BODY).hexdigest()
    assert [path for path, _ in server.requests] == ["/post/a?token=SECRET", "/clip.mp4?token=SECRET"]
    asked = server.requests[1][1]
    assert (asked["referer"], asked["cookie"]) == ("http://site.example/", "seen=yes")
    assert "x-odd" not in asked
    assert "SECRET" not in caplog.text + str(capfd.readouterr())


def test_hls_and_fragments(spy: Spy, tmp_path: Path) -> None:
    held = hls(tmp_path / "made")
    fragments = [{"path": f"media{i}.ts", "duration": 1} for i in range(SECONDS)]
    cut = {"protocol": "http_dash_segments", "fragment_base_url": "HERE/", "fragments": fragments}
    pages: Pages = {"whole": {"hls": True}, "cut": one("HERE/x.mpd", **cut)}
    with posts(site(pages, held), spy) as (server, urls):
        for name in pages:
            (tmp_path / name).mkdir()
            assert frames_in(urls.fetch(server.url(f"/post/{name}"), tmp_path / name).path) == FPS * SECONDS


def test_no_program_is_started_and_nothing_is_kept(spy: Spy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    is_watching = True

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if is_watching and event in ("subprocess.Popen", "os.posix_spawn", "os.exec", "os.fork", "os.system"):
            started.append(event)

    home = tmp_path / "home"
    (home / ".config" / "yt-dlp" / "plugins" / "p" / "yt_dlp_plugins" / "extractor").mkdir(parents=True)
    (home / ".config" / "yt-dlp" / "config").write_text("--exec 'touch ran'")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.2:9")
    before = sorted(home.rglob("*"))
    sys.addaudithook(watch)
    with posts(site({"a": one()}, {"clip.mp4": BODY}), spy) as (server, urls):
        urls.fetch(server.url("/post/a"), tmp_path)
    is_watching = False
    assert started == []
    assert sorted(home.rglob("*")) == before


@pytest.mark.parametrize(
    ("page", "error", "retryable"),
    [
        ({"geo": True}, FetchGeo, False),
        ({"login": True}, FetchAuth, False),
        ({"drm": True}, UnsupportedMedia, False),
        ({"run": True}, UnsupportedMedia, False),
        ({"formats": []}, UnsupportedMedia, False),
        ({"say": "This video has been removed by the uploader"}, FetchGone, False),
        ({"say": "Private video. Sign in if you've been granted access"}, FetchAuth, False),
        ({"say": "The uploader has not made this video available in your country"}, FetchGeo, False),
        ({"say": "Too many requests, try again later http://x.example/?key=SECRET"}, FetchRateLimited, True),
        ({"say": "A post of words"}, UnsupportedMedia, False),
        (reply(b"", 404), FetchGone, False),
        (reply(b"", 403), FetchAuth, False),
        (reply(b"", 429, Retry_After="7"), FetchRateLimited, True),
        (reply(b"", 500), FetchTimeout, True),
        (raw(b""), FetchTimeout, True),
        (reply(b"not JSON"), UnsupportedMedia, False),
        (reply(b"x", Content_Encoding="br"), FetchRefused, False),
        (reply(b"", 302, Location="http://127.0.0.1:1/"), FetchRefused, False),
        ({"need": "http://169.254.169.254/latest/meta-data/"}, FetchRefused, False),
        ({"need": "ws://127.0.0.1:1/"}, FetchRefused, False),
        ({"need": "file:///etc/passwd"}, FetchRefused, False),
        ({"is_live": True, **one()}, UnsupportedMedia, False),
        ({"duration": 9e9, **one()}, MediaTooLong, False),
        (one("HERE/gone.mp4"), FetchGone, False),
        (one("http://10.0.0.1/clip.mp4"), FetchRefused, False),
        (one("rtmp://127.0.0.1/live"), UnsupportedMedia, False),
        (one("HERE/clip.mp4", vcodec="none", acodec="mp3"), UnsupportedMedia, False),
        (one("HERE/clip.mp4", has_drm=True), UnsupportedMedia, False),
        ({"_type": "url", "url": "http://127.0.0.1:1/elsewhere"}, UnsupportedMedia, False),
        ({"_type": "playlist", "entries": []}, UnsupportedMedia, False),
    ],
    ids=lambda value: None if callable(value) else str(value)[:60],
)
def test_failures_have_codes(page: Any, error: type[VeriframeError], retryable: bool, spy: Spy, tmp_path: Path) -> None:
    raised = fails(page, spy, tmp_path)
    assert type(raised) is error
    assert raised.retryable is retryable
    if error is FetchRateLimited and callable(page):
        assert isinstance(raised, FetchRateLimited)
        assert raised.retry_after_s == 7


def test_what_is_refused_on_the_way_does_not_hide_the_answer(spy: Spy, tmp_path: Path) -> None:
    pages = {
        "a": {"ask": ["http://127.0.0.1:1/", "http://[::1]/"], **one()},
        "b": {"ask": ["http://10.0.0.1/"], "geo": True},
    }
    with posts(site(pages, {"clip.mp4": BODY}), spy) as (server, urls):
        assert urls.fetch(server.url("/post/a"), tmp_path).size_bytes == len(BODY)
        with pytest.raises(FetchGeo):
            urls.fetch(server.url("/post/b"), tmp_path)
    assert set(spy.connections) == {server.at}


def test_caps_hold_while_downloading_whatever_was_said(spy: Spy, tmp_path: Path) -> None:
    pages = {"a": one("HERE/clip.mp4", filesize=10)}
    with posts(site(pages, {"clip.mp4": BODY}), spy, max_bytes=4000) as (server, urls), pytest.raises(MediaTooLarge):
        urls.fetch(server.url("/post/a"), tmp_path)


@pytest.mark.parametrize(("items", "fetched"), [(1, True), (3, True), (0, False)])
def test_posts_with_several_videos(items: int, fetched: bool, spy: Spy, tmp_path: Path) -> None:
    entries = [{"id": str(i), "title": "x", **one(f"HERE/{i}.mp4")} for i in range(2)]
    pages = {"a": {"_type": "playlist", "entries": entries}}
    with posts(site(pages, {"0.mp4": BODY, "1.mp4": b"other"}), spy, items=items) as (server, urls):
        if fetched:
            assert urls.fetch(server.url("/post/a"), tmp_path).size_bytes == len(BODY)
        else:
            with pytest.raises(UnsupportedMedia, match="playlist_items"):
                urls.fetch(server.url("/post/a"), tmp_path)


def test_the_first_video_that_can_be_had(spy: Spy, tmp_path: Path) -> None:
    entries = [{"id": str(i), "title": "x", **one(f"HERE/{i}.mp4")} for i in range(4)]
    pages = {"a": {"_type": "playlist", "entries": entries}}
    for items, works in ((3, True), (2, False)):
        with posts(site(pages, {"2.mp4": BODY, "3.mp4": b"other"}), spy, items=items) as (server, urls):
            if works:
                assert urls.fetch(server.url("/post/a"), tmp_path).size_bytes == len(BODY)
                (tmp_path / "post").unlink()
            else:
                with pytest.raises(FetchGone):
                    urls.fetch(server.url("/post/a"), tmp_path)


def test_cookies_are_the_operators_file_and_stay_as_they_are(spy: Spy, tmp_path: Path) -> None:
    jar = tmp_path / "cookies.txt"
    text = (
        "# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\tours\n.other.example\tTRUE\t/\tFALSE\t0\tother\tx\n"
    )
    jar.write_text(text)
    folder = tmp_path / "folder"
    folder.mkdir()
    with posts(site({"a": one()}, {"clip.mp4": BODY}), spy, cookies=jar) as (server, urls):
        urls.fetch(server.url("/post/a"), folder)
    assert [headers.get("cookie") for _, headers in server.requests] == ["session=ours", "session=ours; seen=yes"]
    assert jar.read_text() == text
    assert [path.name for path in folder.iterdir()] == ["post"]


def test_a_site_has_its_turns(spy: Spy, tmp_path: Path) -> None:
    with posts(site({"a": reply(b"", 404), "b": reply(b"", 429)}), spy, per_minute=3) as (server, urls):
        for _ in range(2):
            with pytest.raises(FetchGone):
                urls.fetch(server.url("/post/a"), tmp_path)
        with pytest.raises(FetchRateLimited, match="429") as asked:
            urls.fetch(server.url("/post/b"), tmp_path)
        assert not asked.value.is_turn
        with pytest.raises(FetchRateLimited, match="often enough") as held:
            urls.fetch(server.url("/post/a"), tmp_path)
        assert held.value.is_turn
        assert held.value.retry_after_s is not None
        assert 30 < held.value.retry_after_s <= 80
    assert len(server.requests) == 3


def test_scans_of_one_post_have_turns_of_their_own(spy: Spy, tmp_path: Path) -> None:
    """With one for all of them, each began to wait anew when the one before had been there."""
    waits: dict[str, float] = {}
    with posts(site({"a": one()}, {"clip.mp4": BODY}), spy, per_minute=1) as (server, urls):
        assert urls.fetch(server.url("/post/a"), tmp_path, ticket="first").size_bytes == len(BODY)
        for ticket in ("second", "third", "second"):
            with pytest.raises(FetchRateLimited) as caught:
                urls.fetch(server.url("/post/a"), tmp_path, ticket=ticket)
            waits[ticket] = caught.value.retry_after_s or 0
    assert 30 < waits["second"] <= 60 < 90 < waits["third"] <= 120


@pytest.mark.parametrize(("longest_wait_s", "fetched"), [(0.1, False), (math.inf, True)])
def test_a_turn_is_waited_for_where_there_is_no_later_attempt(
    longest_wait_s: float, fetched: bool, spy: Spy, tmp_path: Path
) -> None:
    slow = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", BODY[:9], BODY[9:], every_s=0.3)
    pages = {"a": reply(b"", 429, Retry_After="1"), "b": one("HERE/post/slow"), "slow": slow}
    with posts(site(pages), spy, longest_wait_s=longest_wait_s, timeout_s=1.5) as (server, urls):
        with pytest.raises(FetchRateLimited, match="429"):
            urls.fetch(server.url("/post/a"), tmp_path)
        told: list[int] = []
        with contextlib.nullcontext() if fetched else pytest.raises(FetchRateLimited, match="often enough"):
            assert urls.fetch(server.url("/post/b"), tmp_path, lambda came, _: told.append(came)).size_bytes == len(BODY)
        assert told[:2] == [0, 0] * fetched, "whoever wants it no more can say so while it waits"


@pytest.mark.parametrize("way", ["media", "page"])
@pytest.mark.parametrize(("host", "closes"), [("cdn.site.example", True), ("poster.example", False)])
def test_only_the_site_itself_closes_it_for_all(host: str, closes: bool, way: str, spy: Spy, tmp_path: Path) -> None:
    """A poster's own server says 429: it was asked for the media, or by the extractor."""

    def answer(request: BaseHTTPRequestHandler, served: Loopback) -> None:
        if request.path == "/full":
            reply(b"", 429, Retry_After="600")(request, served)
        else:
            full = f"http://{host}:{served.port}/full"
            pages = {"a": one(full) if way == "media" else {"need": full}, "b": one("HERE/clip.mp4")}
            site(pages, {"clip.mp4": BODY})(request, served)

    with posts(answer, spy, names=["www.site.example", host]) as (server, urls):
        with pytest.raises(FetchRateLimited, match="429") as caught:
            urls.fetch(server.url("/post/a", "www.site.example"), tmp_path)
        assert caught.value.retry_after_s == 600
        if closes:
            with pytest.raises(FetchRateLimited, match="often enough"):
                urls.fetch(server.url("/post/b", "www.site.example"), tmp_path)
        else:
            assert urls.fetch(server.url("/post/b", "www.site.example"), tmp_path).size_bytes == len(BODY)


@pytest.mark.parametrize(("status", "error"), [(403, FetchRefused), (429, FetchRateLimited), (503, FetchTimeout)])
def test_what_an_egress_proxy_says_of_a_page(status: int, error: type[VeriframeError], spy: Spy, tmp_path: Path) -> None:
    with serve(reply(b"", status)) as proxy:
        spy.allow(proxy.at)
        with posts(site({}), spy, proxy=f"http://{proxy.at}") as (_, urls), pytest.raises(error, match="the egress proxy"):
            urls.fetch("https://www.site.example/post/a", tmp_path)


def test_one_answer_does_not_close_a_site_for_years(spy: Spy, tmp_path: Path) -> None:
    with posts(site({"a": reply(b"", 429, Retry_After="999999999")}), spy) as (server, urls):
        for words, longest_s in (("429", 1e9), ("often enough", LONGEST_HOLD_S)):
            with pytest.raises(FetchRateLimited, match=words) as held:
                urls.fetch(server.url("/post/a"), tmp_path)
            assert 800 < (held.value.retry_after_s or 0) <= longest_s


def test_a_page_where_media_are_said_to_be(spy: Spy, tmp_path: Path) -> None:
    with posts(site({"a": one("HERE/page")}, {"page": b"<html>"}), spy) as (server, urls), pytest.raises(UnsupportedMedia):
        urls.fetch(server.url("/post/a"), tmp_path)
    assert not (tmp_path / "post").exists()


@pytest.mark.parametrize("text", ["SECRET", "# Netscape HTTP Cookie File\nSECRET", None])
def test_a_file_of_cookies_that_is_none_is_told(text: str | None, spy: Spy, tmp_path: Path, capfd: Any) -> None:
    jar = tmp_path / "cookies.txt"
    if text is not None:
        jar.write_text(text)
    with posts(site({"a": one()}), spy, cookies=jar) as (server, urls), pytest.raises(ConfigError, match="cookies") as caught:
        urls.fetch(server.url("/post/a"), tmp_path)
    assert "SECRET" not in str(caught.value) + str(capfd.readouterr())


def test_other_addresses_are_no_posts(spy: Spy, tmp_path: Path) -> None:
    with posts(site({}, {"clip.mp4": BODY, "page": b"<html>"}), spy) as (server, urls):
        assert urls.fetch(server.url("/clip.mp4"), tmp_path).size_bytes == len(BODY)
        (tmp_path / "download").unlink()
        with pytest.raises(UnsupportedMedia, match="web page"):
            urls.fetch(server.url("/page"), tmp_path)


@pytest.mark.parametrize(
    ("names", "url", "expected"),
    [
        (["default"], "https://www.youtube.com/watch?v=jNQXAC9IVRw", "youtube"),
        (["default"], "https://youtu.be/jNQXAC9IVRw", "youtube"),
        (["default"], "https://x.com/someone/status/1234567890", "twitter"),
        (["default"], "https://www.tiktok.com/@someone/video/7000000000000000000", "tiktok"),
        (["default"], "https://media.example/clip.mp4", None),
        (["vimeo"], "https://www.youtube.com/watch?v=jNQXAC9IVRw", None),
        (["generic", "vimeo"], "https://media.example/clip.mp4", None),
        (["vimeo", "default"], "https://vimeo.com/1234", "vimeo"),
    ],
)
def test_sites_are_told_by_yt_dlps_own_rules(names: list[str], url: str, expected: str | None, spy: Spy) -> None:
    social = SocialSource(
        SocialOptions(extractors=names), playlists=Playlists(PlaylistLimits()), limiter=LocalSiteLimiter(per_minute=1)
    )
    assert social.site_of(url) == expected
    assert spy.connections == spy.lookups == []


def test_formats_by_preference() -> None:
    formats = [
        {"url": "a", "protocol": "https", "height": 360, "width": 640, "tbr": 500},
        {"url": "b", "protocol": "m3u8_native", "height": 720, "tbr": 900},
        {"url": "c", "protocol": "https", "height": 720, "tbr": 900},
        {"url": "d", "protocol": "https", "height": 1080, "tbr": 900},
        {"url": "e", "protocol": "https", "height": 720, "filesize": 10**10},
        {"url": "f", "protocol": "https", "height": 720, "vcodec": "none"},
        {"url": "g", "protocol": "mhtml", "height": 720},
        {"url": "h", "protocol": "http_dash_segments", "height": 240, "fragments": [{"url": "x"}]},
        {"url": "i", "protocol": "http_dash_segments", "height": 240},
        {"url": "j", "protocol": "websocket_frag", "height": 720},
        {"protocol": "https", "height": 720},
        {"url": "k", "protocol": "https", "height": "tall", "tbr": float("nan")},
        None,
    ]
    found = formats_by_preference({"formats": formats}, max_side_px=720, max_bytes=10**9, duration_s=60)
    assert "".join(variant.what["url"] for variant in found) == "cbahkde"
