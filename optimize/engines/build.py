"""Builds TensorRT engines from ONNX graphs: one code for ``tensorrt`` and ``tensorrt_rtx``, whose module is passed in.

For TensorRT 10 and 11: networks are strongly typed, so that the graph's own types are the engine's. ``tensorrt`` builds for the
card at hand; ``tensorrt_rtx`` for named architectures, without one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from worker.backends.artefact import TensorSpec
from worker.backends.listener import made_with, new_listener
from worker.errors import ModelError

Shape = tuple[int, ...]
NUMPY_NAMES = {"float": "float32", "half": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Least, usual and greatest shape of a network's input. Raises ValueError where they are not in that order."""

    least: Shape
    usual: Shape
    greatest: Shape

    def __post_init__(self) -> None:
        for sizes in zip(self.least, self.usual, self.greatest, strict=True):
            if not 1 <= sizes[0] <= sizes[1] <= sizes[2]:
                raise ValueError(f"no profile: {self.least}, {self.usual}, {self.greatest}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A serialised engine, what goes in and out of it, and the graph's nodes that it was made of."""

    data: bytes
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    nodes: frozenset[str]


def build_engine(trt: Any, graph: bytes, profile: Profile, *, targets: Sequence[str] = (), exact_fp32: bool = True) -> Built:
    """Parse and build. ``targets``: architectures such as SM89, for ``tensorrt_rtx`` only; none for the card at hand.

    exact_fp32: multiply float32 as such, not in TF32 (10 bits). Raises ModelError with the library's own words where a layer is
    not taken or the build fails.
    """
    told = new_listener(trt)
    builder = made_with(trt.Builder, told)
    network = builder.create_network(_strongly_typed(trt))
    parser = trt.OnnxParser(network, told)
    if not parser.parse(graph) or parser.num_errors:
        reasons = "; ".join(_parser_error(parser.get_error(place)) for place in range(parser.num_errors))
        raise ModelError(f"{trt.__name__} does not take the graph: {reasons or told.said()}")
    config = builder.create_builder_config()
    shapes = builder.create_optimization_profile()
    shapes.set_shape(network.get_input(0).name, profile.least, profile.usual, profile.greatest)
    if config.add_optimization_profile(shapes) < 0:
        raise ModelError(f"{trt.__name__} does not take the shapes {profile}: {told.said()}")
    if exact_fp32:
        config.clear_flag(trt.BuilderFlag.TF32)
    _aim(trt, config, targets)
    data = _made(builder.build_serialized_network(network, config), told, "the build failed")
    return Built(
        data=bytes(data),
        inputs=tuple(_spec(network.get_input(place)) for place in range(network.num_inputs)),
        outputs=tuple(_spec(network.get_output(place)) for place in range(network.num_outputs)),
        nodes=frozenset(name for place in range(network.num_layers) for name in _origins(network.get_layer(place))),
    )


def supported_targets(trt: Any) -> tuple[str, ...]:
    """The architectures that the library builds for without a card, oldest first; none for ``tensorrt``."""
    names = getattr(getattr(trt, "ComputeCapability", None), "__members__", {})
    return tuple(sorted((name for name in names if name.startswith("SM")), key=lambda name: int(name[2:])))


def _aim(trt: Any, config: Any, targets: Sequence[str]) -> None:
    if unknown := sorted(set(targets) - set(supported_targets(trt))):
        raise ModelError(f"{trt.__name__} builds for {', '.join(supported_targets(trt)) or 'no named target'}, not {unknown[0]}")
    if targets:
        config.num_compute_capabilities = len(targets)
    for place, target in enumerate(targets):
        if not config.set_compute_capability(getattr(trt.ComputeCapability, target), place):
            raise ModelError(f"{trt.__name__} does not build for {target}")


def _strongly_typed(trt: Any) -> int:
    """The creation flag, where the version still has one: later every network is strongly typed."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _made(thing: Any, told: Any, what: str) -> Any:
    if thing is None:
        raise ModelError(f"{what}: {told.said()}")
    return thing


def _parser_error(error: Any) -> str:
    return f"node {error.node()} ({error.node_operator()}): {error.desc()}"


def _spec(tensor: Any) -> TensorSpec:
    dtype = tensor.dtype.name.lower()
    return TensorSpec(name=tensor.name, dtype=NUMPY_NAMES.get(dtype, dtype), shape=tuple(tensor.shape))


def _origins(layer: Any) -> list[str]:
    """The ONNX nodes that a layer stands for: ``[ONNX Layer: NAME]`` in its metadata, several where they were joined."""
    parts = str(layer.metadata).split("[ONNX Layer: ")[1:]
    return [part.split("]")[0] for part in parts]
