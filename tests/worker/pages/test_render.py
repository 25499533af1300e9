"""Templates escape what they show, and a missing value is an error."""

from __future__ import annotations

import pytest
from jinja2 import UndefinedError

from worker.pages.render import environment


def test_values_are_escaped_in_every_template_whatever_its_name() -> None:
    made = environment().from_string("<p>{{ it }}</p>")
    assert made.render(it="<b> & 'x'") == "<p>&lt;b&gt; &amp; &#39;x&#39;</p>"


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        environment().from_string("{{ it.nothing }}").render(it={})


def test_hidden_characters_are_shown() -> None:
    assert environment().from_string("{{ it|shown }}").render(it="a\u202eb\udcff\n<") == r"a\u202eb\xff\n&lt;"
