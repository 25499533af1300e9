"""The diffusion classifier's head: features are a noisy state, denoised step by step, then classified (paper, section 3.3).

Axes: F crops, D features, E hidden units.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

BETA_FIRST, BETA_LAST = 0.05, 0.5


def step_weights(num_steps: int) -> tuple[float, ...]:
    """How far each step moves towards its denoised state, for s = S..1, from a linear beta schedule.

    ``g_s = 1 - sqrt(alpha_s)`` scaled so that the first (noisiest) step has weight 1/2: early steps move far, last ones refine.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps {num_steps} must be positive")
    span = max(1, num_steps - 1)
    betas = [BETA_FIRST + (BETA_LAST - BETA_FIRST) * step / span for step in range(num_steps)]
    raw = [1.0 - math.sqrt(1.0 - beta) for beta in betas]
    return tuple(0.5 * weight / raw[-1] for weight in reversed(raw))


class DiffusionLayer(nn.Module):
    """For s = S..1: ``h <- h + g_s * (decoder(encoder(h, emb(s))) - h)``; then ``logits = classifier(h)``.

    Deterministic: no noise is drawn here, so a crop's logits do not depend on its batch. Steps are unrolled for export. The step
    embedding is added after the encoder's normalisation, before its activation.
    """

    weights_S: Tensor

    def __init__(self, input_dim: int, hidden_dim: int, num_classes: int, num_steps: int) -> None:
        super().__init__()
        self.num_steps = num_steps
        self.register_buffer("weights_S", torch.tensor(step_weights(num_steps)), persistent=False)
        self.norm = nn.LayerNorm(input_dim)
        self.encoder = nn.Linear(input_dim, hidden_dim)
        self.step_embedding = nn.Parameter(torch.randn(num_steps, hidden_dim) * 0.02)
        self.decoder = nn.Linear(hidden_dim, input_dim)
        self.classifier = nn.Linear(input_dim, num_classes)

    def denoise(self, features_FD: Tensor) -> Tensor:
        """float [F, D] -> float [F, D], after all steps."""
        state_FD = features_FD
        for step, weight_E in enumerate(self.step_embedding.unbind(0)):
            hidden_FE = nn.functional.silu(self.encoder(self.norm(state_FD)) + weight_E)
            state_FD = state_FD + self.weights_S[step] * (self.decoder(hidden_FE) - state_FD)
        return state_FD

    def forward(self, features_FD: Tensor) -> Tensor:
        """float [F, D] -> logits [F, num_classes]."""
        logits: Tensor = self.classifier(self.denoise(features_FD))
        return logits
