"""How a study's numbers are told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.training.test_leave_out import score
from training.configuration import read_configuration
from training.leave_out_report import write_report
from training.settings import Study

CONFIGS = Path(__file__).parents[2] / "configs" / "train"


def test_a_fold_whose_fakes_are_of_a_few_people_has_no_interval(tmp_path: Path) -> None:
    """However many files: each draw holds the same few again."""
    folds = {
        name: [
            *(score(f"{name}-real-{n}", "real", 0.0) for n in range(20)),
            *(score(f"{name}-fake-{n}", "fake", n % 2 - 0.5, group=f"{name}-{n // 2 % people}") for n in range(20)),
        ]
        for name, people in (("few", 4), ("many", 5))
    }
    study = read_configuration([CONFIGS / "leave-out.yaml"])
    assert isinstance(study, Study)
    study = study.model_copy(update={"folds": {name: (name,) for name in folds}, "threshold": 0.0})
    report = write_report(study, folds, tmp_path, draws=20).read_text("utf-8")
    assert "| few | few | all | 20 | 20 | 0.500 |" in report
    assert "| many | many | all | 20 | 20 | 0.500 (0." in report
    found = json.loads((tmp_path / "report.json").read_text("utf-8"), parse_constant=pytest.fail)
    assert [part["auc"]["low"] is None for part in found["parts"]] == [True, False]
    assert [fold["balanced_accuracy"]["high"] is None for fold in found["decisions"]] == [True, False]
    assert found["mean_auc"]["low"] is not None
