"""Cuts an OpenVINO graph where one tensor alone carries everything on: stem, trunk and head, each at its own precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from worker.openvino_runtime import operators

STEM_CONVOLUTIONS = 4
"""The first ones, which stay in float32: to round the very first ones' weights costs most (measured: docs/backends.md)."""
CONVOLUTIONS = ("Convolution", "GroupConvolution")


@dataclass(frozen=True, slots=True, kw_only=True)
class CutPoint:
    """After ``op``, its only output is all that the rest of the graph needs. ``convolutions``: those at or before it."""

    op: str
    rank: int
    convolutions: int


def cut_points(ov: Any, model: Any) -> list[CutPoint]:
    """Every float32 cut of a graph of one input, from there to the first output: no cut behind one could reach it."""
    ops = _from_input(model)
    place = {op.friendly_name: i for i, op in enumerate(ops)}
    last_use: dict[str, int] = {}
    for i, op in enumerate(ops):
        for source in _sources(op):
            if source in place:
                last_use[source] = i
    found: list[CutPoint] = []
    live: set[str] = set()
    convolutions = 0
    for i, op in enumerate(ops):
        if op.get_type_name() == "Result":
            break
        name = op.friendly_name
        convolutions += op.get_type_name() in CONVOLUTIONS
        live = {other for other in live if last_use[other] > i} | ({name} if name in last_use else set())
        if live == {name} and op.get_output_size() == 1 and op.get_type_name() != "Parameter":
            output = op.output(0)
            if output.element_type == ov.Type.f32 and output.partial_shape.rank.is_static:
                found.append(CutPoint(op=name, rank=output.partial_shape.rank.get_length(), convolutions=convolutions))
    return found


def where_to_cut(points: Sequence[CutPoint]) -> list[str]:
    """The ops after which stem and trunk end: the last cut within the first convolutions, and the pooled features behind all.

    Where the graph's beginning has no such cut, the stem belongs to the trunk. Raises ValueError where the head cannot be told.
    """
    total = points[-1].convolutions if points else 0
    features = [point.op for point in points if point.rank == 2 and point.convolutions == total and total > 0]
    if not features:
        raise ValueError("no tensor of pooled features stands between the convolutions and the head")
    stem = [point.op for point in points if 0 < point.convolutions <= STEM_CONVOLUTIONS and point.rank == 4]
    return [*stem[-1:], features[0]]


def cut(ov: Any, model: Any, ends: Sequence[str]) -> list[Any]:
    """The graph in ``len(ends) + 1`` parts of one input each; takes ``model`` apart."""
    by_name = {op.friendly_name: op for op in model.get_ordered_ops()}
    inputs, results = model.get_parameters(), model.get_results()
    parts: list[Any] = []
    for end in ends:
        carried = by_name[end].output(0)
        readers = list(carried.get_target_inputs())
        parts.append(ov.Model([carried], inputs, f"until {end}"))
        received = operators().parameter(carried.partial_shape, carried.element_type, name=f"from {end}")
        for reader in readers:
            reader.replace_source_output(received.output(0))
        inputs = [received]
    parts.append(ov.Model(results, inputs, "head"))
    return parts


def _from_input(model: Any) -> list[Any]:
    """The ops that depend on the input, in order; the others are constants."""
    reached = {parameter.friendly_name for parameter in model.get_parameters()}
    ordered: list[Any] = []
    for op in model.get_ordered_ops():
        if op.friendly_name in reached or reached.intersection(_sources(op)):
            reached.add(op.friendly_name)
            ordered.append(op)
    return ordered


def _sources(op: Any) -> list[str]:
    return [op.input_value(i).get_node().friendly_name for i in range(op.get_input_size())]
