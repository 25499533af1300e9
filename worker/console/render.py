"""Templates to pages: every value escaped, a missing one an error; and how times, scores and addresses are shown."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import ChoiceLoader, Environment, PackageLoader, PrefixLoader, StrictUndefined

from worker import __version__
from worker.console.assets import Assets
from worker.console.sessions import Session
from worker.output.text import clock, escaped, shown_address, shown_score
from worker.pages import words
from worker.queue.access import Scope
from worker.report import Report, Source

LONGEST = 300
NOTHING = "\N{EN DASH}"


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Compiles each template once."""
    made = Environment(
        loader=ChoiceLoader([PackageLoader("worker.console"), PrefixLoader({"pages": PackageLoader("worker.pages")})]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "address": address,
        "ago": ago,
        "at": at,
        "clock": clock,
        "duration": duration,
        "lasted": lasted,
        "lines": lines,
        "percent": percent,
        "plain": plain,
        "score": shown_score,
        "source": shown_source,
    }
    made.globals |= {"version": __version__, "status_words": words.STATUSES, "verdict_words": words.VERDICTS}
    return made


class Pages:
    """Templates of this package, with the assets that are here."""

    def __init__(self, assets: Assets) -> None:
        self._assets = assets

    def page(
        self,
        name: str,
        session: Session | None,
        values: Mapping[str, Any],
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> HTMLResponse:
        """A whole page; ``may`` says in it what the signed-in key allows."""
        return HTMLResponse(self.text(name, session, values), status, headers)

    def text(self, name: str, session: Session | None, values: Mapping[str, Any]) -> str:
        may = {scope.value: session is not None and session.key.may(scope) for scope in Scope}
        return environment().get_template(name).render({**values, "asset": self._assets.url, "session": session, "may": may})


def plain(text: object) -> str:
    """Text of other people's: what is not printable, or turns the direction of writing, shows as an escape; long text is cut."""
    shown = escaped(str(text))
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}…"


def lines(text: str) -> str:
    """Like ``plain``, for text of several lines that may be long; they stay lines."""
    return "\n".join(escaped(line) for line in text.split("\n"))


def shown_source(source: Source | Report) -> str:
    """Where the bytes come from, without what an address may keep secret: login, query and fragment."""
    found = source.source if isinstance(source, Report) else source
    if found.kind == "upload":
        return "uploaded file"
    if found.kind == "path":
        return plain(found.path or "")
    return address(found.url or "")


def address(url: str) -> str:
    return plain(shown_address(url))


def at(moment: datetime | int | None) -> str:
    """A time in UTC; a number is of milliseconds since 1970."""
    if moment is None:
        return NOTHING
    if isinstance(moment, int):
        moment = datetime.fromtimestamp(moment / 1000, UTC)
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def ago(moment: datetime | None, now: datetime | None = None) -> str:
    """How long since, in one unit."""
    if moment is None:
        return NOTHING
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    return "just now" if seconds < 5 else f"{lasted(seconds)} ago"


def lasted(seconds: float) -> str:
    """In one unit, rounded down."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return NOTHING
    return f"{seconds:.1f} s" if seconds < 60 else f"{clock(round(seconds * 1000))} min"


def percent(share: float | None) -> str:
    return NOTHING if share is None else f"{100 * share:.0f} %"
