from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime as ort
import pytest

from optimize.bench.rivals.recording import Stage, Tape, record, stage_of
from worker.openvino_runtime import load_runtime, operators


@pytest.mark.parametrize(
    ("shape", "stage"),
    [
        (["n", "h", "w", 3], "detect"),
        (["n", 24, 24, 3], "detect"),
        ([None, 3, 48, 48], "detect"),
        ([64, 48, 48, 3], "detect"),
        (["faces", 224, 224, 3], "infer"),
        (["faces", 288, 288, 3], "infer"),
        ([None, 16, 112, 112], "infer"),
        ([None, 1280], "infer"),
    ],
)
def test_networks_belong_to_a_stage_by_what_they_take(shape: Sequence[int | str | None], stage: Stage) -> None:
    assert stage_of(shape) == stage


def test_graphs_that_are_read_again_are_one_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """What they are given is heard, as an array or a tensor, and the floor can run it again."""
    pytest.importorskip("openvino", reason="needs openvino: make setup")
    openvino = load_runtime()
    for owner, name in (
        (ort, "InferenceSession"),
        (openvino.Core, "compile_model"),
        (openvino.Core, "import_model"),
        (openvino.CompiledModel, "export_model"),
        (openvino.CompiledModel, "create_infer_request"),
        (openvino.InferRequest, "infer"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))  # given back at the end
    given = operators().parameter([-1, 4], openvino.Type.f32)
    model = openvino.Model([operators().multiply(given, operators().constant(np.full(1, 2, np.float32)))], [given], "twice")
    tape = Tape()
    record(tape)
    core = openvino.Core()
    made = core.compile_model(model, "CPU", {})
    blob = np.frombuffer(made.export_model().getbuffer(), np.uint8)
    requests = [made.create_infer_request()]
    requests += [core.import_model(openvino.Tensor(blob), "CPU", {}).create_infer_request() for _ in range(2)]
    tape.recording = True
    numbers = np.arange(8, dtype=np.float32).reshape(2, 4)
    for request, feeds in zip(requests, (numbers, {0: numbers}, openvino.Tensor(numbers)), strict=True):
        request.infer(feeds)
    (network,) = tape.networks
    heard = [call[0] if isinstance(call, dict) else call for call in network.calls]
    np.testing.assert_array_equal(heard, [numbers] * 3)
    for run in network.open(2, 2):
        for call in network.calls:
            np.testing.assert_array_equal(next(iter(run(call).values())), 2 * numbers)
    assert len(network.calls) == 3, "what the floor runs is not heard"
