"""The report of an adaptation, for people."""

from __future__ import annotations

from datetime import UTC, datetime

from training.adaptation.gate import judge
from training.adaptation.report import markdown
from training.adaptation.results import Adapted, Case, Tried
from training.adaptation.settings import Adaptation
from worker.model.spec import TrainingData


def test_a_bar_in_a_name_opens_no_cell() -> None:
    feedback = [Case(path="a|b.png", label="real", source="mine|yours", group="g", before=2.0, after=-2.0)]
    old = [
        Case(path=f"{label}{n}", label=label, source="s", group=f"{n}", before=logit, after=logit)
        for label, logit in (("real", -1.0), ("fake", 1.0))
        for n in range(2)
    ]
    found = Adapted(
        created=datetime(2026, 1, 1, tzinfo=UTC),
        name="tiny",
        version="1",
        parent_version="1",
        parent_sha256="0" * 64,
        sha256=None,
        settings=Adaptation(),
        feedback_files=1,
        feedback_skipped={},
        regression_sha256="0" * 64,
        regression_files=4,
        regression_crops=4,
        is_other_split=False,
        training=TrainingData(sources=()),
        tried=(Tried(share=1.0, refusals=()),),
        gate=judge(old, feedback, draws=10),
    )
    (line,) = (line for line in markdown(found) if "a\\|b.png" in line)
    assert line.startswith("| a\\|b.png | mine\\|yours | real |")
