"""Records what a scan gives to its networks, at the runtimes' own doors, to run it again as fast as the runtime can.

Only in a process of the bench's own: it puts recording classes in the place of ONNX Runtime's session and OpenVINO's core. That
way it holds for every part of a scan that runs a network, and none has to know of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import onnxruntime as ort

from worker.extras import missing

Stage = Literal["detect", "infer"]
Feeds = Any
Run = Callable[[Feeds], None]
Compile = Callable[[dict[str, Any]], Any]
"""A compiled model, with more properties than it was first compiled with."""
MOST_DETECT_PX = 48
"""Side of O-Net's pictures, the largest of MTCNN's that are of one size."""


@dataclass(slots=True, kw_only=True, eq=False)
class Network:
    """``open(streams, threads)`` gives that many callables, each for a thread of its own, which share ``threads`` threads."""

    stage: Stage
    open: Callable[[int, int], list[Run]]
    calls: list[Feeds] = field(default_factory=list)


class Tape:
    """Every network that was loaded, and while ``recording`` what it was given."""

    def __init__(self) -> None:
        self.networks: list[Network] = []
        self.recording = False

    def note(self, network: Network, feeds: Feeds) -> None:
        if self.recording:
            network.calls.append(_copied(feeds))

    def clear(self) -> None:
        for network in self.networks:
            network.calls.clear()


def _copied(feeds: Feeds) -> Feeds:
    if isinstance(feeds, Mapping):
        return {name: np.array(value) for name, value in feeds.items()}
    if isinstance(feeds, list | tuple):
        return [np.array(value) for value in feeds]
    return np.array(feeds)


def record(tape: Tape) -> None:
    """From now on sessions and compiled models write on ``tape``; call it before anything is loaded."""
    _record_onnxruntime(tape)
    if not missing(("openvino",)):
        _record_openvino(tape)


def _record_onnxruntime(tape: Tape) -> None:
    plain = ort.InferenceSession

    class RecordedSession(ort.InferenceSession):  # type: ignore[misc]  # the package is untyped
        def __init__(self, model: Any, *arguments: Any, **options: Any) -> None:
            super().__init__(model, *arguments, **options)
            shape = self.get_inputs()[0].shape
            self._network = Network(
                stage=stage_of(shape), open=lambda streams, threads: _sessions(plain, model, streams, threads)
            )
            tape.networks.append(self._network)

        def run(self, names: Any, feeds: Any, *arguments: Any) -> Any:
            tape.note(self._network, feeds)
            return super().run(names, feeds, *arguments)

    ort.InferenceSession = RecordedSession


def _sessions(plain: Any, model: Any, streams: int, threads: int) -> list[Run]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = max(1, threads // streams)
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = plain(model, options, providers=["CPUExecutionProvider"])
    return [lambda feeds: session.run(None, feeds)] * streams


def _record_openvino(tape: Tape) -> None:
    """Graphs are compiled, or read from where compiled ones are kept; every call of theirs has a request. A graph that is read
    again, for calls at the same time, is the same network."""
    from worker.openvino_runtime import load_runtime

    openvino = load_runtime()
    core, compiled, request = openvino.Core, openvino.CompiledModel, openvino.InferRequest
    compile_model, import_model = core.compile_model, core.import_model
    create, infer = compiled.create_infer_request, request.infer
    export_model = compiled.export_model
    known: dict[str, Network] = {}

    def noted(made: Any, again: Compile) -> Any:
        shape = [size.get_length() if size.is_static else None for size in made.inputs[0].get_partial_shape()]
        network = Network(stage=stage_of(shape), open=lambda streams, threads: _requests(again, streams, threads))
        made.recorded_network = network
        tape.networks.append(network)
        return made

    def export_and_note(self: Any, *arguments: Any) -> Any:
        exported = export_model(self, *arguments)
        if exported is not None and (network := getattr(self, "recorded_network", None)):
            known[hashlib.sha256(exported.getbuffer()).hexdigest()] = network
        return exported

    def compile_and_note(self: Any, model: Any, device_name: Any = "CPU", config: Any = None, **options: Any) -> Any:
        def again(more: dict[str, Any]) -> Any:
            return compile_model(self, model, device_name, dict(config or {}) | more, **options)

        return noted(again({}), again)

    def import_and_note(self: Any, stream: Any, device_name: Any = "CPU", config: Any = None) -> Any:
        kept = openvino.Tensor(stream.data)  # a copy: its memory may be given back

        def again(more: dict[str, Any]) -> Any:
            return import_model(self, kept, device_name, dict(config or {}) | more)

        made, name = again({}), hashlib.sha256(kept.data).hexdigest()
        if name in known:
            made.recorded_network = known[name]
        else:
            known[name] = noted(made, again).recorded_network
        return made

    def create_and_note(self: Any) -> Any:
        made = create(self)
        made.recorded_network = getattr(self, "recorded_network", None)
        return made

    def infer_and_note(self: Any, inputs: Any = None, *arguments: Any, **options: Any) -> Any:
        network = getattr(self, "recorded_network", None)
        if network is not None:
            tape.note(network, inputs.data if isinstance(inputs, openvino.Tensor) else inputs)
        return infer(self, inputs, *arguments, **options)

    core.compile_model, core.import_model = compile_and_note, import_and_note
    compiled.create_infer_request, request.infer = create_and_note, infer_and_note
    compiled.export_model = export_and_note


def _requests(again: Compile, streams: int, threads: int) -> list[Run]:
    """Each by a graph of its own: two streams of one graph wait for each other (docs/backends.md). Nothing is copied."""
    alone = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": max(1, threads // streams)}
    requests = [again(alone).create_infer_request() for _ in range(streams)]
    return [partial(request.infer, share_inputs=True, share_outputs=True) for request in requests]


def stage_of(shape: Sequence[int | str | None]) -> Stage:
    """Of a network, by its input: MTCNN's take pictures of any size, or smaller ones than the classifier's crops, whatever the
    checkpoint; parts of the classifier behind its first take features."""
    is_picture = len(shape) == 4 and 3 in shape
    is_large = any(isinstance(side, int) and side > MOST_DETECT_PX for side in shape[1:])
    return "detect" if is_picture and not is_large else "infer"
