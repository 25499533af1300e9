"""OpenVINO's runtime, imported without its usage reports; below all stages, since two of them may run graphs on it.

``import openvino`` also imports the vendor's converter, which reports usage and leaves two files in the user's home folder. No
scan converts anything, so the converter is kept out while the package is imported; that also halves the time of the import.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

from worker.errors import ConfigError, ModelError
from worker.extras import how_to_install, missing

_CONVERTER = "openvino.tools.ovc"


def load_runtime() -> Any:
    """The module ``openvino``. Raises ConfigError where it is not installed, ModelError where it does not load here."""
    if missing(("openvino",)):
        raise ConfigError(f"the openvino backend needs openvino: {how_to_install('openvino')}")
    if loaded := sys.modules.get("openvino"):
        return loaded
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
