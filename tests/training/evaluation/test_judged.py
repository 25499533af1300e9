"""What the scans said of the cases, in a table."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

from training.evaluation.judged import Judged, write_csv


def test_no_cell_of_the_table_is_a_formula_to_a_spreadsheet(judged: Callable[..., Judged], tmp_path: Path) -> None:
    write_csv([judged("fake", -2.0, "=1+2|cmd.jpg", group="@group", source="+one", age="-1")], tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert (row["path"], row["group"], row["source"]) == ("'=1+2|cmd.jpg", "'@group", "'+one")
    assert row["age"] == row["age_band"] == "'-1"
    assert float(row["logit"]) == -2, "numbers stay numbers"
