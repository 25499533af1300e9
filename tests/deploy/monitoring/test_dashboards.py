"""Dashboards as Grafana will take them: there is no Grafana here, so their structure is checked."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana.__main__ import written
from deploy.grafana.panels import COLUMNS
from tests.deploy.monitoring.expressions import DASHBOARDS, panels
from tests.deploy.monitoring.tools import ROOT

GRAFANA = ROOT / "deploy" / "grafana"
UNITS = {"short", "s", "bytes", "percentunit", "cps", "reqps"}
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
each_board = pytest.mark.parametrize(
    "board", [json.loads(path.read_text()) for path in DASHBOARDS], ids=[p.stem for p in DASHBOARDS]
)


def test_the_files_are_what_the_generator_writes() -> None:
    """``python -m deploy.grafana`` writes them anew."""
    assert {path.name: path.read_text() for path in DASHBOARDS} == written()


def test_uids_and_titles_are_unique() -> None:
    boards = [json.loads(path.read_text()) for path in DASHBOARDS]
    assert [board["uid"] for board in boards] == [path.stem for path in DASHBOARDS]
    assert len({board["title"] for board in boards}) == len(boards) == 6


@each_board
def test_a_board_asks_the_data_source_that_is_chosen(board: dict[str, Any]) -> None:
    (variable,) = board["templating"]["list"]
    assert (variable["type"], variable["name"], variable["query"]) == ("datasource", "datasource", "prometheus")
    asked = [one["datasource"] for panel in panels(board) for one in (panel, *panel["targets"])]
    asked += [annotation["datasource"] for annotation in board["annotations"]["list"]]
    assert all(source == SOURCE for source in asked)


@each_board
def test_a_panel_says_what_it_shows_and_in_which_unit(board: dict[str, Any]) -> None:
    assert board["description"]
    for panel in panels(board):
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        assert panel["type"] in ("timeseries", "stat", "table", "heatmap")
        names = [target["refId"] for target in panel["targets"]]
        assert len(set(names)) == len(names) >= 1
        if panel["type"] == "timeseries":
            assert all(target["legendFormat"] != "__auto" for target in panel["targets"]), panel["title"]


@each_board
def test_panels_have_ids_and_room_of_their_own(board: dict[str, Any]) -> None:
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    places = [panel["gridPos"] for panel in board["panels"]]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= COLUMNS for place in places)
    for one, other in combinations(places, 2):
        assert not overlap(one, other), f"{one} and {other}"


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return (
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )


def test_overlap_is_noticed() -> None:
    one = {"x": 0, "y": 0, "w": 8, "h": 8}
    assert overlap(one, {"x": 7, "y": 7, "w": 8, "h": 8})
    assert not overlap(one, {"x": 8, "y": 0, "w": 8, "h": 8})
    assert not overlap(one, {"x": 0, "y": 8, "w": 8, "h": 8})


def test_panels_of_whole_scans_show_no_single_stage() -> None:
    board = json.loads((GRAFANA / "dashboards" / "veriframe-workers.json").read_text())
    asked = [target["expr"] for panel in panels(board) if panel["title"] == "Whole scans" for target in panel["targets"]]
    assert len(asked) == 4
    assert all('veriframe_stage_seconds_bucket{stage="total"}' in expr for expr in asked)


def test_provisioning_names_one_prometheus_and_the_folder_of_the_dashboards() -> None:
    sources = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yaml").read_text())
    (source,) = sources["datasources"]
    assert (sources["apiVersion"], source["type"], source["isDefault"]) == (1, "prometheus", True)
    (provider,) = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "veriframe.yaml").read_text())["providers"]
    mounted = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]["grafana"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in mounted["volumes"]
    assert source["url"].strip("${}") in mounted["environment"]


def test_compose_mounts_prometheus_files_where_they_are_looked_for() -> None:
    service = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]["prometheus"]
    (named,) = [part.partition("=")[2] for part in service["command"] if part.startswith("--config.file=")]
    assert "./prometheus:/etc/prometheus:ro" in service["volumes"]
    assert (ROOT / "deploy" / "prometheus" / Path(named).relative_to("/etc/prometheus")).is_file()
