"""OpenVINO's runtime, imported without its usage reports; below all stages, since two of them may run graphs on it.

``import openvino`` also imports the vendor's converter, which reports usage and leaves two files in the user's home folder. Not
even an export needs it, which reads and saves graphs by the runtime alone. So it is kept out while the package is imported; that
also halves the time of the import. So are the operator sets, which only those need who build graphs: what is left takes half of
the time again. ``operators`` has one.

The binding asks NumPy for its interface at the first tensor that becomes an array. Two threads that do so at once wait for each
other for ever, one with the lock of that first time and the other with Python's (pybind11's ``npy_api``, OpenVINO 2026.4). So
whoever loads the runtime has it over with.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from worker.errors import ConfigError, ModelError
from worker.extras import how_to_install, missing

_CONVERTER = "openvino.tools.ovc"
_loading = threading.Lock()
_loaded: list[Any] = []


def load_runtime() -> Any:
    """The module ``openvino``. Raises ConfigError where it is not installed, ModelError where it does not load here."""
    if missing(("openvino",)):
        raise ConfigError(f"the openvino backend needs openvino: {how_to_install('openvino')}")
    with _loading:
        if not _loaded:
            runtime = _imported()
            runtime.Tensor(np.zeros(1, np.float32)).data  # noqa: B018 - see above
            _loaded.append(runtime)
        return _loaded[0]


def open_core() -> Any:
    """What reads and compiles graphs. Raises as ``load_runtime``."""
    runtime = load_runtime()
    try:
        return runtime.Core()
    except RuntimeError as exc:
        raise ModelError(f"openvino is installed but does not work: {first_line(exc)}") from exc


def first_line(exc: Exception) -> str:
    """OpenVINO's messages begin with the place in its own source; what is wrong comes last."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return lines[-1] if lines else type(exc).__name__


def operators() -> Any:
    """The module of the operators that our graphs are made of. Raises as ``load_runtime``."""
    load_runtime()
    return importlib.import_module("openvino.opset13")


def _imported() -> Any:
    left_out: dict[str, ModuleType | None] = {_CONVERTER: None}  # importing it raises ImportError, which openvino expects
    left_out |= {name: ModuleType(name) for name in _operator_sets()}
    left_out = {name: module for name, module in left_out.items() if name not in sys.modules}
    sys.modules.update(left_out)  # type: ignore[arg-type]  # None is how the import system is told that there is none
    try:
        runtime = importlib.import_module("openvino")
    except (ImportError, OSError) as exc:
        raise ModelError(f"openvino is installed but does not load: {exc}") from exc
    finally:
        for name in left_out:
            del sys.modules[name]
    for name, module in left_out.items():
        if module is not None and getattr(runtime, name.rpartition(".")[2], None) is module:
            delattr(runtime, name.rpartition(".")[2])
    return runtime


def _operator_sets() -> set[str]:
    spec = importlib.util.find_spec("openvino")
    places = spec.submodule_search_locations or [] if spec else []
    return {f"openvino.{path.name}" for place in places for path in Path(place).glob("opset*")}
