"""The images, judged without a container engine: what deploy/Dockerfile says, and that all it names is there."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.commands import parsed, settings_of
from tests.deploy.dockerfile import ROOT, chain, environment, in_context, last, read_stages

STAGES = read_stages()
OURS = ("cpu", "cuda")
TARGETS = (*OURS, "egress")
LOCKS = ROOT / "deploy" / "locks"
OTHER_VERSIONS = {"python-dateutil"}
"""What deploy/locks/store.in says about it."""


def locked(path: Path) -> dict[str, set[str]]:
    versions: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", path.read_text(), re.MULTILINE):
        versions.setdefault(name, set()).add(version)
    return versions


def test_hadolint_finds_nothing() -> None:
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([program, ROOT / "deploy" / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("", 0)


def test_every_copied_file_is_in_the_context_or_in_a_stage_before() -> None:
    for stage in STAGES.values():
        for step in (step for step in stage.steps if step.name == "COPY"):
            *sources, _ = step.words
            if "from" in step.flags:
                assert list(STAGES).index(step.flags["from"]) < list(STAGES).index(stage.name)
                continue
            for source in sources:
                assert (ROOT / source).exists(), source
                assert in_context(source), f".dockerignore hides {source}"


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("worker/cli.py", True),
        ("worker/model/weights/veriframe-b0-v4.onnx", True),
        ("deploy/locks/cpu.lock", True),
        ("deploy/locks/cpu.in", False),
        ("worker/__pycache__/cli.cpython-311.pyc", False),
        ("worker/console/assets/htmx.min.js", False),
        ("deploy/secrets/veriframe.yaml", False),
        ("tests/conftest.py", False),
        (".git/config", False),
    ],
)
def test_the_context_holds_the_sources_and_no_secret(path: str, seen: bool) -> None:
    assert in_context(path) is seen


def test_bases_are_pinned_by_version() -> None:
    for stage in STAGES.values():
        assert stage.base in STAGES or re.fullmatch(r"[a-z/]+:\d+\.\d+[a-z0-9.-]*", stage.base), stage.base
    assert {STAGES[name].base for name in ("tools", "runtime", "egress")} == {STAGES["tools"].base}, "one Python for both"


@pytest.mark.parametrize("target", TARGETS)
def test_images_run_as_a_user_and_end_by_sigterm(target: str) -> None:
    steps = chain(STAGES, target)
    user, group = (int(number) for number in last(steps, "USER").rest.split(":"))
    assert user > 0
    assert group > 0
    assert last(steps, "STOPSIGNAL").rest == "SIGTERM"
    assert last(steps, "ENTRYPOINT").rest.startswith("["), "a shell would keep the signal to itself"
    assert last(steps, "HEALTHCHECK").rest.startswith("CMD [")


@pytest.mark.parametrize("target", TARGETS)
def test_images_hold_no_pip_and_no_compiler(target: str) -> None:
    """Each begins with the distribution alone, and installs these packages of it; the environment is made without pip."""
    installed = {word for step in chain(STAGES, target) if step.name == "RUN" for word in _packages(step.rest)}
    assert installed == ({"squid"} if target == "egress" else {"ca-certificates", "python3", "tini"})
    assert "venv --without-pip /opt/veriframe" in STAGES["service"].steps[-1].rest


def _packages(script: str) -> list[str]:
    found = re.findall(r"apt-get install -y --no-install-recommends ([a-z0-9 -]+?) +&&", script)
    return " ".join(found).split()


@pytest.mark.parametrize("target", OURS)
def test_what_is_installed_is_installed_by_hash(target: str) -> None:
    """All but our own wheel, and TensorRT, whose libraries no lock can hold."""
    by_name: list[str] = []
    for step in [*chain(STAGES, f"{target}-packages"), *STAGES["wheel"].steps]:
        for command in re.split("&&", step.rest):
            words = command.split()
            if "install" in words and "pip" in words and "--require-hashes" not in words:
                by_name += [word for word in words[words.index("install") + 1 :] if not word.startswith("-")]
    pin = next(text for text in _project()["optional-dependencies"]["gpu"] if text.startswith("tensorrt=="))
    assert by_name == {"cpu": ["/dist/*.whl"], "cuda": [pin.split(";")[0], "/dist/*.whl"]}[target]


def test_tensorrt_is_pinned_to_a_release() -> None:
    """Its releases have four parts, as 11.1.0.106, and ``==11.1.0`` matches none of them."""
    (pin,) = (text.split(";")[0] for text in _project()["optional-dependencies"]["gpu"] if text.startswith("tensorrt="))
    (also,) = (word for step in STAGES["cuda-packages"].steps for word in step.rest.split() if word.startswith("tensorrt="))
    assert re.fullmatch(r"tensorrt==\d+\.\d+\.\d+\.\d+", pin)
    assert also == pin


@pytest.mark.parametrize("target", OURS)
def test_the_default_command_and_the_settings_are_real(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = chain(STAGES, target)
    assert last(steps, "ENTRYPOINT").words == ["tini", "--", "veriframe"]
    assert parsed(last(steps, "CMD").words).name == "worker"
    given = environment(steps)
    settings = settings_of({name: value for name, value in given.items() if name.startswith("VERIFRAME_")}, monkeypatch)
    assert settings.api.host == settings.telemetry.host == "0.0.0.0"
    assert last(steps, "HEALTHCHECK").rest == f'CMD ["healthy", "http://127.0.0.1:{settings.telemetry.port}/livez"]'
    assert settings.telemetry.port in {int(port) for port in last(steps, "EXPOSE").words}
    assert settings.api.port in {int(port) for port in last(steps, "EXPOSE").words}
    volumes = {Path(volume) for volume in last(steps, "VOLUME").words}
    assert {settings.model.cache_dir, settings.source.temp_dir, Path(given["TMPDIR"]), Path(given["HOME"])} <= volumes


def test_labels_say_the_version() -> None:
    for target in TARGETS:
        assert f'org.opencontainers.image.version="{_project()["version"]}"' in last(chain(STAGES, target), "LABEL").rest


@pytest.mark.parametrize("name", ["store", "cpu", "cuda"])
def test_additions_go_with_the_lock_they_are_installed_on(name: str) -> None:
    base, extra = locked(ROOT / "requirements-service.lock"), locked(LOCKS / f"{name}.lock")
    differ = {package for package, versions in extra.items() if package in base and base[package] != versions}
    assert differ == (OTHER_VERSIONS if name == "store" else set())
    for line in (LOCKS / f"{name}.in").read_text().splitlines():
        wanted = re.match(r"[a-z0-9-]+", line)
        assert not wanted or wanted[0] in extra, f"{line}: make lock"
    text = (LOCKS / f"{name}.lock").read_text()
    entries = [entry for entry in re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE) if entry]
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text


def test_the_card_has_one_onnxruntime_and_the_pinned_torch() -> None:
    extra = locked(LOCKS / "cuda.lock")
    assert "onnxruntime" not in extra
    assert "uninstall -y onnxruntime " in STAGES["cuda-packages"].steps[1].rest
    assert extra["torch"] == locked(ROOT / "requirements-dev.lock")["torch"]
    libraries = environment(chain(STAGES, "cuda"))["LD_LIBRARY_PATH"].split(":")
    assert {Path(folder).parent.name for folder in libraries} == {"cu13", "cudnn"}
    assert {"nvidia-cublas", "nvidia-cudnn-cu13"} <= extra.keys()


def _project() -> dict[str, Any]:
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"])
