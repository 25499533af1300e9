"""The manifests of deploy/k8s: valid, and all that they name is there: commands, settings, references, ports."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy.commands import parsed, settings_of
from tests.deploy.dockerfile import chain, environment, last, read_stages
from tests.deploy.manifests import (
    FLAVOURS,
    FOLDER,
    LOADER,
    QUEUES,
    Resource,
    containers,
    examples,
    key,
    of_kind,
    pod,
    pod_labels,
    resources,
    selects,
)
from tests.deploy.test_compose import SERVICES
from worker.settings import Settings

STAGES = read_stages()
NEWEST, *OLDER = ("1.37", "1.36", "1.35")
DEPLOYMENTS = [(flavour, name) for flavour in FLAVOURS for name in of_kind(flavour, "Deployment")]
each_deployment = pytest.mark.parametrize(("flavour", "name"), DEPLOYMENTS)


def native(flavour: str) -> list[Resource]:
    return [resource for resource in resources(flavour) if not resource["apiVersion"].startswith("keda.sh/")]


def one_of_each_kind() -> list[Resource]:
    return list({resource["kind"]: resource for resource in native("gpu")}.values())


@pytest.mark.parametrize("version", [NEWEST, *OLDER])
def test_manifests_are_valid(version: str) -> None:
    """Unknown keys are errors. Older versions see one resource of each kind: others of a kind have the same keys."""
    assert kubernetes_validate.validate(native("cpu")[0], version, strict=True) == version
    every = {json.dumps(resource): resource for flavour in FLAVOURS for resource in native(flavour)}
    for resource in every.values() if version == NEWEST else one_of_each_kind():
        kubernetes_validate.validate(resource, version, strict=True)
    for resource in examples():
        kubernetes_validate.validate(resource, version, strict=True)
    broken = copy.deepcopy(of_kind("cpu", "Deployment")["api"])
    broken["spec"]["template"]["spec"]["containers"][0]["readinessProb"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, version, strict=True)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_file_is_applied_once_and_kubectl_gives_them_as_they_are(flavour: str) -> None:
    for folder in (FOLDER / flavour, FOLDER / "shared"):
        named = set(yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]) - {"../shared"}
        assert named == {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}
    names = [key(resource) for resource in resources(flavour)]
    assert len(names) == len(set(names))
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed; the rest of these tests reads the files itself")
    done = subprocess.run(["kubectl", "kustomize", FOLDER / flavour], capture_output=True, text=True, timeout=100, check=True)
    given = {key(resource): resource for resource in yaml.load_all(done.stdout, LOADER)}
    assert given == {key(resource): resource for resource in resources(flavour)}


@each_deployment
def test_commands_and_settings_are_real(flavour: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    deployment = of_kind(flavour, "Deployment")[name]
    for container in containers(deployment):
        repository, _, tag = container["image"].rpartition(":")
        target = repository.rpartition("/")[2]
        labels = last(chain(STAGES, target), "LABEL").rest
        assert f'image.version="{tag}"' in labels
        if target == "egress":
            assert "args" not in container
            continue
        command = parsed(container["args"])
        settings = settings_of(environment_of(flavour, target, container), monkeypatch)
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
        if command.name == "export":
            assert container["name"] == "engines"
            assert settings.model.cache_dir is not None
            assert "/var/cache/veriframe" in {mount["mountPath"] for mount in container["volumeMounts"]}
            continue
        assert command.name == {"api": "serve", "courier": "courier"}.get(name, "worker")
        assert ports == ({"http": settings.api.port} if name == "api" else {"metrics": settings.telemetry.port})
        if command.name == "worker":
            check_worker(command.given, settings, pod(deployment)["terminationGracePeriodSeconds"], name)


def check_worker(given: Any, settings: Settings, period_s: float, name: str) -> None:
    assert [f"worker-{queue}" for queue in given["queue"]] == [name]
    assert given["courier"] is False
    assert settings.queue.grace_s >= settings.queue.timeout_s, "a scan under way may end"
    assert period_s > settings.queue.grace_s + 10, "the supervisor's own patience"
    assert period_s > settings.queue.timeout_s + Settings().queue.grace_s
    assert settings.source.proxy == "http://egress.veriframe.svc:3128"


def environment_of(flavour: str, target: str, container: dict[str, Any]) -> dict[str, str]:
    """VERIFRAME_* of the image, the config map and the container; what a secret holds is some word."""
    given = dict(environment(chain(STAGES, target)))
    for source in container.get("envFrom", []):
        if "configMapRef" in source:
            given |= of_kind(flavour, "ConfigMap")[source["configMapRef"]["name"]]["data"]
    given |= {variable["name"]: variable.get("value", "word") for variable in container.get("env", [])}
    return {name: value for name, value in given.items() if name.startswith("VERIFRAME_")}


@each_deployment
def test_references_resolve(flavour: str, name: str) -> None:
    deployment = of_kind(flavour, "Deployment")[name]
    secrets = {found["metadata"]["name"]: found["stringData"] for found in examples() if found["kind"] == "Secret"}
    spec = pod(deployment)
    assert spec["serviceAccountName"] in of_kind(flavour, "ServiceAccount")
    for volume in spec["volumes"]:
        assert "emptyDir" in volume or volume["persistentVolumeClaim"]["claimName"] in of_kind(flavour, "PersistentVolumeClaim")
    for container in containers(deployment):
        assert {mount["name"] for mount in container["volumeMounts"]} <= {volume["name"] for volume in spec["volumes"]}
        for source in container.get("envFrom", []):
            if "secretRef" in source:
                assert source["secretRef"]["name"] in secrets
        for variable in container.get("env", []):
            if "valueFrom" in variable:
                reference = variable["valueFrom"]["secretKeyRef"]
                assert reference["key"] in secrets[reference["name"]]
        named = {port["name"] for port in container.get("ports", [])}
        for probe in ("livenessProbe", "readinessProbe"):
            for how in ("httpGet", "tcpSocket"):
                assert container.get(probe, {}).get(how, {}).get("port") in {None, *named}
    assert selects(deployment["spec"]["selector"], pod_labels(deployment))
    for constraint in spec["topologySpreadConstraints"]:
        assert selects(constraint["labelSelector"], pod_labels(deployment))


@each_deployment
def test_pods_are_closed(flavour: str, name: str) -> None:
    deployment = of_kind(flavour, "Deployment")[name]
    spec = pod(deployment)
    assert spec["automountServiceAccountToken"] is False
    own = spec["securityContext"]
    assert own["runAsNonRoot"] is True
    assert f"{own['runAsUser']}:{own['runAsGroup']}" == last(chain(STAGES, "egress" if name == "egress" else "cpu"), "USER").rest
    assert own["fsGroup"] == own["runAsGroup"]
    profile = own["seccompProfile"]
    assert profile["type"] == ("RuntimeDefault" if name == "egress" else "Localhost")
    if name != "egress":
        json.loads((FOLDER.parent / "seccomp" / profile["localhostProfile"].removeprefix("profiles/")).read_text())
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    for container in containers(deployment):
        context = container["securityContext"]
        assert context == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
        assert {"cpu", "memory", "ephemeral-storage"} <= container["resources"]["requests"].keys()
        assert {"cpu", "memory", "ephemeral-storage"} <= container["resources"]["limits"].keys()
        if container["name"] != "engines":
            assert "livenessProbe" in container
        if name != "egress":
            writable = {mount["mountPath"] for mount in container["volumeMounts"]}
            assert writable <= set(last(chain(STAGES, "cpu"), "VOLUME").words)
            assert "/var/tmp/veriframe" in writable
    assert of_kind(flavour, "Namespace")["veriframe"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def size_bytes(text: str) -> int:
    """A size as Kubernetes or compose writes it."""
    return int(text.rstrip("GMgmi")) << {"g": 30, "m": 20}[text.rstrip("i")[-1].lower()]


@each_deployment
def test_what_may_lie_on_a_pods_volumes_is_below_its_limit(flavour: str, name: str) -> None:
    """Above it the pod is evicted, and its logs count as well: a volume that is full must leave room for them."""
    deployment = of_kind(flavour, "Deployment")[name]
    held = sum(size_bytes(volume["emptyDir"]["sizeLimit"]) for volume in pod(deployment)["volumes"] if "emptyDir" in volume)
    assert all(held < size_bytes(one["resources"]["limits"]["ephemeral-storage"]) for one in containers(deployment))


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_two_uploads_lie_beside_one_another_as_in_compose(flavour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On their way to the store of artefacts."""
    api = pod(of_kind(flavour, "Deployment")["api"])
    (scratch,) = (size_bytes(volume["emptyDir"]["sizeLimit"]) for volume in api["volumes"])
    settings = settings_of(environment_of(flavour, "cpu", api["containers"][0]), monkeypatch)
    assert scratch >= 2 * settings.api.max_upload_bytes
    (tmpfs,) = (entry for entry in SERVICES["api"]["tmpfs"] if entry.startswith("/var/tmp/veriframe:"))
    assert scratch == size_bytes(tmpfs.partition("size=")[2].partition(",")[0])


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_each_deployment_has_a_budget_and_services_lead_to_pods(flavour: str) -> None:
    deployments = of_kind(flavour, "Deployment")
    budgets = of_kind(flavour, "PodDisruptionBudget")
    assert budgets.keys() == deployments.keys() == {"api", "courier", "egress", *(f"worker-{queue}" for queue in QUEUES)}
    for name, budget in budgets.items():
        chosen = [other for other, found in deployments.items() if selects(budget["spec"]["selector"], pod_labels(found))]
        assert chosen == [name]
        if "minAvailable" in budget["spec"]:
            assert deployments[name]["spec"]["replicas"] > budget["spec"]["minAvailable"], "a node could never be drained"
    for name, service in of_kind(flavour, "Service").items():
        chosen = [
            found for found in deployments.values() if selects({"matchLabels": service["spec"]["selector"]}, pod_labels(found))
        ]
        assert [found["metadata"]["name"] for found in chosen] == [name]
        ports = {port["name"] for port in containers(chosen[0])[0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
        spread = of_kind(flavour, "Deployment")[name]
        assert spread["spec"]["replicas"] >= 2


def test_cards_are_asked_for_where_they_are_used() -> None:
    wanted = {"cpu": set(), "gpu": {"nvidia.com/gpu"}, "mig": {"nvidia.com/mig-1g.10gb"}}
    for flavour in FLAVOURS:
        for queue in QUEUES:
            deployment = of_kind(flavour, "Deployment")[f"worker-{queue}"]
            for container in containers(deployment):
                cards = {name for name in container["resources"]["limits"] if name.startswith("nvidia.com/")}
                assert cards == wanted[flavour]
                assert all(container["resources"][part][name] == 1 for part in ("limits", "requests") for name in cards)
            engines = [container for container in containers(deployment) if container["name"] == "engines"]
            assert len(engines) == (0 if flavour == "cpu" else 1)
            for container in engines:
                given = parsed(container["args"]).given
                assert (given["to"], given["out"]) == ("tensorrt", None), "kept in the cache, by key"
                main = pod(deployment)["containers"][0]
                assert given["to"] in {variable.get("value") for variable in main["env"]}
                assert container["image"] == main["image"], "an engine is for the version of the library that built it"


def test_flavours_and_priorities_differ_only_in_what_they_are_about() -> None:
    """Twelve files that are nearly one: what is changed in one is to be changed in all."""

    def common(flavour: str, queue: str) -> str:
        deployment = copy.deepcopy(of_kind(flavour, "Deployment")[f"worker-{queue}"])
        spec = pod(deployment)
        for part in ("initContainers", "nodeSelector", "tolerations"):
            spec.pop(part, None)
        main = spec["containers"][0]
        main["resources"] = main["image"] = main["args"][4] = None
        spec["volumes"] = [volume["name"] for volume in spec["volumes"]]
        del deployment["spec"]["strategy"]
        for variable in main["env"]:
            if variable["name"].startswith("VERIFRAME_MODEL__"):
                variable["value"] = None
        deployment["spec"]["template"]["spec"] = spec
        return json.dumps(deployment, sort_keys=True).replace(f'"{queue}"', '"QUEUE"').replace(f"worker-{queue}", "worker-QUEUE")

    assert len({common(flavour, queue) for flavour in FLAVOURS for queue in QUEUES}) == 1
    for flavour in FLAVOURS:
        alike = {json.dumps(pod(of_kind(flavour, "Deployment")[f"worker-{queue}"]).get("initContainers")) for queue in QUEUES}
        assert len(alike) == 1


def test_examples_hold_no_secret_and_the_ingress_leads_to_the_api() -> None:
    for resource in examples():
        if resource["kind"] == "Secret":
            assert set(resource["stringData"].values()) == {""}
        elif resource["kind"] == "Ingress":
            service = of_kind("cpu", "Service")["api"]
            rules = [path for rule in resource["spec"]["rules"] for path in rule["http"]["paths"]]
            assert all(path["backend"]["service"]["name"] == "api" for path in rules)
            assert {path["backend"]["service"]["port"]["name"] for path in rules} == {service["spec"]["ports"][0]["name"]}
            assert not any("/metrics".startswith(path["path"]) or "/readyz".startswith(path["path"]) for path in rules)
