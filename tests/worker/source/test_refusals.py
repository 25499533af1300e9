from __future__ import annotations

import pytest

from worker.errors import FetchAuth, FetchGeo, FetchGone, FetchRateLimited, UnsupportedMedia
from worker.source.refusals import error_of_text


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("HTTP Error 429: Too Many Requests", FetchRateLimited),
        ("Sign in to confirm you are not a bot", FetchAuth),
        ("Sign in to confirm your age. This video may be inappropriate for some users.", FetchAuth),
        ("This video is only available for registered users. Use --cookies", FetchAuth),
        ("This account is private", FetchAuth),
        ("Join this channel to get access to members-only content", FetchAuth),
        ("NSFW tweet requires authentication", FetchAuth),
        ("The uploader has not made this video available in your country", FetchGeo),
        ("Video unavailable. It contains content from X, who has blocked it in your country on copyright grounds", FetchGeo),
        ("This video is not available from your location due to geo restriction", FetchGeo),
        ("Video unavailable", FetchGone),
        ("This post was deleted by its author", FetchGone),
        ("The account has been suspended", FetchGone),
        ("Requested tweet is unavailable", FetchGone),
        ("This video is DRM protected", UnsupportedMedia),
        ("No video could be found in this tweet", UnsupportedMedia),
        ("Unable to extract data", UnsupportedMedia),
        ("", UnsupportedMedia),
    ],
)
def test_words(text: str, error: type[Exception]) -> None:
    assert type(error_of_text(text)) is error


def test_addresses_are_not_repeated() -> None:
    told = str(error_of_text("Video unavailable: https://user:word@site.example/?token=SECRET and rtmp://SECRET" + "x" * 999))
    assert "SECRET" not in told
    assert len(told) < 200


def test_a_site_that_says_megabytes_is_not_read_to_the_end() -> None:
    """Without a bound this takes hours."""
    assert type(error_of_text("Video unavailable " + "x" * 5_000_000)) is FetchGone
