"""What fetches addresses, as settings say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from worker.errors import ConfigError, FetchRefused
from worker.settings import load_settings
from worker.sources import build_http, build_source


def test_limits_and_lists_come_from_the_settings() -> None:
    given: dict[str, Any] = {"max_bytes": 5, "retries": 7, "rate_bytes_s": 9, "ports": [81], "deny_hosts": ["denied.example"]}
    http = build_http(load_settings(flags={"source": given}))
    assert (http.max_bytes, http.retries, http.rate_bytes_s) == (5, 7, 9)
    http.guard.check_url("http://media.example:81/")
    for url in ("http://media.example/", "http://denied.example:81/"):
        with pytest.raises(FetchRefused):
            http.guard.check_url(url)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"extractors": ["Generic"]}, "never used"),
        ({"extractors": ["a/b"]}, "extractors"),
        ({"proxy": "http://user:word@proxy.example:3128"}, "proxy"),
        ({"proxy": "socks5://proxy.example"}, "proxy"),
        ({"ports": [0]}, "ports"),
        ({"allow_hosts": ["*.example"]}, "allow_hosts"),
        ({"cookies": "/nowhere/cookies.txt"}, "cookies"),
    ],
)
def test_settings_that_cannot_be_used(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_source(load_settings(flags={"source": given}))


def test_without_extractors_no_address_is_a_post(tmp_path: Path) -> None:
    source = build_source(load_settings(flags={"source": {"extractors": []}}))
    with pytest.raises(FetchRefused):
        source.fetch("http://127.0.0.1/post/a", tmp_path)
