"""Which distribution brings a module."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from worker.extras import version_of

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
