"""Prometheus and promtool, which no Python package brings: ``make tools`` unpacks them into .tools."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def find_tool(name: str) -> str:
    """The path of a program. Raises FileNotFoundError."""
    found = shutil.which(name, path=os.pathsep.join((str(ROOT / ".tools"), os.environ.get("PATH", ""))))
    if found is None:
        raise FileNotFoundError(f"{name} is not on this machine: make tools")
    return found


def tool(name: str) -> str:
    """The same for tests: skips where it is absent, and fails in CI, where it must be there."""
    try:
        return find_tool(name)
    except FileNotFoundError as exc:
        if os.environ.get("CI"):
            pytest.fail(f"needed in CI: {exc}")
        pytest.skip(str(exc))
