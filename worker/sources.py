"""Builds what fetches addresses, from settings; imported only where an address is scanned."""

from __future__ import annotations

from worker.errors import ConfigError
from worker.guards import build_source_guard
from worker.settings import Settings
from worker.source.fetch import UrlSource
from worker.source.http import HttpSource
from worker.source.limits import LocalSiteLimiter, SiteLimiter
from worker.source.playlist import PlaylistLimits, Playlists
from worker.source.social import SocialOptions, SocialSource


def build_source(settings: Settings, limiter: SiteLimiter | None = None) -> UrlSource:
    """``limiter``: one that all workers share; this process's own where there is none. Raises ConfigError."""
    source = settings.source
    http = build_http(settings)
    limits = PlaylistLimits(
        max_segments=source.max_segments, max_duration_s=settings.decode.max_duration_s, max_side_px=source.max_side_px
    )
    playlists = Playlists(limits)
    if not source.extractors:
        return UrlSource(http=http, playlists=playlists)
    if source.cookies is not None and not source.cookies.is_file():
        raise ConfigError(f"source.cookies: there is no file {source.cookies}")
    options = SocialOptions(
        extractors=source.extractors,
        items=source.playlist_items,
        max_side_px=source.max_side_px,
        max_duration_s=settings.decode.max_duration_s,
        cookies=source.cookies,
    )
    limiter = limiter or LocalSiteLimiter(per_minute=source.site_requests_per_minute)
    return UrlSource(http=http, playlists=playlists, social=SocialSource(options, playlists=playlists, limiter=limiter))


def build_http(settings: Settings) -> HttpSource:
    """Raises ConfigError."""
    source = settings.source
    return HttpSource(
        guard=build_source_guard(settings),
        max_bytes=source.max_bytes,
        timeout_s=source.timeout_s,
        connect_s=source.connect_s,
        stall_s=source.stall_s,
        max_redirects=source.max_redirects,
        retries=source.retries,
        patience_s=source.patience_s,
        rate_bytes_s=source.rate_bytes_s,
        proxy=source.proxy,
    )
