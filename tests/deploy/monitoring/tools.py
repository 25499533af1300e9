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
    """The same for tests: skips where it is absent, and fails in CI, unless that said that it could not be had."""
    try:
        return find_tool(name)
    except FileNotFoundError as exc:
        if os.environ.get("CI") == "true" and os.environ.get("CI_TOOLS") != "missing":
            pytest.fail(f"needed in CI: {exc}")
        pytest.skip(str(exc))
