"""How many items are scanned at once, and on how many threads each."""

from __future__ import annotations

import pytest
import typer

from worker.commands.options import workers
from worker.commands.scan import share_cores
from worker.cores import scan_threads, usable_cores
from worker.settings import load_settings


def test_a_number_of_workers_or_as_many_as_fill_the_cores() -> None:
    assert (workers("3"), workers(1), workers("auto")) == (3, 1, usable_cores())


@pytest.mark.parametrize("text", ["0", "257", "-1", "many", "1.5", ""])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="neither auto nor a number from 1 to 256"):
        workers(text)


def test_several_workers_share_the_cores_and_never_take_more_than_was_set() -> None:
    settings = load_settings(flags={"model": {"threads": None}})
    assert share_cores(settings, 1) is settings, "one takes what the machine has"
    assert share_cores(settings, 2).model.threads == scan_threads(2)
    assert share_cores(settings, 300).model.threads == 1
    one = load_settings(flags={"model": {"threads": 1}})
    assert share_cores(one, 2).model.threads == 1
