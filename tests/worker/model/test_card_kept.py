"""CARD's head gives what it gave: checkpoints hold its weights and noise, and a run that goes on draws what it would have."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from worker.model.card import CardHead


def waves(count: int) -> torch.Tensor:
    return torch.sin(0.7 * torch.arange(count))


@torch.no_grad()
@pytest.mark.parametrize(
    ("ddim_stride", "families", "draws"),
    [
        (0, [[0.0, 0.76945, 0.07303], [0.0, 0.86807, -0.11294]], [[2.0, 0.34766], [2.0, 0.37295]]),
        (3, [[0.0, 0.58860, -0.11935], [0.0, 0.65559, -0.22492]], [[2.0, -0.02170], [2.0, 0.00483]]),
    ],
)
def test_weights_of_a_checkpoint_go_on_to_mean_the_same(
    ddim_stride: int, families: list[list[float]], draws: list[list[float]]
) -> None:
    head = CardHead(5, 4, 3, draws=2, tau=0.5, ddim_stride=ddim_stride).eval()
    for value in head.parameters():
        value.copy_(0.3 * waves(value.numel()).view_as(value))
    head.noise_NSK.copy_(0.01 * waves(60).view(2, 10, 3))
    head.denoiser.noise.weight *= 0.002 / 0.3
    head.denoiser.noise.bias *= 0.002 / 0.3
    found_families, found_draws = head.outputs(torch.sin(torch.arange(10.0)).view(2, 5))
    np.testing.assert_allclose(found_families, families, atol=1e-3)
    np.testing.assert_allclose(found_draws, draws, atol=1e-3)


@torch.no_grad()
def test_a_loss_follows_from_its_generator_also_under_autocast() -> None:
    torch.manual_seed(0)
    head = CardHead(24, 16, 4, draws=6)
    features, family = torch.randn(9, 24), torch.arange(9) % 4

    def loss(seed: int) -> torch.Tensor:
        return head.loss(features, family, torch.Generator().manual_seed(seed))

    assert torch.equal(loss(1), loss(1))
    assert not torch.equal(loss(1), loss(2))
    with torch.autocast("cpu", torch.bfloat16):
        under = loss(1)
    assert float(under) == pytest.approx(float(loss(1)), rel=1e-6)


@torch.no_grad()
def test_a_step_for_each_face_is_the_same_step_for_all() -> None:
    """Training draws a step for each; a scan takes all faces through the same ones."""
    torch.manual_seed(0)
    denoiser = CardHead(24, 16, 4, draws=6).denoiser
    picture, state, prior = denoiser.encode(torch.randn(10, 24)), torch.randn(10, 1, 4), torch.rand(10, 1, 4)
    each = denoiser(picture, state, prior, torch.arange(1, 11))
    same = [denoiser(picture[[t - 1]], state[[t - 1]], prior[[t - 1]], t) for t in range(1, 11)]
    np.testing.assert_allclose(each, torch.cat(same), atol=1e-5)


def test_the_joint_loss_trains_prior_and_denoiser() -> None:
    torch.manual_seed(0)
    head = CardHead(24, 16, 4, draws=6)
    head.joint_loss(torch.randn(8, 24), torch.arange(8) % 4).backward()  # type: ignore[no-untyped-call]
    assert head.prior.weight.grad is not None
    assert head.denoiser.noise.weight.grad is not None
