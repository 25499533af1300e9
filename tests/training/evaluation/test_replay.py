"""A verdict made anew from a report counts what that scan did not see."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from training.evaluation.replay import replay
from worker.report import Report
from worker.types import Label, Verdict
from worker.verdict.decide import Policy


@pytest.mark.parametrize(
    ("unseen", "label"),
    [
        ({}, Label.REAL),
        ({"undecodable_s": 0.9}, Label.REAL),
        ({"undecodable_s": 1.1}, Label.UNCERTAIN),
        ({"max_gap_s": 11.0}, Label.UNCERTAIN),
        ({"crowded": True}, Label.UNCERTAIN),
    ],
)
def test_what_was_not_seen_takes_real_away_again(report: Callable[..., Report], unseen: dict[str, float], label: Label) -> None:
    """Of four seconds. What versions before did not tell is not in the report."""
    made = report(Path("a.mp4"), [-4.0] * 32).model_dump(mode="json", exclude_unset=True)
    made["sampling"] |= unseen
    found = replay(Report.model_validate(made), Policy())
    assert isinstance(found, Verdict)
    assert found.label is label
