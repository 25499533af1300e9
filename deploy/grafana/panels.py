"""Grafana's JSON for our dashboards: panels in rows of 24 columns, placed from left to right.

https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

SCHEMA_VERSION = 39
COLUMNS = 24
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLOURS = {
    "{{verdict}}": {"fake": "red", "real": "green", "uncertain": "orange", "not_applicable": "blue"},
    "{{status}}": {"completed": "green", "failed": "red", "cancelled": "blue"},
    "{{state}}": {"ready": "green", "starting": "orange"},
    "{{outcome}}": {"delivered": "green", "retry": "orange", "dead": "red"},
    "objective": {"objective": "dark-red"},
}
"""By legend: what is seen on several panels has one colour on all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """``legend`` names a series by its labels: ``{{queue}}``."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """``kind``: timeseries, stat, table or heatmap. ``unit``: Grafana's name of it (s, bytes, percentunit, short, cps ...).

    ``bad_above`` and ``bad_below`` colour a stat red.
    """

    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    stack: bool = False
    bad_above: float | None = None
    bad_below: float | None = None
    hidden_columns: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """``rows``: title and panels."""

    uid: str
    title: str
    description: str
    rows: Sequence[tuple[str, Sequence[Panel]]]


def chart(title: str, description: str, unit: str, *queries: tuple[str, str], **more: Any) -> Panel:
    """A panel of lines; queries are pairs of expression and legend."""
    told = tuple(Query(expr=expr, legend=legend) for expr, legend in queries)
    return Panel(title=title, description=description, unit=unit, queries=told, **more)


def stat(title: str, description: str, unit: str, expr: str, **more: Any) -> Panel:
    """One number."""
    told: dict[str, Any] = {"kind": "stat", "width": 4, "height": 4} | more
    return Panel(title=title, description=description, unit=unit, queries=(Query(expr=expr),), **told)


def table(title: str, description: str, expr: str, **more: Any) -> Panel:
    """The labels of what there is now."""
    told: dict[str, Any] = {"kind": "table", "width": 12} | more
    return Panel(title=title, description=description, unit="short", queries=(Query(expr=expr),), **told)


def heatmap(title: str, description: str, expr: str, **more: Any) -> Panel:
    """A histogram over time; ``expr`` keeps the label ``le``."""
    query = Query(expr=expr, legend="{{le}}")
    told: dict[str, Any] = {"kind": "heatmap", "width": 12} | more
    return Panel(title=title, description=description, unit="short", queries=(query,), **told)


def board_json(board: Board) -> dict[str, Any]:
    return {
        "uid": board.uid,
        "title": board.title,
        "description": board.description,
        "tags": ["veriframe"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_datasource()]},
        "annotations": {"list": [_alerts()]},
        "links": [{"type": "dashboards", "title": "veriframe", "tags": ["veriframe"], "asDropdown": True, "keepTime": True}],
        "panels": list(_placed(board.rows)),
    }


def _datasource() -> dict[str, Any]:
    return {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus", "hide": 0, "refresh": 1}


def _alerts() -> dict[str, Any]:
    return {
        "name": "Alerts",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": "red",
        "expr": 'ALERTS{alertname=~"Veriframe.+", alertstate="firing"}',
        "titleFormat": "{{alertname}}",
        "step": "60s",
    }


def _placed(rows: Sequence[tuple[str, Sequence[Panel]]]) -> Iterator[dict[str, Any]]:
    number, y = 0, 0
    for title, panels in rows:
        number += 1
        row = {"id": number, "type": "row", "title": title, "collapsed": False, "panels": []}
        yield {**row, "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1}}
        y, x, tallest = y + 1, 0, 0
        for panel in panels:
            if x + panel.width > COLUMNS:
                y, x, tallest = y + tallest, 0, 0
            number += 1
            place = {"x": x, "y": y, "w": panel.width, "h": panel.height}
            yield {"id": number, **_panel(panel), "gridPos": place}
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest


def _panel(panel: Panel) -> dict[str, Any]:
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "targets": [_target(panel, query, "ABCDEFGH"[n]) for n, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": _colours(panel)},
        "options": _options(panel),
        **({"transformations": _columns(panel)} if panel.kind == "table" else {}),
    }


def _target(panel: Panel, query: Query, name: str) -> dict[str, Any]:
    shape = {"heatmap": "heatmap", "table": "table"}.get(panel.kind, "time_series")
    is_instant = panel.kind in ("table", "stat")
    told = {"refId": name, "datasource": SOURCE, "expr": query.expr, "legendFormat": query.legend or "__auto"}
    return {**told, "format": shape, "instant": is_instant, "range": not is_instant}


def _defaults(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.bad_above is not None:
        steps.append({"color": "red", "value": panel.bad_above})
    if panel.bad_below is not None:
        steps = [{"color": "red", "value": None}, {"color": "green", "value": panel.bad_below}]
    told: dict[str, Any] = {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.kind == "timeseries":
        stacking = {"mode": "normal" if panel.stack else "none", "group": "A"}
        told["min"] = 0
        told["custom"] = {"fillOpacity": 30 if panel.stack else 5, "lineWidth": 1, "showPoints": "never", "stacking": stacking}
    return told


def _colours(panel: Panel) -> list[dict[str, Any]]:
    return [
        {
            "matcher": {"id": "byName", "options": name},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
        }
        for query in panel.queries
        for name, colour in COLOURS.get(query.legend, {}).items()
    ]


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "stat":
        return {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "colorMode": "background"}
    if panel.kind == "heatmap":
        return {"calculate": False, "yAxis": {"axisPlacement": "left"}, "color": {"mode": "scheme", "scheme": "Blues"}}
    if panel.kind == "table":
        return {"showHeader": True, "cellHeight": "sm"}
    return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}


def _columns(panel: Panel) -> list[dict[str, Any]]:
    hidden = ("Time", "Value", *panel.hidden_columns)
    return [{"id": "organize", "options": {"excludeByName": dict.fromkeys(hidden, True)}}]
