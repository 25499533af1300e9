"""Judging scores: known answers, intervals over groups, and the table's round trip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.evaluate import Scored, judge, markdown, read_scores, table, write_scores
from worker.errors import ConfigError


def scored(label: str, logit: float, group: str, verdict: str = "", **other: str) -> Scored:
    values = {"source": "ffpp", "split": "heldout", "manipulation": "deepfakes" if label == "fake" else ""} | other
    return Scored(path=f"{group}/{label}/{logit}", label=label, group=group, logit=logit, verdict=verdict, **values)


def test_decisions_count_only_where_something_was_decided() -> None:
    row = judge(
        "x",
        [
            scored("fake", 2, "a", "fake"),
            scored("fake", 1, "b", "uncertain"),
            scored("real", -1, "a", "real"),
            scored("real", 3, "b", "fake"),
        ],
        draws=10,
    )
    assert (row.real, row.fake, row.groups) == (2, 2, 2)
    assert row.coverage == 0.75
    assert row.balanced_accuracy == 0.75
    assert row.auc == 0.5


def test_scores_without_verdicts_have_no_coverage() -> None:
    row = judge("x", [scored("fake", 2, "a"), scored("real", 1, "b")], draws=10)
    assert np.isnan(row.coverage)
    assert row.auc == 1


def test_table_has_lines_by_source_and_manipulation_and_survives_a_round_trip(tmp_path: Path) -> None:
    scores = [
        scored("real", 0.0, "a"),
        scored("fake", 1.0, "a"),
        scored("fake", 2.0, "b", manipulation="faceswap"),
        scored("real", -1.0, "c", source="talking", split="leftout"),
    ]
    write_scores(scores, tmp_path / "scores.csv")
    assert read_scores(tmp_path / "scores.csv") == scores
    rows = table(scores, draws=10)
    assert [row.name for row in rows] == ["heldout ffpp", "heldout ffpp/deepfakes", "heldout ffpp/faceswap", "leftout talking"]
    assert "| leftout talking | 1 | 0 | 1 | - | 0.000 | - | - |" in markdown(rows)


def test_another_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError, match=r"other\.csv"):
        read_scores(path)
