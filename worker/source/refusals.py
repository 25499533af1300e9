"""What a site says when it shows no video, as an error with a code: sites say it in words, and those of yt-dlp are English."""

from __future__ import annotations

import re
from typing import Final

from worker.errors import FetchAuth, FetchError, FetchGeo, FetchGone, FetchRateLimited, UnsupportedMedia

_ADDRESS = re.compile(r"\S*://\S*")
_TOLD_LENGTH: Final = 160
_READ_LENGTH: Final = 4000
"""Of what a site says, so much is looked at: it may say megabytes, and looking for addresses takes time by the square of them."""
_WORDS: Final[tuple[tuple[re.Pattern[str], type[FetchError]], ...]] = tuple(
    (re.compile(words, re.IGNORECASE), kind)
    for words, kind in (
        (r"rate.?limit|too many requests|try again later|temporarily blocked|unusual traffic", FetchRateLimited),
        (r"\bgeo|your (country|region|location|territory)|not available in|blocked it in", FetchGeo),
        (
            r"log.?in|logged|sign.?in|private|members?.only|cookies|password|authenti|subscri|premium|followers|registered"
            r"|age.?(restrict|gate|verif|confirm|limit)|confirm your age|not a bot|permission|paid|purchase|NSFW",
            FetchAuth,
        ),
        (
            r"not found|unavailable|removed|deleted|no longer|not exist|doesn.t exist|terminated|suspended|expired"
            r"|not available|taken down|has ended",
            FetchGone,
        ),
    )
)


def error_of_text(text: str) -> FetchError | UnsupportedMedia:
    """``text`` goes on without addresses, which may hold secrets."""
    text = text[:_READ_LENGTH]
    told = _ADDRESS.sub("(address)", text).strip()[:_TOLD_LENGTH]
    if re.search(r"\bDRM\b", text):
        return UnsupportedMedia("encrypted (DRM)")
    for words, kind in _WORDS:
        if words.search(text):
            return kind(f"the site says: {told}")
    return UnsupportedMedia(f"no video could be found: {told}")
