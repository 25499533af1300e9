"""Finds what an operator's own command named, never a job."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any


def attribute(name: str) -> Callable[..., Any]:
    """``module:function``."""
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found
