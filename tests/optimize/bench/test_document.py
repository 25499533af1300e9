from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from optimize.bench.document import Chart, Document, Figure, Started, history_rows, read_document
from optimize.bench.machine import Machine
from optimize.bench.ratio import Ratio
from worker.errors import ConfigError

MACHINE = Machine(cpu="Fast|CPU", cores=2, load_average=(0.25, 0, 0), commit="abc", veriframe="0.1.0")


def a_document() -> Document:
    return Document(
        bench="scan",
        command="veriframe bench scan DIR",
        at="2026-11-28T01:02:03+00:00",
        machine=MACHINE,
        figures=(
            Figure.of("ours: times as fast", Ratio(value=8.123, low=7.5, high=9), note="all faces"),
            Figure(name="tensorrt", value=None, unit="crops/s", note="no GPU"),
            Figure(name="rate", value=12345.6, unit="a second"),
        ),
        charts=(Chart(title="t", kind="lines", x="x", y="y", series={"ours": [(1, 2.0), (2, 4.0)]}),),
        details={"runs": [1, 2]},
    )


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    a_document().write(tmp_path / "scan.json")
    assert read_document(tmp_path / "scan.json") == a_document()


def test_history_has_a_row_for_each_figure_with_machine_date_commit_and_command() -> None:
    start = "| 2026-11-28 | abc | Fast\\|CPU, 2 cores, load 0.25 | `veriframe bench scan DIR` | "
    assert history_rows([a_document()]) == [
        start + "ours: times as fast | 8.12 [7.5, 9] x (all faces) |",
        start + "tensorrt | unmeasured: no GPU |",
        start + "rate | 12,346 a second |",
    ]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"figures": [{"speed": 1}]}'])
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "other.json").write_text(content)
    with pytest.raises(ConfigError, match=r"other\.json"):
        read_document(tmp_path / "other.json")


@pytest.mark.parametrize(
    ("key", "value"), [("at", 5), ("machine", None), ("machine", {}), ("figures", [{"name": "a", "value": "fast", "unit": "x"}])]
)
def test_damaged_figures_are_refused(tmp_path: Path, key: str, value: object) -> None:
    (tmp_path / "other.json").write_text(json.dumps(a_document().as_json() | {key: value}))
    with pytest.raises(ConfigError, match=rf"other\.json: not figures of veriframe bench: {key}"):
        read_document(tmp_path / "other.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [("cpu", None), ("cores", "2"), ("gpu", ["a"]), ("load_average", 0.5), ("load_average", []), ("commit", 5)],
)
def test_a_damaged_field_of_the_machine_is_refused_by_its_name(tmp_path: Path, key: str, value: object) -> None:
    told = a_document().as_json()
    told["machine"][key] = value
    (tmp_path / "other.json").write_text(json.dumps(told))
    with pytest.raises(ConfigError, match=rf"other\.json: not figures of veriframe bench: machine\.{key}"):
        read_document(tmp_path / "other.json")


def test_a_machine_of_which_less_is_told_is_read(tmp_path: Path) -> None:
    told = a_document().as_json() | {"machine": {"cpu": "CPU", "cores": 2, "veriframe": "0.1.0", "disks": 1}}
    (tmp_path / "old.json").write_text(json.dumps(told))
    assert "| 0.1.0 | CPU, 2 cores |" in history_rows([read_document(tmp_path / "old.json")])[0]


def test_a_ratio_that_does_not_exist_is_not_measured() -> None:
    assert Figure.of("x", Ratio(value=math.nan, low=math.nan, high=math.nan)).value is None


def test_a_run_names_its_machine() -> None:
    machine = Started("scan", "veriframe bench scan").document([]).machine
    assert machine.cpu
    assert machine.cores >= 1
    assert "numpy" in machine.versions
    assert machine.load_average


def test_what_is_no_finite_number_is_unmeasured_and_the_rest_is_kept(tmp_path: Path) -> None:
    chart = Chart(title="t", kind="lines", x="x", y="y", series={"ours": [(1, 2.0), (2, math.inf)]})
    figures = [Figure(name="largest |dp|", value=math.nan, unit="", note="mean nan"), Figure(name="speed", value=2.0, unit="x")]
    path = tmp_path / "run.json"
    Started("classify", "veriframe bench classify").document(figures, [chart]).write(path)
    read = read_document(path)
    assert [str(figure) for figure in read.figures] == ["unmeasured: no finite number", "2 x"]
    assert read.charts[0].series == {"ours": [(1, 2.0)]}
