"""Who may speak to whom in the cluster, worked out from the network policies as a network plugin does."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from tests.deploy.manifests import FLAVOURS, containers, of_kind, pod_labels, selects
from worker.settings import Settings
from worker.source import guard

COMPONENTS = ("api", "worker", "courier", "egress")
REDIS, STORE, DNS = "192.0.2.10/32:6380", "192.0.2.20/32:443", "kube-system/kube-dns:53"
PUBLIC = ("public IPv4", "public IPv6")


def labels_of(flavour: str, component: str) -> dict[str, str]:
    name = "worker-batch" if component == "worker" else component
    return pod_labels(of_kind(flavour, "Deployment")[name])


def peers(rule: dict[str, Any], side: str) -> set[str]:
    """Each peer with each port, in words."""
    ports = [f":{port['port']}" for port in rule.get("ports", [])] or [":any"]
    assert all(port["protocol"] in ("TCP", "UDP") for port in rule.get("ports", []))
    return {_told(peer) + port for peer in rule[side] for port in ports}


def _told(peer: dict[str, Any]) -> str:
    if "ipBlock" in peer:
        if not peer["ipBlock"].get("except"):
            return str(peer["ipBlock"]["cidr"])
        wide = ip_network(peer["ipBlock"]["cidr"])
        closed = guard._CLOSED_4 if wide.version == 4 else guard._CLOSED_6
        assert {ip_network(text) for text in peer["ipBlock"]["except"]} == set(closed), "what the address guard refuses"
        assert wide == (ip_network("0.0.0.0/0") if wide.version == 4 else guard._OPEN_6)
        return f"public IPv{wide.version}"
    space = peer.get("namespaceSelector", {}).get("matchLabels", {}).get("kubernetes.io/metadata.name")
    chosen = peer.get("podSelector", {}).get("matchLabels", {})
    who = chosen.get("app.kubernetes.io/component") or chosen.get("k8s-app")
    return "/".join(part for part in (space, who) if part)


def allowed(flavour: str, component: str, side: str) -> set[str]:
    """What the policies that choose such a pod allow together; a pod that none chooses could do anything."""
    kind = {"to": "Egress", "from": "Ingress"}[side]
    policies = [
        policy["spec"]
        for policy in of_kind(flavour, "NetworkPolicy").values()
        if kind in policy["spec"]["policyTypes"] and selects(policy["spec"]["podSelector"], labels_of(flavour, component))
    ]
    assert policies, "closed unless something opens it"
    return {peer for policy in policies for rule in policy.get(kind.lower(), []) for peer in peers(rule, side)}


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_workers_reach_redis_names_the_store_and_the_proxy(flavour: str) -> None:
    assert allowed(flavour, "worker", "to") == {REDIS, STORE, DNS, "egress:3128"}
    assert allowed(flavour, "worker", "from") == {"monitoring:8080", "monitoring:9464"}


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_api_reaches_redis_names_and_the_store(flavour: str) -> None:
    assert allowed(flavour, "api", "to") == {REDIS, STORE, DNS}
    assert allowed(flavour, "api", "from") == {"ingress-nginx:8080", "monitoring:8080", "monitoring:9464"}


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_only_the_proxy_and_the_courier_reach_the_outside_and_nothing_private(flavour: str) -> None:
    ports = Settings().source.ports
    assert allowed(flavour, "egress", "to") == {DNS, *(f"{public}:{port}" for public in PUBLIC for port in ports)}
    assert allowed(flavour, "egress", "from") == {"worker:3128"}
    assert allowed(flavour, "courier", "to") == {DNS, REDIS, *(f"{public}:any" for public in PUBLIC)}
    assert allowed(flavour, "courier", "from") == {"monitoring:8080", "monitoring:9464"}


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_policies_choose_pods_that_exist_and_ports_that_they_have(flavour: str) -> None:
    deployments = of_kind(flavour, "Deployment").values()
    for name, policy in of_kind(flavour, "NetworkPolicy").items():
        assert any(selects(policy["spec"]["podSelector"], pod_labels(found)) for found in deployments), name
        for rule in policy["spec"].get("ingress", []):
            listening = {
                port["containerPort"]
                for found in deployments
                if selects(policy["spec"]["podSelector"], pod_labels(found))
                for container in containers(found)
                for port in container.get("ports", [])
            }
            assert {port["port"] for port in rule["ports"]} <= listening, name
    data = of_kind(flavour, "ConfigMap")["veriframe-settings"]["data"]
    assert data["VERIFRAME_REDIS__URL"].rpartition("/")[0].endswith(REDIS.rpartition(":")[2])
