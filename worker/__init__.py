"""The scanner: source -> frames -> faces -> scores -> verdict -> sink."""

import os

__version__ = "0.1.0"

# ONNX Runtime 1.32 reports usage to its maker unless this stands when it is first imported, and leaves TMPDIR/.ses behind.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
