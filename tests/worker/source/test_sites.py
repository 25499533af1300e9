"""Which hosts speak for a network."""

from __future__ import annotations

import pytest

from worker.source.sites import is_own_host

TWEET = "https://twitter.com/someone/status/1"


@pytest.mark.parametrize(
    ("host", "site", "post", "is_own"),
    [
        ("api.x.com", "twitter", TWEET, True),
        ("x.com", "twitter", TWEET, True),
        ("twitter.com.poster.example", "twitter", TWEET, False),
        ("nottwitter.com", "twitter", TWEET, False),
        ("rr1---sn-4g5e6nzz.googlevideo.com", "youtube", "https://youtu.be/jNQXAC9IVRw", True),
        ("storage.googleapis.com", "youtube", "https://youtu.be/jNQXAC9IVRw", False),
        ("cdn.rumble.com", "rumble", "https://rumble.com/v1", True),
        ("api.site.co.uk", "site", "https://www.site.co.uk/1", True),
        ("poster.co.uk", "site", "https://www.site.co.uk/1", False),
        ("t.me", "telegram", "https://t.me/name/1", True),
        ("poster.me", "telegram", "https://t.me/name/1", False),
        ("127.0.0.1", "localsite", "http://127.0.0.1:81/post/a", True),
        ("128.0.0.1", "localsite", "http://127.0.0.1:81/post/a", False),
        ("1.127.0.0.1", "localsite", "http://7.0.0.1:81/post/a", False),
        ("", "localsite", "http:///post/a", False),
    ],
)
def test_a_networks_own_hosts(host: str, site: str, post: str, is_own: bool) -> None:
    assert is_own_host(host, site, post) is is_own
