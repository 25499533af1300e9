"""The mask branch: it learns where a fake was made, and crops of which nobody knows do not count."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from training.maskbranch import MaskBranch
from worker.errors import ConfigError
from worker.model.network import DeepfakeNet, build


@pytest.fixture
def network() -> DeepfakeNet:
    torch.manual_seed(1)
    return build(backbone="test_efficientnet", hidden_dim=16, num_steps=1)


def test_it_learns_where(network: DeepfakeNet) -> None:
    """A bright square in one corner or another."""
    branch = MaskBranch(network)
    optimizer = torch.optim.AdamW([*network.parameters(), *branch.parameters()], lr=3e-3)
    pixels_FCHW, where_FHW = torch.zeros(4, 3, 64, 64), torch.zeros(4, 4, 4)
    for crop, (row, column) in enumerate(((0, 0), (0, 2), (2, 0), (2, 2))):
        pixels_FCHW[crop, :, 16 * row : 16 * row + 32, 16 * column : 16 * column + 32] = 2.0
        where_FHW[crop, row : row + 2, column : column + 2] = 1
    losses = []
    for _ in range(40):
        network.forward_normalised(pixels_FCHW)
        loss = branch.loss(where_FHW)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    taught = network.backbone.conv_stem.weight.grad
    assert taught is not None, "it teaches the backbone nothing"
    assert taught.abs().max() > 0


def test_what_nobody_knows_does_not_count(network: DeepfakeNet) -> None:
    branch = MaskBranch(network)
    network.eval()
    pixels_FCHW = torch.randn(3, 3, 32, 32)
    where_FHW = torch.tensor([0.0, 1.0, float("nan")]).view(3, 1, 1).expand(3, 2, 2)
    network.forward_normalised(pixels_FCHW)
    some = branch.loss(where_FHW)
    network.forward_normalised(pixels_FCHW[:2])
    assert torch.allclose(some, branch.loss(where_FHW[:2]), atol=1e-6)
    network.forward_normalised(pixels_FCHW)
    assert float(branch.loss(torch.full((3, 2, 2), float("nan")))) == 0


def test_a_loss_is_of_a_pass(network: DeepfakeNet) -> None:
    branch = MaskBranch(network)
    with torch.no_grad():
        network.forward_normalised(torch.randn(2, 3, 64, 64))
    with pytest.raises(RuntimeError, match="not called"):
        branch.loss(torch.zeros(2, 4, 4))


def test_a_backbone_without_such_features_is_refused() -> None:
    with pytest.raises(ConfigError, match="mask_weight"):
        MaskBranch(DeepfakeNet(nn.Flatten(), nn.Linear(12, 4)))
    with pytest.raises(ConfigError, match="mask_weight"):  # rows of tokens, no maps
        MaskBranch(build(backbone="test_vit", hidden_dim=16, num_steps=1))


def test_the_network_is_left_as_it_was(network: DeepfakeNet) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    MaskBranch(network)
    assert network.training
    assert network.backbone.training
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
