"""The project file, its locks and what they promise to someone who installs from them."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCKS = {"requirements.lock": (), "requirements-dev.lock": ("train", "dev")}
ALL_LOCKS = [*LOCKS, "requirements-build.lock"]
TRAIN_PART = {"torch", "torchvision", "timm", "facenet-pytorch", "decord", "tensorrt"}
TRAIN_PART |= {"lightning-fabric", "matplotlib", "optuna", "scikit-learn", "scipy", "tensorboard", "torchmetrics"}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def locked(name: str) -> dict[str, set[str]]:
    """Versions (more than one where they differ by platform or Python) of every package of a lock."""
    versions: dict[str, set[str]] = {}
    for package, version in re.findall(
        r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE
    ):
        versions.setdefault(canonicalize_name(package), set()).add(version)
    return versions


@pytest.mark.parametrize("name", LOCKS)
def test_lock_has_every_requirement_at_an_allowed_version(name: str, project: dict[str, Any]) -> None:
    wanted = [*project["project"]["dependencies"]]
    for extra in LOCKS[name]:
        wanted += project["project"]["optional-dependencies"][extra]
    have = locked(name)
    for text in wanted:
        requirement = Requirement(text)
        versions = have.get(canonicalize_name(requirement.name))
        assert versions, f"{name} lacks {text}: make lock"
        assert all(requirement.specifier.contains(version, prereleases=True) for version in versions), f"{text}: {versions}"


@pytest.mark.parametrize("name", ALL_LOCKS)
def test_lock_pins_by_hash_and_names_no_host(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    entries = [entry for entry in re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE) if entry]
    assert len(entries) > 5
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text
    assert not re.search(r"^-|\b[a-z0-9-]+\.(org|com|net|io|dev)\b", text, re.MULTILINE)


def test_base_and_development_locks_agree() -> None:
    base, dev = locked("requirements.lock"), locked("requirements-dev.lock")
    assert {package: versions for package, versions in base.items() if dev.get(package) != versions} == {}


def test_base_install_has_nothing_of_training() -> None:
    assert TRAIN_PART & locked("requirements.lock").keys() == set()
    assert locked("requirements-dev.lock").keys() >= TRAIN_PART - {"tensorrt"}


def test_build_lock_has_the_very_builder_of_the_project_file(project: dict[str, Any]) -> None:
    build = locked("requirements-build.lock")
    for text in [*project["build-system"]["requires"], *project["dependency-groups"]["build"]]:
        requirement = Requirement(text)
        assert all(requirement.specifier.contains(version) for version in build[canonicalize_name(requirement.name)]), text


def test_decord_is_wanted_only_where_it_has_a_wheel(project: dict[str, Any]) -> None:
    (decord,) = (r for r in map(Requirement, project["project"]["optional-dependencies"]["train"]) if r.name == "decord")
    assert decord.marker is not None

    def applies(system: str, machine: str) -> bool:
        assert decord.marker is not None
        return decord.marker.evaluate({"sys_platform": system, "platform_machine": machine})

    assert applies("linux", "x86_64")
    assert applies("win32", "AMD64")
    assert not applies("linux", "aarch64")
    assert not applies("darwin", "arm64")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The project's wheel, built without a network."""
    if importlib.util.find_spec("hatchling") is None:
        if os.environ.get("CI"):
            pytest.fail("hatchling must be installed in CI: make setup")
        pytest.skip("needs hatchling: make setup")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_wheel_carries_packages_and_their_data(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    for folder in ("worker", "training", "optimize"):
        for path in (ROOT / folder).rglob("*"):
            inside = path.relative_to(ROOT).as_posix()
            if path.is_file() and path.suffix != ".pyc":
                assert inside in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"worker", "training", "optimize", "veriframe"}


def test_wheel_names_its_commands_and_licences(wheel: zipfile.ZipFile, project: dict[str, Any]) -> None:
    info = next(name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name)
    entry_points = wheel.read(f"{info}/entry_points.txt").decode()
    assert "veriframe = worker.start:console" in entry_points
    assert "[veriframe.commands]" in entry_points
    commands = project["project"]["entry-points"]["veriframe.commands"]
    assert commands.keys() >= {"train", "bench"}
    for name, target in commands.items():
        assert f"{name} = {target}\n" in entry_points
    assert f"{info}/licenses/LICENSE" in wheel.namelist()
    assert f"{info}/licenses/worker/model/weights/MTCNN-LICENSE.txt" in wheel.namelist()


def test_make_lists_what_it_can_do() -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not on this machine")
    done = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True)
    for target in ("setup", "setup-base", "demo", "test", "check", "bench", "soak", "clean", "lock"):
        assert re.search(rf"^ +make {target} ", done.stdout, re.MULTILINE), target
