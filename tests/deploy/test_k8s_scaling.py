"""The ScaledObjects: valid for KEDA, about deployments and metrics that exist, and in step with how many processes a pod has."""

from __future__ import annotations

import math
import re
from typing import Any

import promql_parser
import pytest
from cloudcoil.models.keda.v1alpha1 import ScaledObject

from tests.deploy.commands import parsed
from tests.deploy.manifests import FLAVOURS, QUEUES, containers, of_kind
from worker.telemetry import catalogue

each_scaler = pytest.mark.parametrize(("flavour", "queue"), [(flavour, queue) for flavour in FLAVOURS for queue in QUEUES])


def scaler(flavour: str, queue: str) -> dict[str, Any]:
    return dict(of_kind(flavour, "ScaledObject")[f"worker-{queue}"])


def test_keda_knows_every_key() -> None:
    for flavour in FLAVOURS:
        for queue in QUEUES:
            given = scaler(flavour, queue)
            kept = ScaledObject.model_validate(given).model_dump(by_alias=True, exclude_unset=True, mode="json")
            assert {"apiVersion": given["apiVersion"], "kind": given["kind"], **kept} == given, "what it does not know it drops"


def triggers(flavour: str, queue: str) -> dict[str, dict[str, str]]:
    found = scaler(flavour, queue)["spec"]["triggers"]
    assert all((trigger["type"], trigger["metricType"]) == ("prometheus", "AverageValue") for trigger in found)
    return {trigger["name"]: trigger["metadata"] for trigger in found}


@each_scaler
def test_it_asks_for_metrics_that_exist(flavour: str, queue: str) -> None:
    known = {metric.name for metric in catalogue.OF_THE_API}
    for metadata in triggers(flavour, queue).values():
        promql_parser.parse(metadata["query"])
        named = re.findall(r"veriframe_\w+", metadata["query"])
        assert named
        assert set(named) <= known
        assert set(re.findall(r'queue="(\w+)"', metadata["query"])) == {queue}
        assert metadata["ignoreNullValues"] == "false", "a missing metric is no empty queue"
    assert set(re.findall(r"scans_\w+", triggers(flavour, queue)["backlog"]["query"])) == {"scans_due", "scans_running"}


@each_scaler
def test_it_holds_as_many_pods_as_running_scans_need(flavour: str, queue: str) -> None:
    deployment = of_kind(flavour, "Deployment")[scaler(flavour, queue)["spec"]["scaleTargetRef"]["name"]]
    assert "replicas" not in deployment["spec"], "applying the deployment would undo the scaling"
    processes = parsed(containers(deployment)[-1]["args"]).given["processes"]
    thresholds = {name: float(metadata["threshold"]) for name, metadata in triggers(flavour, queue).items()}
    assert thresholds["running"] == processes
    assert thresholds["backlog"] >= processes

    def pods(due: int, running: int) -> int:
        return max(math.ceil((due + running) / thresholds["backlog"]), math.ceil(running / thresholds["running"]))

    assert pods(due=0, running=7 * processes) == 7
    assert pods(due=0, running=0) == 0
    assert pods(due=1, running=0) == 1


@each_scaler
def test_live_has_always_a_pod_and_the_others_may_have_none(flavour: str, queue: str) -> None:
    spec = scaler(flavour, queue)["spec"]
    assert spec["minReplicaCount"] == (1 if queue == "live" else 0)
    assert spec["minReplicaCount"] < spec["fallback"]["replicas"] <= spec["maxReplicaCount"]
