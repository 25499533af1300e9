"""How each kind of artefact is made from ONNX graphs, and run where this machine can: one maker for each kind, in a dict.

A maker writes one network's file and says what goes in and out; it also gives the way to run that file, or why it cannot be run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx

from optimize.engines.build import Profile, build_engine
from worker.backends.artefact import Gpu, Kind, Precision, TensorSpec, target_of
from worker.backends.tensorrt import Engine, RtKind, load_library, run_padded, this_gpu
from worker.cores import affine_cores
from worker.errors import ConfigError
from worker.model.restore import load_network
from worker.onnx_errors import LOAD_ERRORS
from worker.openvino_runtime import load_runtime

Array = npt.NDArray[Any]
Run = Callable[[Array], Mapping[str, Array]]
CANNOT_RUN: tuple[type[Exception], ...] = (RuntimeError, *LOAD_ERRORS)
NET_PROFILES = {
    "pnet": Profile(least=(1, 12, 12, 3), usual=(8, 108, 192, 3), greatest=(16, 540, 960, 3)),
    "rnet": Profile(least=(1, 24, 24, 3), usual=(64, 24, 24, 3), greatest=(256, 24, 24, 3)),
    "onet": Profile(least=(1, 48, 48, 3), usual=(64, 48, 48, 3), greatest=(256, 48, 48, 3)),
}
"""P-Net sees frames at the pyramid's scales, the others many candidates at once; ``worker.backends.face_nets`` runs them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One network to be made: ``graph`` is its ONNX model, ``checkpoint`` the classifier's weights (None for MTCNN's)."""

    name: str
    graph: bytes
    profile: Profile
    precision: Precision
    checkpoint: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """``run`` is None where this machine cannot run the file; ``reason`` says why."""

    file: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    has_profile: bool
    run: Run | None
    reason: str | None = None


class Maker(Protocol):
    def __call__(self, source: Source, folder: Path, targets: tuple[str, ...]) -> Made: ...


def make_onnx(source: Source, folder: Path, targets: tuple[str, ...]) -> Made:
    """The graph itself, for any runtime that reads ONNX."""
    import onnxruntime as ort

    path = folder / f"{source.name}.onnx"
    path.write_bytes(source.graph)
    inputs, outputs = graph_specs(source.graph)
    run, reason = _or_reason(lambda: _onnx_run(ort, path), "ONNX Runtime")
    return Made(file=path.name, inputs=inputs, outputs=outputs, has_profile=False, run=run, reason=reason)


def make_openvino(source: Source, folder: Path, targets: tuple[str, ...]) -> Made:
    """OpenVINO's own format, in the graph's own types."""
    openvino = load_runtime()
    core = openvino.Core()
    model = core.read_model(source.graph, b"")
    path = folder / f"{source.name}.xml"
    try:
        openvino.save_model(model, path, compress_to_fp16=False)
    except RuntimeError as exc:
        last = str(exc).strip().rpartition("\n")[-1]
        raise ConfigError(f"cannot write {path.name}: {last}") from exc
    inputs, outputs = graph_specs(source.graph)
    names = [output.name for output in outputs]

    def opened() -> Run:
        # No hint of precision: the graph's types are meant, and a hint would lower the head too.
        compiled = core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "dynamic"})
        return lambda pictures: dict(zip(names, compiled([pictures]).values(), strict=True))

    run, reason = _or_reason(opened, "OpenVINO")
    return Made(file=path.name, inputs=inputs, outputs=outputs, has_profile=False, run=run, reason=reason)


