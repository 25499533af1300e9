"""OpenVINO's runtime, imported without its usage reports; below all stages, since two of them may run graphs on it.

``import openvino`` also imports the vendor's converter, which reports usage and leaves two files in the user's home folder. Not
even an export needs it, which reads and saves graphs by the runtime alone. So it is kept out while the package is imported; that
also halves the time of the import.

The binding asks NumPy for its interface at the first tensor that becomes an array. Two threads that do so at once wait for each
other for ever, one with the lock of that first time and the other with Python's (pybind11's ``npy_api``, OpenVINO 2026.4). So
whoever loads the runtime has it over with.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
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


def _imported() -> Any:
    kept_out = _CONVERTER not in sys.modules
    if kept_out:
        sys.modules[_CONVERTER] = None  # type: ignore[assignment]  # importing it raises ImportError, which openvino expects
    try:
        return importlib.import_module("openvino")
    except (ImportError, OSError) as exc:
        raise ModelError(f"openvino is installed but does not load: {exc}") from exc
    finally:
        if kept_out:
            del sys.modules[_CONVERTER]
