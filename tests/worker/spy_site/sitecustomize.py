"""Loaded by a Python child at its start where this folder is on PYTHONPATH: the child is watched as its parent's test is."""

import importlib.util
from pathlib import Path

spec = importlib.util.spec_from_file_location("connection_spy", Path(__file__).parent.with_name("spy.py"))
assert spec is not None
assert spec.loader is not None
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.watch_from_environment()
