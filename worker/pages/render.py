"""Templates to HTML: every value is escaped, a missing one is an error; the only style is our own, allowed by its hash."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from worker.output.text import escaped, shown_address, shown_score


@lru_cache(maxsize=1)
def style() -> Markup:
    """The text of ``style.css``."""
    return Markup((Path(__file__).parent / "style.css").read_text("utf-8"))


@lru_cache(maxsize=1)
def content_policy() -> str:
    """Content-Security-Policy of a page that carries all it shows: no script, no request, no style but ours."""
    digest = base64.b64encode(hashlib.sha256(style().encode()).digest()).decode("ascii")
    return f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


@lru_cache(maxsize=1)
def environment() -> Environment:
    """``|shown``: text from outside, without characters that hide other text or turn it around. ``|address``: an address, also
    without login, query and fragment. ``|score``: a probability that reads as certainty only where it is."""
    made = Environment(
        loader=PackageLoader("worker.pages"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters |= {"shown": escaped, "address": shown_address, "score": shown_score}
    return made


def render(template: str, **values: Any) -> Markup:
    """A template of ``worker/pages/templates``, filled in, every value escaped that is no ``Markup`` itself."""
    return Markup(environment().get_template(template).render(**values))
