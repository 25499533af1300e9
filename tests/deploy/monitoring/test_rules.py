"""Recording and alert rules: promtool's own tests, what every alert says, and that each of them is tested and documented."""

from __future__ import annotations

import os
import re
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.monitoring.expressions import MANIFESTS, RULES, Expression, rules
from tests.deploy.monitoring.tools import ROOT, tool

FOLDER = ROOT / "deploy" / "prometheus"
TESTS = sorted((FOLDER / "tests").glob("*.yaml"))
CONFIGS = sorted(FOLDER.glob("*.yaml"))
ALERTS = {rule["alert"]: rule for rule in rules("alert")}
MINUTES = {"h": 60, "m": 1}


def promtool(*arguments: str) -> str:
    """Short-lived: it may leave more garbage than is its way (``GOGC``), which takes a quarter less processor time."""
    command, environment = [tool("promtool"), *arguments], {**os.environ, "GOGC": "400"}
    done = subprocess.run(command, cwd=FOLDER, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_promtool_accepts_each_configuration_and_its_rules(path: Path, tmp_path: Path) -> None:
    """Discovery in Kubernetes is not built into every promtool: it is left out of what is checked."""
    config = yaml.safe_load(path.read_text())
    for job in config["scrape_configs"]:
        job.pop("kubernetes_sd_configs", None)
    config["rule_files"] = [str(FOLDER / pattern) for pattern in config["rule_files"]]
    copy = tmp_path / path.name
    copy.write_text(yaml.safe_dump(config))
    told = promtool("check", "config", str(copy))
    assert all(file.name in told for file in RULES)


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_rules_say_what_they_should_of_series_that_are_made_up(path: Path) -> None:
    promtool("test", "rules", f"tests/{path.name}")


def test_a_rule_that_is_wrong_fails_its_test(tmp_path: Path) -> None:
    """promtool is asked the right question."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "rules").mkdir()
    for file in RULES:
        (tmp_path / "rules" / file.name).write_text(
            file.read_text().replace("max(veriframe_redis_up) or", "1 + max(veriframe_redis_up) or")
        )
    copy = tmp_path / "tests" / "queue.yaml"
    copy.write_text((FOLDER / "tests" / "queue.yaml").read_text())
    done = subprocess.run([tool("promtool"), "test", "rules", str(copy)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "VeriframeRedisDown" in done.stderr


@pytest.mark.parametrize("alert", ALERTS.values(), ids=ALERTS)
def test_an_alert_says_what_is_the_matter_and_where_to_read_on(alert: dict[str, Any]) -> None:
    assert set(alert) <= {"alert", "expr", "for", "labels", "annotations"}
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    assert anchor == alert["alert"].lower()
    assert f"### {alert['alert']}\n" in (ROOT / page).read_text("utf-8")


def test_every_documented_alert_is_there_once() -> None:
    headings = re.findall(r"^### (.+)$", (ROOT / "docs" / "alerts.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(headings) == sorted(ALERTS)
    assert len(ALERTS) == len(rules("alert"))


def minutes(text: str) -> int:
    return int(text[:-1]) * MINUTES[text[-1]]


def test_every_alert_fires_and_clears_in_a_test() -> None:
    fires: dict[str, int] = {}
    clears: dict[str, int] = defaultdict(int)
    for path in TESTS:
        for test in yaml.safe_load(path.read_text())["tests"]:
            for asked in test.get("alert_rule_test", ()):
                at = minutes(asked["eval_time"])
                if asked["exp_alerts"]:
                    fires.setdefault(asked["alertname"], at)
                elif asked["alertname"] in fires:
                    clears[asked["alertname"]] = max(at, clears[asked["alertname"]])
    assert set(fires) == set(ALERTS)
    assert [name for name in ALERTS if clears[name] <= fires[name]] == []


def test_every_recorded_series_has_its_value_in_a_test() -> None:
    asked = {
        name
        for path in TESTS
        for test in yaml.safe_load(path.read_text())["tests"]
        for one in test.get("promql_expr_test", ())
        for name in Expression(place=path.name, text=one["expr"]).metrics
    }
    assert sorted({rule["record"] for rule in rules("record")} - asked) == []


def test_without_containers_each_command_that_is_named_has_its_job() -> None:
    """A courier of its own is optional: its job is there to be uncommented."""
    text = (FOLDER / "prometheus-static.yaml").read_text()
    named = re.findall(r"`veriframe (\w+)`", text.partition("global:")[0])
    config = yaml.safe_load(re.sub(r"^  # (- job_name: |  )", r"  \1", text, flags=re.MULTILINE))
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    assert set(targets) - {"prometheus"} == {f"veriframe-{'api' if command == 'serve' else command}" for command in named}
    assert len({address for addresses in targets.values() for address in addresses}) == len(targets)


@pytest.mark.parametrize("phase", ["Pending", "Running", "Succeeded", "Failed", "Unknown"])
def test_a_pod_is_asked_from_when_its_containers_run_until_they_have_ended(phase: str) -> None:
    (job,) = yaml.safe_load((FOLDER / "prometheus-kubernetes.yaml").read_text())["scrape_configs"]
    (left_out,) = [one for one in job["relabel_configs"] if one["source_labels"] == ["__meta_kubernetes_pod_phase"]]
    assert left_out["action"] == "drop"
    assert bool(re.fullmatch(left_out["regex"], phase)) == (phase not in ("Running", "Unknown"))


def test_pods_are_found_by_the_labels_and_ports_of_the_manifests() -> None:
    (job,) = yaml.safe_load((FOLDER / "prometheus-kubernetes.yaml").read_text())["scrape_configs"]
    (discovery,) = job["kubernetes_sd_configs"]
    kept = {one["source_labels"][0]: one["regex"] for one in job["relabel_configs"] if one.get("action") == "keep"}
    found = set()
    documents = (one for path in MANIFESTS for one in filter(None, yaml.safe_load_all(path.read_text())))
    for pod in (one for one in documents if one["kind"] == "Deployment"):
        labels = pod["spec"]["template"]["metadata"]["labels"]
        ports = [port["name"] for one in pod["spec"]["template"]["spec"]["containers"] for port in one.get("ports", ())]
        assert pod["metadata"]["namespace"] in discovery["namespaces"]["names"]
        assert labels["app.kubernetes.io/name"] == kept["__meta_kubernetes_pod_label_app_kubernetes_io_name"]
        scraped = [port for port in ports if re.fullmatch(kept["__meta_kubernetes_pod_container_port_name"], port)]
        found |= {labels["app.kubernetes.io/component"]} if scraped else set()
    assert found == {"api", "worker", "courier"}
