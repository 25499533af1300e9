"""deploy/compose.yaml: valid, closed, and all that it names is there: commands, settings, files, ports, targets."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError

from tests.deploy.commands import parsed, settings_of
from tests.deploy.dockerfile import ROOT, chain, environment, last, read_stages
from tests.worker.queue.receivers import soon
from worker.queue.embedded import server_binary
from worker.queue.server import server_problems

DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] in ("veriframe:cpu", "veriframe:cuda")}
STAGES = read_stages()
UNITS = {"s": 1, "m": 60, "h": 3600}


class _Whole(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def seconds(text: str) -> int:
    return sum(int(number) * UNITS[unit] for number, unit in re.findall(r"(\d+)([smh])", text))


def environment_of(service: dict[str, Any]) -> dict[str, str]:
    """Of the image, and over it what compose gives."""
    own = environment(chain(STAGES, service["build"]["target"]))
    return own | {name: str(value) for name, value in service.get("environment", {}).items()}


def test_it_is_valid_and_has_no_unknown_key() -> None:
    whole = yaml.dump(COMPOSE, Dumper=_Whole, sort_keys=False)  # this reader of the specification knows no merges
    PyCompose.from_yaml(whole)
    with pytest.raises(ValueError, match="readonly"):
        PyCompose.from_yaml(whole.replace("services:\n", "services:\n  other: {image: x, readonly: true}\n"))


@pytest.mark.parametrize("name", OURS)
def test_commands_and_settings_are_real(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    service = OURS[name]
    command = parsed(service["command"])
    assert command.name in ("serve", "worker", "courier", "export")
    given = environment_of(service)
    settings = settings_of({key: value for key, value in given.items() if key.startswith("VERIFRAME_")}, monkeypatch)
    assert settings.redis.url == "redis://redis:6379/0"
    assert settings.source.proxy == "http://egress:3128"
    if command.name == "worker":
        assert settings.queue.grace_s >= settings.queue.timeout_s, "a scan under way may end"
        assert seconds(service["stop_grace_period"]) > settings.queue.grace_s + 10, "the supervisor's own patience"
        assert command.given["courier"] is False
    if command.name != "export":
        assert str(command.given["config"]) == f"/run/secrets/{service['secrets'][0]}"
    port = settings.api.port if command.name == "serve" else settings.telemetry.port
    if "disable" not in service.get("healthcheck", {}):
        probe = service.get("healthcheck", {}).get("test") or last(chain(STAGES, service["build"]["target"]), "HEALTHCHECK").words
        assert probe[-1].rstrip('"]') == f"http://127.0.0.1:{port}/livez"


def test_every_queue_has_a_worker() -> None:
    served: set[str] = set()
    for service in OURS.values():
        if service["command"][0] == "worker":
            served |= {str(queue) for queue in parsed(service["command"]).given["queue"]}
    assert served == {"live", "batch", "low", "watch"}


@pytest.mark.parametrize("name", SERVICES)
def test_services_are_closed(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert {"cpus", "memory", "pids"} <= service["deploy"]["resources"]["limits"].keys()
    assert service["logging"]["options"]["max-size"]
    assert "privileged" not in service
    assert not any("docker.sock" in str(volume) for volume in service.get("volumes", []))
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    tag = service["image"].partition(":")[2]
    assert "build" in service or re.match(r"v?\d+\.\d+\.\d+", tag), service["image"]


@pytest.mark.parametrize("name", OURS)
def test_ours_run_under_the_profile_and_write_to_volumes_alone(name: str) -> None:
    service = OURS[name]
    profile = next(option.partition("=")[2] for option in service["security_opt"] if option.startswith("seccomp="))
    assert (DEPLOY / profile).is_file()
    mounted = {entry.split(":")[1] for entry in service.get("volumes", [])}
    mounted |= {entry.partition(":")[0] for entry in service.get("tmpfs", [])}
    assert mounted == set(last(chain(STAGES, service["build"]["target"]), "VOLUME").words)


def test_files_targets_and_names_exist() -> None:
    for service in SERVICES.values():
        if "build" in service:
            assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
            assert service["build"]["target"] in STAGES
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (DEPLOY / source).is_dir() if source.startswith(".") else source in COMPOSE["volumes"], source
        assert set(service.get("secrets", [])) <= COMPOSE["secrets"].keys()
        assert set(service["networks"]) <= COMPOSE["networks"].keys()
        assert set(service.get("depends_on", {})) <= SERVICES.keys()


def test_only_proxy_and_courier_reach_the_outside() -> None:
    assert COMPOSE["networks"]["inside"]["internal"] is True
    assert {name for name, service in SERVICES.items() if "outside" in service["networks"]} == {"egress", "courier"}
    masquerade = COMPOSE["networks"]["front"]["driver_opts"]["com.docker.network.bridge.enable_ip_masquerade"]
    assert masquerade == "false"


def test_dashboards_reach_prometheus_and_nothing_inside() -> None:
    assert {name for name, service in SERVICES.items() if "inside" not in service["networks"]} == {"grafana"}
    assert set(SERVICES["grafana"]["networks"]) & set(SERVICES["prometheus"]["networks"])


def test_prometheus_and_grafana_find_what_they_read() -> None:
    config = next(word for word in SERVICES["prometheus"]["command"] if word.startswith("--config.file="))
    path = DEPLOY / "prometheus" / Path(config.partition("=")[2]).name
    scraped: dict[str, int] = {}
    for job in yaml.safe_load(path.read_text())["scrape_configs"]:
        for found in job.get("dns_sd_configs", []):
            scraped |= dict.fromkeys(found["names"], found["port"])
        for found in job.get("static_configs", []):
            scraped |= {target.partition(":")[0]: int(target.partition(":")[2]) for target in found["targets"]}
    assert {name: scraped.get(name) for name in OURS if name != "engines"} == {
        name: 8080 if name == "api" else 9464 for name in OURS if name != "engines"
    }
    assert SERVICES["grafana"]["environment"]["PROMETHEUS_URL"] == "http://prometheus:9090"
    provider = yaml.safe_load((DEPLOY / "grafana" / "provisioning" / "dashboards" / "veriframe.yaml").read_text())
    mounts = dict(reversed(volume.split(":")[:2]) for volume in SERVICES["grafana"]["volumes"])
    assert mounts[provider["providers"][0]["options"]["path"]] == "./grafana/dashboards"


def test_the_runbook_makes_writable_what_it_adds_a_line_to(tmp_path: Path) -> None:
    subprocess.run([DEPLOY / "make-secrets", tmp_path], capture_output=True, timeout=60, check=True)
    made = tmp_path / "redis.acl"
    assert made.stat().st_mode & 0o777 == 0o444
    told = (DEPLOY.parent / "docs" / "runbook.md").read_text("utf-8").partition("add a line for an administrator")[0]
    (command,) = re.findall(r"`(chmod [^`]+)`", told)
    subprocess.run(command.replace("deploy/secrets", str(tmp_path)).split(), timeout=60, check=True)
    assert made.stat().st_mode & 0o777 == 0o644


def test_redis_starts_as_compose_says_and_lets_in_whom_the_secrets_name(tmp_path: Path) -> None:
    """The very command line, but for folders and port, with what deploy/make-secrets made."""
    secrets = tmp_path / "secrets"
    told = subprocess.run([DEPLOY / "make-secrets", secrets], capture_output=True, text=True, timeout=60, check=True).stdout
    login = yaml.safe_load((secrets / "veriframe.yaml").read_text())["redis"]
    assert login["password"] not in told
    assert {Path(secret["file"]).name for secret in COMPOSE["secrets"].values()} == {path.name for path in secrets.iterdir()}
    assert secrets.stat().st_mode & 0o777 == 0o700
    before = (secrets / "redis.acl").read_bytes()
    subprocess.run([DEPLOY / "make-secrets", secrets], capture_output=True, timeout=60, check=True)
    assert (secrets / "redis.acl").read_bytes() == before
    for lost in ("redis.acl", "veriframe.yaml"):
        (secrets / lost).unlink()
        subprocess.run([DEPLOY / "make-secrets", secrets], capture_output=True, timeout=60, check=True)
        assert yaml.safe_load((secrets / "veriframe.yaml").read_text())["redis"] == login
        assert (secrets / "redis.acl").read_bytes() == before

    with serving(secrets, tmp_path) as door, Redis(unix_socket_path=str(door), **login) as client:
        assert client.set("vf:x", "1")
        assert server_problems(client, "vf") == ()
        for refused in (client.flushall, client.save, client.bgsave, client.lastsave, lambda: client.set("other", "1")):
            with pytest.raises(NoPermissionError):
                refused()
        with Redis(unix_socket_path=str(door)) as stranger, pytest.raises(AuthenticationError):
            stranger.ping()


def test_what_the_runbook_tells_of_compose_can_be_done_with_its_redis(tmp_path: Path) -> None:
    """Its AOF is copied while it is stopped, and put back; the password is another one when both files were removed."""
    secrets, data = tmp_path / "secrets", tmp_path / "data"
    data.mkdir()
    passwords = []
    for stored, copied in (("1", True), ("2", False), (None, False)):
        for secret in ("redis.acl", "veriframe.yaml"):
            (secrets / secret).unlink(missing_ok=True)
        subprocess.run([DEPLOY / "make-secrets", secrets], capture_output=True, timeout=60, check=True)
        login = yaml.safe_load((secrets / "veriframe.yaml").read_text())["redis"]
        passwords.append(login["password"])
        if stored is None:
            shutil.rmtree(data / "appendonlydir")
            subprocess.run(["tar", "-C", data, "-xf", tmp_path / "redis.tar"], timeout=60, check=True)
        with serving(secrets, data) as door, Redis(unix_socket_path=str(door), **login) as client:
            if stored is None:
                assert client.get("vf:x") == b"1"
            else:
                assert client.set("vf:x", stored)
        if copied:
            subprocess.run(["tar", "-C", data, "-cf", tmp_path / "redis.tar", "appendonlydir"], timeout=60, check=True)
    assert len(set(passwords)) == 3


@contextlib.contextmanager
def serving(secrets: Path, data: Path) -> Iterator[Path]:
    """Compose's Redis, and the socket that it answers on; stopped at the end as compose stops it."""
    program, *words = SERVICES["redis"]["command"]
    assert program == "valkey-server"
    assert words[words.index("--aclfile") + 1] == f"/run/secrets/{SERVICES['redis']['secrets'][0]}"
    words[words.index("--aclfile") + 1] = str(secrets / "redis.acl")
    words[words.index("--dir") + 1] = str(data)
    door = data / "redis.sock"
    command = [server_binary(), *words, "--port", "0", "--unixsocket", door]
    with (data / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            soon(door.exists)
            yield door
        finally:
            server.terminate()
            server.wait(30)
