"""What ONNX Runtime raises for a file that it cannot run; below all stages, since two of them open graphs."""

from __future__ import annotations

from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

LOAD_ERRORS: tuple[type[Exception], ...] = (
    OSError,
    ort_state.DeviceReset,
    ort_state.EPFail,
    ort_state.EngineError,
    ort_state.Fail,
    ort_state.InvalidArgument,
    ort_state.InvalidGraph,
    ort_state.InvalidProtobuf,
    ort_state.ModelRequiresCompilation,
    ort_state.NoModel,
    ort_state.NoSuchFile,
    ort_state.NotFound,
    ort_state.NotImplemented,
    ort_state.RuntimeException,
)
"""An unreadable file, what stands for one that is no graph it can run, and a card that failed: no common class but Exception."""
