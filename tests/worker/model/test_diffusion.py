"""The diffusion head: its schedule, its unrolled steps, and that nothing random or batch-dependent is in them."""

from __future__ import annotations

import pytest
import torch

from worker.model.diffusion import DiffusionLayer, step_weights


@pytest.fixture
def layer() -> DiffusionLayer:
    torch.manual_seed(0)
    return DiffusionLayer(input_dim=24, hidden_dim=8, num_classes=4, num_steps=3)


def test_weights_fall_from_a_half() -> None:
    weights = step_weights(4)
    assert weights[0] == pytest.approx(0.5)
    assert list(weights) == sorted(weights, reverse=True)
    assert weights[-1] > 0


def test_no_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="num_steps"):
        step_weights(0)


def test_steps_follow_the_papers_recurrence(layer: DiffusionLayer) -> None:
    features = torch.randn(5, 24)
    state = features
    for weight, embedding in zip(step_weights(3), layer.step_embedding, strict=True):
        guess = layer.decoder(torch.nn.functional.silu(layer.encoder(layer.norm(state)) + embedding))
        state = state + weight * (guess - state)
    assert torch.allclose(layer(features), layer.classifier(state), atol=1e-6)


def test_a_row_does_not_depend_on_its_batch(layer: DiffusionLayer) -> None:
    features = torch.randn(7, 24)
    whole, order = layer(features), torch.randperm(7)
    assert torch.allclose(layer(features[order]), whole[order], atol=1e-6)
    assert torch.allclose(torch.cat([layer(features[:3]), layer(features[3:])]), whole, atol=1e-6)
    assert torch.allclose(layer(torch.cat([features, torch.zeros(4, 24)]))[:7], whole, atol=1e-6)
    assert torch.equal(layer(features), whole)


def test_every_step_matters(layer: DiffusionLayer) -> None:
    features = torch.randn(5, 24)
    before = layer(features)
    for step in range(3):
        with torch.no_grad():
            layer.step_embedding[step] += 1
        assert not torch.allclose(layer(features), before)
        before = layer(features)
