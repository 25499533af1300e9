"""Every PromQL expression of the project, with the place where it stands, and the names of the metrics in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser
import yaml

from tests.deploy.monitoring.tools import ROOT
from worker.telemetry.catalogue import OF_A_GPU, OF_A_WORKER, OF_THE_API, Metric

RULES = sorted((ROOT / "deploy" / "prometheus" / "rules").glob("*.yaml"))
DASHBOARDS = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
MANIFESTS = sorted((ROOT / "deploy" / "k8s").rglob("*.yaml"))
ALL_METRICS = (*OF_THE_API, *OF_A_WORKER, *OF_A_GPU)
PROMETHEUS_OWN = frozenset({"up", "ALERTS"})
RATE_INTERVAL = "$__rate_interval"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """``text`` is as Prometheus is asked: Grafana's interval is filled in."""

    place: str
    text: str

    @property
    def metrics(self) -> set[str]:
        """Names of the series that it selects. Raises ValueError where it cannot be parsed."""
        found: set[str] = set()

        def note(node: Any) -> bool:
            if isinstance(node, promql_parser.VectorSelector) and node.name:
                found.add(node.name)
            return True

        promql_parser.walk(promql_parser.parse(self.text), note)
        return found


def rules(kind: str) -> list[dict[str, Any]]:
    """All rules of a kind: ``alert`` or ``record``."""
    groups = (group for path in RULES for group in yaml.safe_load(path.read_text())["groups"])
    return [rule for group in groups for rule in group["rules"] if kind in rule]


def of_rules() -> Iterator[Expression]:
    for kind in ("record", "alert"):
        for rule in rules(kind):
            yield Expression(place=rule[kind], text=rule["expr"])


def panels(board: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Those that show something: not the titles of rows."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def of_dashboards(interval: str = "1m") -> Iterator[Expression]:
    for path in DASHBOARDS:
        board = json.loads(path.read_text())
        for annotation in board["annotations"]["list"]:
            yield Expression(place=f"{path.name}, annotations", text=annotation["expr"])
        for panel in panels(board):
            for target in panel["targets"]:
                text = target["expr"].replace(RATE_INTERVAL, interval)
                yield Expression(place=f"{path.name}, {panel['title']}", text=text)


def of_scalers() -> Iterator[Expression]:
    """KEDA's triggers that ask Prometheus."""
    for path in MANIFESTS:
        for document in filter(None, yaml.safe_load_all(path.read_text())):
            for trigger in document.get("spec", {}).get("triggers", ()) if document.get("kind") == "ScaledObject" else ():
                if trigger["type"] == "prometheus":
                    yield Expression(place=f"{_place(path)}, {document['metadata']['name']}", text=trigger["metadata"]["query"])


def all_expressions(interval: str = "1m") -> list[Expression]:
    return [*of_rules(), *of_dashboards(interval), *of_scalers()]


def series_of(metric: Metric) -> set[str]:
    """The names under which Prometheus stores it."""
    if metric.kind == "histogram":
        return {metric.name + suffix for suffix in ("_bucket", "_sum", "_count")}
    return {metric.name}


def _place(path: Path) -> str:
    return str(path.relative_to(ROOT))
