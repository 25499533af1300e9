"""Waiting time is what passed while somebody waited, and not while the whole process stood still."""

from __future__ import annotations

from worker.patience import Patience


def test_each_look_costs_the_time_since_the_one_before() -> None:
    patience = Patience(3.0, clock=iter([10.0, 10.5, 12.0, 13.0]).__next__)
    assert [patience.spend() for _ in range(3)] == [2.5, 1.0, 0.0]


def test_time_stopped_costs_little_however_long_it_was() -> None:
    patience = Patience(10.0, most_s=4.0, clock=iter([0.0, 3600.0, 3601.0]).__next__)
    assert [patience.spend() for _ in range(2)] == [6.0, 5.0]


def test_time_that_nobody_waited_costs_nothing() -> None:
    patience = Patience(3.0, clock=iter([0.0, 1.0, 50.0, 50.5]).__next__)
    patience.spend()
    patience.resume()
    assert patience.spend() == 1.5
