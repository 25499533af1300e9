"""Prometheus and promtool, which no Python package brings: ``make tools`` unpacks them into .tools."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def tool(name: str) -> str:
    """The path of a program. Skips where it is absent, and fails in CI, where it must be there."""
    folder = str(ROOT / ".tools")
    found = shutil.which(name, path=os.pathsep.join((folder, os.environ.get("PATH", ""))))
    if found is None and os.environ.get("CI"):
        pytest.fail(f"{name} must be there in CI: make tools")
    if found is None:
        pytest.skip(f"needs {name}, which is not on this machine: make tools")
    return found
