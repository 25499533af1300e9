"""The scenario's copies of the rules are the rules: only times and thresholds differ."""

from __future__ import annotations

from typing import Any

import pytest

from tests.deploy.monitoring.expressions import rules
from tests.deploy.monitoring.scaled import OBJECTIVES, WINDOW, scaled


@pytest.mark.parametrize("rule", [*rules("record"), *rules("alert")], ids=lambda rule: rule.get("alert") or rule["record"])
def test_nothing_else_is_changed(rule: dict[str, Any]) -> None:
    changed = scaled(rule)
    if not rule.get("record", "").startswith("veriframe:objective:"):
        assert WINDOW.sub("", changed["expr"]) == WINDOW.sub("", rule["expr"])
    apart = ("expr", "for")
    assert {key: value for key, value in changed.items() if key not in apart} == {k: v for k, v in rule.items() if k not in apart}
    assert ("for" in changed) == ("for" in rule)


def test_windows_and_objectives_are_replaced() -> None:
    rule = {"record": "a:b:c", "expr": "rate(a_total[5m]) / sum_over_time(b[7d] offset 6h)"}
    assert scaled(rule)["expr"] == "rate(a_total[5s]) / sum_over_time(b[10m] offset 6s)"
    assert scaled({"record": "veriframe:objective:backlog", "expr": "vector(100000)"})["expr"] == "vector(5)"
    with pytest.raises(KeyError):
        scaled({"record": "a:b:c", "expr": "rate(a_total[3h])"})


def test_no_objective_is_made_up() -> None:
    named = {rule["record"].removeprefix("veriframe:objective:") for rule in rules("record") if ":objective:" in rule["record"]}
    assert named == set(OBJECTIVES)
