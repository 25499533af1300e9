"""Page assets and outside tools: pinned by hash, named without a host, packed where they are, and their absence told in words."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

REPOSITORY = Path(__file__).resolve().parents[2]
ASSETS = REPOSITORY / "deploy" / "assets"
DEV_ONLY = {"axe-core"}


def run(script: Path, folder: Path, *programs: str) -> subprocess.CompletedProcess[str]:
    """A copy of the script in a checkout of its own, on a system that has these programs and no others."""
    found = folder / "bin"
    found.mkdir()
    for program in ("bash", "dirname", *programs):
        path = shutil.which(program)
        assert path is not None
        (found / program).symlink_to(path)
    copy = folder / script.relative_to(REPOSITORY)
    copy.parent.mkdir(parents=True)
    shutil.copy(script, copy)
    environment = {"PATH": str(found), "HOME": str(folder)}
    return subprocess.run(["bash", str(copy)], env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_every_package_is_pinned_by_its_hash_and_no_host_is_named() -> None:
    wanted = json.loads((ASSETS / "package.json").read_text())
    text = (ASSETS / "package-lock.json").read_text()
    packages = json.loads(text)["packages"]
    root = packages.pop("")
    assert "resolved" not in text
    assert "://" not in text
    assert (root["dependencies"], root["devDependencies"]) == (wanted["dependencies"], wanted["devDependencies"])
    pinned = {name.removeprefix("node_modules/"): entry for name, entry in packages.items()}
    assert {name: entry["version"] for name, entry in pinned.items()} == wanted["dependencies"] | wanted["devDependencies"]
    assert all(entry["integrity"].startswith("sha512-") for entry in pinned.values())
    assert {name for name, entry in pinned.items() if entry.get("dev")} == DEV_ONLY
    assert "hasInstallScript" not in text


def test_a_machine_without_node_is_told_what_it_means(tmp_path: Path) -> None:
    done = run(ASSETS / "install.sh", tmp_path)
    assert done.returncode == 1
    assert "needs npm" in done.stderr
    assert "plain pages" in done.stderr


def test_a_registry_out_of_reach_is_said_so(tmp_path: Path) -> None:
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'npm error network'\nexit 1\n")
    npm.chmod(0o755)
    for name in ("package.json", "package-lock.json"):
        (tmp_path / "checkout/deploy/assets").mkdir(parents=True, exist_ok=True)
        shutil.copy(ASSETS / name, tmp_path / "checkout/deploy/assets" / name)
    shutil.copy(ASSETS / "install.sh", tmp_path / "checkout/deploy/assets/install.sh")
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    script = str(tmp_path / "checkout/deploy/assets/install.sh")
    done = subprocess.run([script], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "npm error network" in done.stderr
    assert "is the package registry reachable?" in done.stderr


def test_a_system_without_packages_is_told_what_to_install(tmp_path: Path) -> None:
    done = run(REPOSITORY / ".ci" / "tools", tmp_path, "mkdir", "id")
    assert done.returncode == 1
    assert "put prometheus and promtool into .tools/" in done.stderr
    assert "install Chromium" in done.stderr


@pytest.mark.parametrize("name", ["htmx.min.js", "uPlot.min.css", "htmx-LICENSE.txt"])
def test_a_wheel_takes_them_along(tmp_path: Path, name: str) -> None:
    for file in ("pyproject.toml", ".gitignore", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / file, tmp_path / file)
    for package in ("worker/console/assets", "training", "optimize", ".git"):
        (tmp_path / package).mkdir(parents=True)
    (tmp_path / "worker/console/assets" / name).touch()
    (tmp_path / "worker/console/assets.py").touch()
    packed = {file.distribution_path for file in WheelBuilder(str(tmp_path)).recurse_included_files()}
    assert packed == {f"worker/console/assets/{name}", "worker/console/assets.py"}
