"""Our rules for an hour's worth of trouble in a minute: the same expressions, with shorter times and lower thresholds.

What is changed, and nothing else: every ``for``; every window in square brackets and every ``offset``, by ``WINDOWS``; the
numbers of ``objectives.yaml``, by ``OBJECTIVES``. A duration or an objective without an entry is an error, so that a new one is
thought about.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.monitoring.expressions import RULES

FOR = "1s"
WINDOWS = {"1m": "2s", "2m": "2s", "5m": "5s", "15m": "6s", "30m": "6s", "1h": "6s", "6h": "6s", "7d": "10m"}
OBJECTIVES = {
    "queue_age_seconds": 1.0,
    "backlog": 5.0,
    "standstill_seconds": 1.0,
    "scan_seconds": 0.05,
    "failure_ratio": 0.2,
    "internal_failure_ratio": 0.01,
    "internal_failures": 0.0,
    "least_samples": 1.0,
    "child_restarts": 0.0,
    "process_restarts": 0.0,
    "leases_expired": 0.0,
    "scans_left": 0.0,
    "reconciler_silence_seconds": 3.0,
    "callback_delay_seconds": 0.3,
    "callbacks_owed": 1.0,
    "callback_due_seconds": 1.0,
    "http_error_ratio": 0.01,
    "http_request_seconds": 0.1,
    "score_drift": 0.15,
    "least_scores": 1.0,
}
WINDOW = re.compile(r"(?<=\[)\d+[smhd](?=\])|(?<=offset )\d+[smhd]")
OBJECTIVE = re.compile(r"veriframe:objective:(\w+)")


def scaled(rule: dict[str, Any]) -> dict[str, Any]:
    """A rule as the scenario evaluates it."""
    changed = {**rule, "expr": WINDOW.sub(lambda found: WINDOWS[found[0]], rule["expr"])}
    if "for" in rule:
        changed["for"] = FOR
    named = OBJECTIVE.fullmatch(rule.get("record", ""))
    if named is not None:
        changed["expr"] = f"vector({OBJECTIVES[named[1]]:g})"
    return changed


def write_scaled(folder: Path) -> None:
    """Copies of all rules files."""
    folder.mkdir(parents=True)
    for path in RULES:
        groups = yaml.safe_load(path.read_text())["groups"]
        changed = [{**group, "rules": [scaled(rule) for rule in group["rules"]]} for group in groups]
        (folder / path.name).write_text(yaml.safe_dump({"groups": changed}, sort_keys=False, width=1000))
