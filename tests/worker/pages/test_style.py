"""Colours of ``style.css``: text is readable in the light and the dark scheme, and on paper."""

from __future__ import annotations

import re
from itertools import product

import pytest

from tests.worker.pages.html import contrast
from worker.pages.render import content_policy, style

BLOCK = re.compile(r":root \{(.*?)\}", re.DOTALL)
SCHEMES = [dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block)) for block in BLOCK.findall(style())]
TEXT = ["text", "muted", "accent"]
VERDICTS = ["fake", "real", "uncertain", "neutral"]


@pytest.mark.parametrize("scheme", SCHEMES, ids=["light", "dark", "print"])
def test_text_is_readable(scheme: dict[str, str]) -> None:
    for name, ground in product(TEXT, ("bg", "surface")):
        assert contrast(scheme[name], scheme[ground]) >= 4.5, (name, ground)
    for name in VERDICTS:
        assert contrast(scheme[name], scheme[f"{name}-bg"]) >= 4.5, name
        assert contrast(scheme["text"], scheme[f"{name}-bg"]) >= 4.5, name
        assert contrast(scheme["muted"], scheme[f"{name}-bg"]) >= 4.5, name
    assert contrast(scheme["edge"], scheme["bg"]) >= 3


def test_there_are_three_schemes_with_the_same_colours() -> None:
    assert len(SCHEMES) == 3
    assert SCHEMES[0].keys() == SCHEMES[1].keys() == SCHEMES[2].keys()


def test_the_policy_allows_one_style_and_data_pictures_alone() -> None:
    policy = content_policy()
    assert re.fullmatch(
        r"default-src 'none'; img-src data:; style-src 'sha256-[A-Za-z0-9+/]{43}='; base-uri 'none'; form-action 'none'", policy
    )
    assert "unsafe" not in policy
