"""Posts of social networks: yt-dlp says where a post's video lies, its bytes are fetched by us like any other's."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from worker.errors import FetchAuth, FetchGone, FetchRateLimited, MediaTooLong, UnsupportedMedia
from worker.source.client import ASK_S, joined_url
from worker.source.http import Fetched, OnProgress, Session
from worker.source.limits import SiteLimiter
from worker.source.parts import PARTS, Part
from worker.source.playlist import MAX_PLAYLIST_BYTES, Playlists
from worker.source.sites import SITES, is_own_host
from worker.source.sniff import Kind, sniff, sniff_file
from worker.source.variants import Variant, by_preference

if TYPE_CHECKING:
    from worker.source.extract import Found

log = logging.getLogger(__name__)

HOLD_S: Final = 60.0
"""How long a site is left alone that asked for it without saying how long."""
LONGEST_HOLD_S: Final = 900.0
"""Nor longer than this, whatever one answer says."""
_TOLD_FROM_S: Final = 30.0
_HEADERS: Final = ("user-agent", "referer", "origin", "accept", "accept-language")
_TRIED: Final = 2
_LIVE: Final = ("is_live", "is_upcoming", "post_live")


@dataclass(frozen=True, slots=True, kw_only=True)
class SocialOptions:
    """``extractors``: names of yt-dlp's; ``items``: of a list, the first of so many that can be had; 0: lists are refused."""

    extractors: Sequence[str]
    items: int = 1
    max_side_px: int = 720
    max_duration_s: float = 14_400
    cookies: Path | None = None
    """A file in Netscape's format. It is read for every post, never written."""


class SocialSource:
    """Fetches posts' videos. ``extra``: extractors besides yt-dlp's own, which come first."""

    def __init__(
        self, options: SocialOptions, *, playlists: Playlists, limiter: SiteLimiter, extra: Sequence[type[Any]] = ()
    ) -> None:
        self._options, self._playlists, self._limiter = options, playlists, limiter
        self._extra = extra
        self._loaded: list[type[Any]] | None = None

    def site_of(self, url: str) -> str | None:
        """The name of the site whose post this is, by yt-dlp's own rules; None for any other address. Asks nobody."""
        found = next((one for one in self._extractors() if one.suitable(url)), None)
        return None if found is None else str(found.IE_NAME).lower().partition(":")[0]

    def await_turn(self, site: str, ticket: str, within_s: float, on_progress: OnProgress | None = None) -> None:
        """Before ``fetch``, whose time begins behind it. ``on_progress`` is told each ``ASK_S`` that nothing came yet, and may
        end it by an error. Raises FetchRateLimited if the turn is too far away: it is set aside for the next attempt."""
        ends_at = time.monotonic() + within_s
        while wait_s := self._limiter.take(site, ticket):
            if wait_s > self._limiter.longest_wait_s or time.monotonic() + wait_s >= ends_at:
                raise FetchRateLimited(f"{site} is asked often enough at present", retry_after_s=wait_s, is_turn=True)
            if wait_s > _TOLD_FROM_S:
                log.warning("%s is asked often enough at present: the next post waits for %.0f s", site, wait_s)
            until = time.monotonic() + wait_s
            while (left_s := until - time.monotonic()) > 0:
                if on_progress is not None:
                    on_progress(0, None)
                time.sleep(min(left_s, ASK_S))

    def fetch(self, session: Session, site: str, url: str, folder: Path, on_progress: OnProgress | None = None) -> Fetched:
        """The post's (first) video as a new file in ``folder``. Raises FetchError, MediaError, StorageFull."""
        try:
            return self._first_of(session, self._look_at(session, url), folder / "post", on_progress)
        except FetchRateLimited as exc:
            if exc.host is None or is_own_host(exc.host, site, url):  # a poster's own server speaks for itself alone
                self._limiter.hold(site, min(exc.retry_after_s or HOLD_S, LONGEST_HOLD_S))
            raise

    def _look_at(self, session: Session, url: str) -> list[Found]:
        from worker.source.extract import look_at

        return look_at(
            url,
            client=session.client,
            extractors=self._extractors(),
            items=self._options.items,
            max_redirects=session.source.max_redirects,
            max_segments=self._playlists.max_segments,
            cookies=self._options.cookies,
        )

    def _first_of(self, session: Session, found: Sequence[Found], into: Path, on_progress: OnProgress | None) -> Fetched:
        """The first video that can be had; the last one's error if none can."""
        for one in found[:-1]:
            try:
                return self._bring(session, one, into, on_progress)
            except (FetchAuth, FetchGone, MediaTooLong, UnsupportedMedia):
                continue
        return self._bring(session, found[-1], into, on_progress)

    def _bring(self, session: Session, found: Found, into: Path, on_progress: OnProgress | None) -> Fetched:
        info = found.info
        if info.get("is_live") or info.get("live_status") in _LIVE:
            raise UnsupportedMedia("a live stream, which has no end to wait for")
        duration_s = _number(info.get("duration"))
        if duration_s is not None and duration_s > self._options.max_duration_s:
            raise MediaTooLong(f"{duration_s:.0f} s, limit {self._options.max_duration_s:.0f}")
        wanted = formats_by_preference(
            info, max_side_px=self._options.max_side_px, max_bytes=session.source.max_bytes, duration_s=duration_s
        )
        session.cookie_for = found.cookie_for
        for variant in wanted[:_TRIED]:
            try:
                return self._bring_format(session, variant.what, into, on_progress)
            except (FetchAuth, FetchGone, UnsupportedMedia):
                if variant is wanted[:_TRIED][-1]:
                    raise
        raise UnsupportedMedia("the post has no video of a kind that can be fetched")

    def _bring_format(self, session: Session, chosen: Mapping[str, Any], into: Path, on_progress: OnProgress | None) -> Fetched:
        session.headers = _headers(chosen.get("http_headers"))
        protocol, url = str(chosen.get("protocol")), str(chosen["url"])
        if protocol.startswith("m3u8"):
            body = session.read(url, max_bytes=MAX_PLAYLIST_BYTES)
            if sniff(body.data) is not Kind.HLS:
                raise UnsupportedMedia("no HLS playlist where the site says that one is")
            return self._playlists.fetch(session, Kind.HLS, body.data, body.url, into, on_progress)
        if protocol == "http_dash_segments":
            parts = chosen[PARTS]() if callable(chosen.get(PARTS)) else _fragments(chosen)
            return self._playlists.join(session, parts, url, into, on_progress)
        fetched = session.download(url, into, on_progress)
        if sniff_file(fetched.path) is not Kind.MEDIA:
            fetched.path.unlink()
            raise UnsupportedMedia("a page or a playlist where the site says that media are")
        return fetched

    def _extractors(self) -> list[type[Any]]:
        if self._loaded is None:
            import os

            os.environ["YTDLP_NO_PLUGINS"] = "1"  # read when yt-dlp first looks for extractors
            from worker.source.extract import extractors_of

            names = {name for one in self._options.extractors for name in (SITES if one == "default" else (one,))}
            self._loaded = extractors_of(names, self._extra)
        return self._loaded


