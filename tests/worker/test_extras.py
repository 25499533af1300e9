"""Which distribution brings a module."""

from __future__ import annotations

import ast
import importlib.metadata
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from worker.extras import extra_of, version_of

ROOT = Path(__file__).parents[2]


def test_the_version_of_a_module_is_that_of_its_distribution() -> None:
    assert version_of("onnxruntime") == importlib.metadata.version("onnxruntime")
    assert version_of("prometheus_client") == importlib.metadata.version("prometheus-client")
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        version_of("no_such_module")


def test_onnxruntime_gpu_stands_in_for_onnxruntime(tmp_path: Path) -> None:
    about = tmp_path / "onnxruntime_gpu-1.31.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.31.1\n")
    code = "import sys; sys.path[:0] = sys.argv[1:]; from worker.extras import version_of; print(version_of('onnxruntime'))"
    command = [sys.executable, "-I", "-S", "-c", code, str(tmp_path), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("1.31.1\n", "")


def imported() -> Iterator[str]:
    """Packages that our own code imports, anywhere."""
    for folder in ("worker", "training", "optimize"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    yield from (name.name.partition(".")[0] for name in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    yield node.module.partition(".")[0]


def test_every_package_that_an_extra_brings_is_said_to_be_brought_by_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    brought = {
        extra: {canonicalize_name(Requirement(text).name) for text in texts}
        for extra, texts in project["optional-dependencies"].items()
    }
    base = {canonicalize_name(Requirement(text).name) for text in project["dependencies"]}
    installed = importlib.metadata.packages_distributions()
    wrong = {}
    for module in set(imported()):
        names = {canonicalize_name(name) for name in installed.get(module, ())}
        extras = {extra for extra, distributions in brought.items() if distributions & names}
        if extras and not names & base and extra_of(module) not in extras:
            wrong[module] = extra_of(module)
    assert wrong == {}
