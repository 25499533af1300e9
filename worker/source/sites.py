"""The social networks that are read, and which hosts are a network's own."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

SITES: Final = (
    *("9gag", "bilibili", "bitchute", "bluesky", "coub", "dailymotion", "douyin", "facebook", "gab", "imgur", "instagram"),
    *("kick", "lbry", "likee", "linkedin", "niconico", "odnoklassniki", "pinterest", "reddit", "rumble", "rutube"),
    *("snapchatspotlight", "streamable", "telegram", "tiktok", "truth", "tumblr", "twitch", "twitter", "vimeo", "vk"),
    *("vm.tiktok", "weibo", "xiaohongshu", "youku", "youtube"),
)
"""Networks on which people post video; what ``default`` in a list of extractors stands for."""
_TIKTOK: Final = ("tiktok.com", "tiktokv.com", "tiktokcdn.com")
_OTHER_DOMAINS: Final[dict[str, tuple[str, ...]]] = {
    "bilibili": ("bilibili.com", "bilivideo.com", "b23.tv"),
    "dailymotion": ("dailymotion.com", "dmcdn.net", "dai.ly"),
    "facebook": ("facebook.com", "fbcdn.net", "fb.watch"),
    "instagram": ("instagram.com", "cdninstagram.com"),
    "reddit": ("reddit.com", "redd.it"),
    "tiktok": _TIKTOK,
    "twitch": ("twitch.tv", "ttvnw.net"),
    "twitter": ("twitter.com", "x.com", "twimg.com"),
    "vimeo": ("vimeo.com", "vimeocdn.com"),
    "vk": ("vk.com", "vk.ru", "vkvideo.ru"),
    "vm.tiktok": _TIKTOK,
    "youtube": ("youtube.com", "youtu.be", "youtube-nocookie.com", "googlevideo.com", "youtubei.googleapis.com"),
}
"""Of networks that have several."""
_ADDRESS: Final = re.compile(r"[\d.]+|.*:.*")


def is_own_host(host: str, site: str, post_url: str) -> bool:
    """Whether ``host`` is the network's: below a domain that is known of it, or below that of the post's own address, which the
    network's extractor has recognised. A poster's own server is neither."""
    domains = (*_OTHER_DOMAINS.get(site, ()), _domain(urlsplit(post_url).hostname or ""))
    return any(host == domain or host.endswith(f".{domain}") for domain in domains if domain)


def _domain(host: str) -> str:
    """What one owner has: two labels, or three where two are rather a registry's (``co.uk``). In doubt it is less than that."""
    if _ADDRESS.fullmatch(host):
        return host
    labels = host.rstrip(".").split(".")
    is_registry = len(labels) > 1 and len(labels[-1]) == 2 and len(labels[-2]) <= 3
    return ".".join(labels[-3:] if is_registry else labels[-2:])
