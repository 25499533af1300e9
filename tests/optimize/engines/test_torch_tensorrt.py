"""What torch-tensorrt would be given, run by torch itself: neither the library nor a card is needed for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from optimize.engines.torch_tensorrt import TypedScorer, trace
from worker.errors import ModelError
from worker.model.network import score_logit
from worker.model.restore import load_network
from worker.types import UInt8


def test_the_program_takes_any_batch_and_keeps_its_head_in_float32(
    tiny_checkpoint: Path, make_crops: Callable[[int], UInt8]
) -> None:
    spec, network = load_network(tiny_checkpoint)
    crops = torch.from_numpy(make_crops(5))
    wanted = score_logit(network(crops)).sigmoid()
    assert wanted.std() > 0.1
    program = trace(TypedScorer(network, "bf16"), size=spec.crop.size, batch=(1, 4, 8))
    assert {value.dtype for value in network.backbone.parameters()} == {torch.bfloat16}
    assert {value.dtype for value in network.head.parameters()} == {torch.float32}
    module = program.module()
    for n in (2, 5):
        logit, families = module(crops[:n])
        assert (logit.dtype, families.dtype) == (torch.float32, torch.float32)
        assert families.shape == (n, 4)
        np.testing.assert_allclose(logit.sigmoid(), wanted[:n], atol=0.1)


def test_weights_beyond_the_range_of_float16_are_refused(tiny_checkpoint: Path) -> None:
    _, network = load_network(tiny_checkpoint)
    next(network.backbone.parameters()).data.fill_(1e5)
    with pytest.raises(ModelError, match="beyond the range of fp16"):
        TypedScorer(network, "fp16")
