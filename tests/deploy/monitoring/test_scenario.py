"""The whole of monitoring on the running service: every metric moves, every alert fires and clears, every panel shows something.

Rules are ``scaled``; all else is as an operator has it: Redis, API, a worker with the real scanner, its courier, Prometheus.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.deploy.monitoring.expressions import ALL_METRICS, all_expressions, of_dashboards, of_scalers, rules, series_of
from tests.deploy.monitoring.prometheus import FIRING, Prometheus
from tests.deploy.monitoring.props import Answer, answering
from tests.deploy.monitoring.stand import standing
from tests.deploy.monitoring.tools import tool
from tests.deploy.monitoring.trouble import play

ALERTS = {rule["alert"] for rule in rules("alert")}


@pytest.mark.timeout(600)
def test_every_metric_moves_and_every_alert_fires_and_clears(tmp_path: Path) -> None:
    program = tool("prometheus")
    with answering(Answer(500)) as receiver, standing(program, tmp_path, receiver) as stand:
        began_s = time.time()
        play(stand)
        ended_s = time.time()
        prometheus = stand.prometheus
        assert {one.labels["alertname"] for one in prometheus.ask_range(FIRING, began_s, ended_s)} == ALERTS
        assert silent_metrics(prometheus, began_s, ended_s) == []
        assert silent_places(prometheus, began_s, ended_s) == []


def silent_metrics(prometheus: Prometheus, began_s: float, ended_s: float) -> list[str]:
    """Metrics named in a dashboard, rule or scaler that never were anything but 0."""
    named = {name for expression in all_expressions() for name in expression.metrics}
    wanted = sorted(name for metric in ALL_METRICS for name in series_of(metric) if name in named)
    return [
        name for name in wanted if not any(value for one in prometheus.ask_range(name, began_s, ended_s) for value in one.values)
    ]


def silent_places(prometheus: Prometheus, began_s: float, ended_s: float) -> list[str]:
    """Panels and scalers whose expressions never gave anything."""
    asked = (*of_dashboards("5s"), *of_scalers())
    return [one.place for one in asked if not prometheus.ask_range(one.text, began_s, ended_s)]