def make_engine(source: Source, folder: Path, targets: tuple[str, ...], *, kind: RtKind) -> Made:
    """A TensorRT engine for the card at hand (``tensorrt``) or for named architectures (``tensorrt-rtx``)."""
    trt = load_library(kind)
    if kind == "tensorrt":
        this_gpu("an export to tensorrt (it builds for the card at hand; tensorrt-rtx builds without one)")
    built = build_engine(trt, source.graph, source.profile, targets=targets, exact_fp32=source.precision == "fp32")
    path = folder / f"{source.name}.engine"
    path.write_bytes(built.data)
    if (reason := why_not_here(targets)) is not None:
        return Made(file=path.name, inputs=built.inputs, outputs=built.outputs, has_profile=True, run=None, reason=reason)
    engine = Engine(trt, built.data)
    run = partial(_chunked, partial(run_padded, engine), engine.greatest)
    return Made(file=path.name, inputs=built.inputs, outputs=built.outputs, has_profile=True, run=run)


def make_program(source: Source, folder: Path, targets: tuple[str, ...]) -> Made:
    """The classifier by torch-tensorrt; MTCNN's networks, which are no torch modules, by the TensorRT that comes with it."""
    from worker.backends import torch_tensorrt

    library = torch_tensorrt.load_library()
    this_gpu("an export to torch-tensorrt")
    if source.checkpoint is None:
        return make_engine(source, folder, targets, kind="tensorrt")
    from optimize.engines.torch_tensorrt import compile_program

    spec, network = load_network(source.checkpoint)
    least, usual, greatest = (shape[0] for shape in (source.profile.least, source.profile.usual, source.profile.greatest))
    path = folder / f"{source.name}.pt2"
    batch = (least, usual, greatest)
    compile_program(library, network, path, size=spec.crop.size, precision=source.precision, batch=batch)
    inputs, outputs = graph_specs(source.graph)
    program = torch_tensorrt.Program(library.load(str(path)).module(), least=least, greatest=greatest)
    run = partial(_chunked, partial(run_padded, program), greatest)
    return Made(file=path.name, inputs=inputs, outputs=outputs, has_profile=True, run=run)


MAKERS: Mapping[Kind, Maker] = {
    "onnx": make_onnx,
    "openvino": make_openvino,
    "tensorrt": partial(make_engine, kind="tensorrt"),
    "tensorrt-rtx": partial(make_engine, kind="tensorrt-rtx"),
    "torch-tensorrt": make_program,
}


def onnx_runner(path: Path) -> Run:
    """Outputs by name of a graph on ONNX Runtime: the reference for MTCNN's networks."""
    import onnxruntime as ort

    return _onnx_run(ort, path)


def graph_specs(graph: bytes) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of an ONNX graph; a size that may vary is -1."""
    model = onnx.load_from_string(graph)
    return tuple(_spec(value) for value in model.graph.input), tuple(_spec(value) for value in model.graph.output)


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    return TensorSpec(name=value.name, dtype=dtype, shape=shape)


def _onnx_run(ort: Any, path: Path) -> Run:
    options = ort.SessionOptions()
    options.intra_op_num_threads = affine_cores()
    options.log_severity_level = 3
    session = ort.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    only = session.get_inputs()[0].name
    return lambda pictures: dict(zip(names, session.run(None, {only: pictures}), strict=True))


def _or_reason(opened: Callable[[], Run], runtime: str) -> tuple[Run | None, str | None]:
    """The way to run, or why there is none."""
    try:
        return opened(), None
    except CANNOT_RUN as exc:
        return None, f"{runtime} cannot run it on this machine: {str(exc).strip().splitlines()[0][:300]}"


def why_not_here(targets: Sequence[str], card: Callable[[str], Gpu] = this_gpu) -> str | None:
    """Why an engine for these architectures (for the card at hand where there are none) cannot run here; None where it can."""
    try:
        gpu = card("running the engine")
    except ConfigError as exc:
        return str(exc)
    if targets and target_of(gpu) not in targets:
        return f"built for {', '.join(targets)}, but the card here, {gpu.name}, is {target_of(gpu)}"
    return None


def _chunked(run: Run, most: int, pictures: Array) -> Mapping[str, Array]:
    parts = [run(pictures[start : start + most]) for start in range(0, len(pictures), most)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
