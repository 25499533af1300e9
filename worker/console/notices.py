"""What a page says after something was done; the address names it, and only these can be named."""

from __future__ import annotations

import re

NOTICES = {
    "submitted": "Taken in. The verdict appears here as soon as there is one.",
    "known": "This was submitted before: here is that scan.",
    "decided": "Your verdict is recorded, and holds for every scan of the same bytes.",
    "cancelling": "The scan will end within seconds.",
    "cancelled": "The scan is cancelled.",
    "ended": "The scan had ended already.",
    "retried": "Scanning again: this is the new scan.",
    "nothing": "Nothing was selected, or all of it had been replayed before.",
    "unseen": "None of the latest dead letters was left to replay; there are too many to look at all of them: select older ones.",
    "unsent": "None of the latest callbacks was left to send again; there are too many to look at all of them.",
}
COUNTED = {
    "replayed": ("1 dead letter is scanned again.", "{} dead letters are scanned again."),
    "partly": (
        "1 dead letter is scanned again; others are refused for now: replay them later.",
        "{} dead letters are scanned again; others are refused for now: replay them later.",
    ),
    "latest": (
        "1 dead letter is scanned again; there are too many to look at all of them: select older ones.",
        "{} dead letters are scanned again; there are too many to look at all of them: select older ones.",
    ),
    "latestsent": (
        "1 callback is sent again; there are too many to look at all of them.",
        "{} callbacks are sent again; there are too many to look at all of them.",
    ),
    "sent": ("1 callback is sent again.", "{} callbacks are sent again."),
}


def notice(name: str | None) -> str | None:
    """``decided``, or ``replayed-12`` with a number; None for what is no notice of ours."""
    if name is None:
        return None
    form = re.fullmatch(r"([a-z]{1,16})(?:-([0-9]{1,9}))?", name, re.ASCII)
    if form is None:
        return None
    if form[2] is None:
        return NOTICES.get(form[1])
    if form[1] not in COUNTED:
        return None
    one, many = COUNTED[form[1]]
    return one if int(form[2]) == 1 else many.format(int(form[2]))
