from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from worker.model.network import IMAGENET_MEAN, IMAGENET_STD, DeepfakeNet, build, score_logit
from worker.model.restore import load_network
from worker.types import UInt8

MakeCrops = Callable[[int], UInt8]


@pytest.fixture(scope="module")
def network(tiny_checkpoint: Path) -> DeepfakeNet:
    return load_network(tiny_checkpoint)[1]


def test_a_score_does_not_depend_on_its_batch(network: DeepfakeNet, make_crops: MakeCrops) -> None:
    crops = torch.from_numpy(make_crops(6))
    whole = network(crops)
    assert whole.shape == (6, 4)
    assert whole.std(0).min() > 0.01
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    padded = torch.cat([crops, torch.zeros_like(crops[:3])])
    torch.testing.assert_close(network(crops[order]), whole[order], atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.cat([network(crops[:1]), network(crops[1:])]), whole, atol=1e-4, rtol=0)
    torch.testing.assert_close(network(padded)[:6], whole, atol=1e-4, rtol=0)


def test_the_same_crops_score_the_same_twice(network: DeepfakeNet, make_crops: MakeCrops) -> None:
    crops = torch.from_numpy(make_crops(3))
    assert torch.equal(network(crops), network(crops))


def test_normalisation_is_inside(network: DeepfakeNet, make_crops: MakeCrops) -> None:
    crops = make_crops(2)
    by_hand = (crops / 255.0 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    pixels = torch.from_numpy(by_hand.transpose(0, 3, 1, 2).astype(np.float32))
    torch.testing.assert_close(network.normalise(torch.from_numpy(crops)), pixels, atol=1e-5, rtol=0)
    torch.testing.assert_close(network(torch.from_numpy(crops)), network.forward_normalised(pixels), atol=1e-4, rtol=0)


def test_the_score_is_the_log_odds_of_fake() -> None:
    logits = torch.tensor([[2.0, 0.5, -1.0, 3.0], [0.0, 0.0, 0.0, 0.0]])
    real = logits.softmax(1)[:, 0]
    torch.testing.assert_close(torch.sigmoid(score_logit(logits)), 1 - real)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_byobnet", "test_efficientnet"])
@pytest.mark.parametrize("head", ["diffusion", "linear", "card"])
def test_backbones_and_heads_are_configurable(backbone: str, head: str) -> None:
    network = build(backbone=backbone, head=head, families=3, hidden_dim=8, num_steps=2).eval()  # type: ignore[arg-type]
    assert network(torch.zeros(2, 64, 64, 3, dtype=torch.uint8)).shape == (2, 3)


def test_unknown_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown head"):
        build(backbone="test_resnet", head="quantum")  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="no_such_net"):
        build(backbone="no_such_net")
