"""Reads deploy/k8s as ``kubectl kustomize`` does: every resource of a folder, whole, since no kustomization changes any."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.dockerfile import ROOT

FOLDER = ROOT / "deploy" / "k8s"
FLAVOURS = ("cpu", "gpu", "mig")
QUEUES = ("live", "batch", "low", "watch")
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The same in C where libyaml is there: ten times as fast."""
Resource = dict[str, Any]


@cache
def resources(flavour: str) -> tuple[Resource, ...]:
    return tuple(_read(FOLDER / flavour))


def _read(folder: Path) -> Iterator[Resource]:
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert kustomization.keys() == {"apiVersion", "kind", "resources"}, "nothing is patched"
    for name in kustomization["resources"]:
        if (folder / name).is_dir():
            yield from _read(folder / name)
        else:
            yield from _documents(folder / name)


@cache
def _documents(path: Path) -> tuple[Resource, ...]:
    return tuple(yaml.load_all(path.read_text(), LOADER))


def examples() -> list[Resource]:
    return [resource for path in sorted((FOLDER / "examples").glob("*.yaml")) for resource in _documents(path)]


def key(resource: Resource) -> str:
    return f"{resource['kind']}/{resource['metadata']['name']}"


def of_kind(flavour: str, kind: str) -> dict[str, Resource]:
    return {found["metadata"]["name"]: found for found in resources(flavour) if found["kind"] == kind}


def pod(deployment: Resource) -> dict[str, Any]:
    return dict(deployment["spec"]["template"]["spec"])


def pod_labels(deployment: Resource) -> dict[str, str]:
    return dict(deployment["spec"]["template"]["metadata"]["labels"])


def containers(deployment: Resource) -> list[dict[str, Any]]:
    return [*pod(deployment).get("initContainers", []), *pod(deployment)["containers"]]


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """A label selector, as far as these manifests use the language."""
    assert selector.keys() <= {"matchLabels", "matchExpressions"}
    assert all(rule["operator"] == "In" for rule in selector.get("matchExpressions", []))
    return all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items()) and all(
        labels.get(rule["key"]) in rule["values"] for rule in selector.get("matchExpressions", [])
    )