def formats_by_preference(
    info: Mapping[str, Any], *, max_side_px: int, max_bytes: int, duration_s: float | None
) -> list[Variant[Mapping[str, Any]]]:
    """The formats with pictures that we can fetch, the best first; sound is not needed. Raises UnsupportedMedia for DRM alone."""
    formats = [one for one in info.get("formats") or [] if isinstance(one, Mapping) and one.get("url")]
    pictured = [one for one in formats if one.get("vcodec") != "none" and _is_fetched(str(one.get("protocol")), one)]
    usable = [one for one in pictured if one.get("has_drm") is not True]
    if pictured and not usable:
        raise UnsupportedMedia("encrypted (DRM)")
    variants = [
        Variant(
            what=one,
            width_px=_whole(one.get("width")),
            height_px=_whole(one.get("height")),
            bandwidth_bps=rate * 1000 if (rate := _number(one.get("tbr") or one.get("vbr"))) else None,
            size_bytes=_whole(one.get("filesize") or one.get("filesize_approx")),
        )
        for one in sorted(usable, key=lambda one: not str(one.get("protocol")).startswith("http"))
    ]
    return by_preference(variants, max_side_px=max_side_px, max_bytes=max_bytes, duration_s=duration_s)


def _is_fetched(protocol: str, one: Mapping[str, Any]) -> bool:
    if protocol == "http_dash_segments":
        return callable(one.get(PARTS)) or isinstance(
            one.get("fragments"), Sequence
        )  # those of live streams are made as they run
    return protocol in ("http", "https", "m3u8", "m3u8_native") and one.get("ext") != "mhtml"


def _fragments(chosen: Mapping[str, Any]) -> list[Part]:
    """Raises UnsupportedMedia."""
    base = str(chosen.get("fragment_base_url") or chosen.get("manifest_url") or chosen["url"])
    parts = []
    try:
        for fragment in chosen["fragments"]:
            url = fragment.get("url") or joined_url(base, str(fragment.get("path") or ""))
            parts.append(Part(url=str(url), duration_s=_number(fragment.get("duration")) or 0.0))
    except (AttributeError, ValueError) as exc:
        raise UnsupportedMedia("the site's list of segments cannot be read") from exc
    return parts


def _headers(given: Any) -> dict[str, str]:
    """Those of a format's headers that a media server may want; none may break out of its line."""
    if not isinstance(given, Mapping):
        return {}
    return {
        name.lower(): value
        for name, value in given.items()
        if name.lower() in _HEADERS and isinstance(value, str) and value.isascii() and value.isprintable()
    }


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 < value < 1e15 else None


def _whole(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)
