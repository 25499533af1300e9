"""The clock that a watch goes by."""

from __future__ import annotations

import time

import pytest

from worker.watch.build import clock_from


def test_a_clock_goes_on_from_its_moment_whatever_the_machines_own_is_set_to(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = clock_from(1000.0)
    first = clock()
    monkeypatch.setattr(time, "time", lambda: 5e9)
    assert 1000 <= first <= clock() < 4e9
