"""Every expression can be parsed, and names only series that there are."""

from __future__ import annotations

import pytest

from tests.deploy.monitoring.expressions import (
    ALL_METRICS,
    PROMETHEUS_OWN,
    Expression,
    all_expressions,
    of_rules,
    rules,
    series_of,
)

KNOWN = {name for metric in ALL_METRICS for name in series_of(metric)}
RECORDED = {rule["record"] for rule in rules("record")}


@pytest.mark.parametrize("expression", all_expressions(), ids=lambda one: one.place)
def test_it_parses_and_names_what_there_is(expression: Expression) -> None:
    named = expression.metrics
    assert named <= KNOWN | RECORDED | PROMETHEUS_OWN or expression.text.startswith("vector(")
    assert named or expression.text.startswith("vector(")


def test_what_is_no_promql_and_what_there_is_not_are_noticed() -> None:
    with pytest.raises(ValueError, match="invalid promql"):
        _ = Expression(place="", text="sum by (le (rate(x[5m])))").metrics
    assert Expression(place="", text="rate(a_total[5m]) / on (x) b:c:d > bool 1").metrics == {"a_total", "b:c:d"}


def test_every_metric_is_shown_or_alerted_on() -> None:
    """One that nobody looks at is one too many."""
    named = {name for expression in all_expressions() for name in expression.metrics}
    assert [metric.name for metric in ALL_METRICS if named.isdisjoint(series_of(metric))] == []


def test_every_recorded_series_is_used() -> None:
    assert sorted(RECORDED - {name for expression in all_expressions() for name in expression.metrics}) == []


def test_no_rule_reads_itself() -> None:
    assert [one.place for one in of_rules() if one.place in one.metrics] == []
