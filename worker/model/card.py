"""CARD: the label is the diffused state, given the picture and a prior guess (Han, Zheng, Zhou 2022, arXiv 2206.07275).

Forward: ``y_t = sqrt(abar_t) y_0 + (1 - sqrt(abar_t)) f + sqrt(1 - abar_t) eps``, hence ``y_T ~ N(f, I)``, f the prior.
Backward: a denoiser guesses ``eps``; every draw starts from noise of its own and ends at a reconstructed label ``yhat_0``.

Noise is no random event here but a part of the checkpoint, the same for every face: a crop's score depends neither on its batch
nor on its place in it. Axes: F faces, N draws, S steps, K families, D features, H hidden units.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

BETA_FIRST, BETA_LAST = 0.01, 0.95
Predict = Callable[[Tensor, int], Tensor]
"""(y_t [F, N, K], t) -> the noise guessed to be in it [F, N, K]."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """``alpha_bar[t]`` for t = 0..T, falling from 1; t = 0 is the clean label."""

    alpha_bar: tuple[float, ...]

    @property
    def num_steps(self) -> int:
        return len(self.alpha_bar) - 1

    def alpha(self, t: int) -> float:
        return self.alpha_bar[t] / self.alpha_bar[t - 1]

    def posterior(self, t: int) -> tuple[float, float, float, float]:
        """(g0, g1, g2, variance) of ``y_{t-1} = g0 y_0 + g1 y_t + g2 f + sqrt(variance) z``, t = 1..T.

        The preprint prints the variance itself before ``z``; its square root is right.
        """
        before, now, alpha = self.alpha_bar[t - 1], self.alpha_bar[t], self.alpha(t)
        beta = 1 - alpha
        g0 = beta * math.sqrt(before) / (1 - now)
        g1 = (1 - before) * math.sqrt(alpha) / (1 - now)
        g2 = 1 + (math.sqrt(now) - 1) * (math.sqrt(alpha) + math.sqrt(before)) / (1 - now)
        return g0, g1, g2, (1 - before) * beta / (1 - now)


def linear_schedule(num_steps: int) -> Schedule:
    """Betas on a line: with ten steps, CARD's setting for ImageNet. Raises ValueError below two steps."""
    if num_steps < 2:
        raise ValueError(f"num_steps {num_steps}: label diffusion needs two or more")
    betas = [BETA_FIRST + (BETA_LAST - BETA_FIRST) * step / (num_steps - 1) for step in range(num_steps)]
    return Schedule(tuple(itertools.accumulate(betas, lambda kept, beta: kept * (1 - beta), initial=1.0)))


def diffuse(clean: Tensor, prior: Tensor, noise: Tensor, alpha_bar: float | Tensor) -> Tensor:
    """``y_t`` from ``y_0``: the forward marginal. All of shape [..., K]; a tensor ``alpha_bar`` broadcasts against them."""
    root, spread = _roots(alpha_bar)
    return root * clean + (1 - root) * prior + spread * noise


def recover(state: Tensor, prior: Tensor, noise: Tensor, alpha_bar: float | Tensor) -> Tensor:
    """``yhat_0`` from ``y_t`` and the noise in it: ``diffuse`` solved for ``clean``."""
    root, spread = _roots(alpha_bar)
    return (state - (1 - root) * prior - spread * noise) / root


def _roots(alpha_bar: float | Tensor) -> tuple[float | Tensor, float | Tensor]:
    if isinstance(alpha_bar, Tensor):
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    return math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)


def reverse_chain(schedule: Schedule, predict: Predict, prior_F1K: Tensor, noise_NSK: Tensor) -> Tensor:
    """``yhat_0`` [F, N, K] by the ancestral chain. ``noise[:, 0]`` starts it, ``noise[:, i]`` is the i-th step's ``z``."""
    state_FNK = prior_F1K + noise_NSK[:, 0]
    for place, t in enumerate(range(schedule.num_steps, 1, -1), start=1):
        clean_FNK = recover(state_FNK, prior_F1K, predict(state_FNK, t), schedule.alpha_bar[t])
        g0, g1, g2, variance = schedule.posterior(t)
        state_FNK = g0 * clean_FNK + g1 * state_FNK + g2 * prior_F1K + math.sqrt(variance) * noise_NSK[:, place]
    return recover(state_FNK, prior_F1K, predict(state_FNK, 1), schedule.alpha_bar[1])


def reverse_ddim(schedule: Schedule, predict: Predict, prior_F1K: Tensor, start_NK: Tensor, *, stride: int = 1) -> Tensor:
    """``yhat_0`` [F, N, K] by DDIM with eta = 0 and the prior as mean, at every ``stride``-th step from T on."""
    state_FNK = prior_F1K + start_NK
    steps = list(range(schedule.num_steps, 0, -stride))
    for t, following in itertools.zip_longest(steps, steps[1:]):
        noise_FNK = predict(state_FNK, t)
        clean_FNK = recover(state_FNK, prior_F1K, noise_FNK, schedule.alpha_bar[t])
        if following is not None:
            state_FNK = diffuse(clean_FNK, prior_F1K, noise_FNK, schedule.alpha_bar[following])
    return clean_FNK


def antithetic_steps(count: int, num_steps: int, generator: torch.Generator | None = None) -> Tensor:
    """int64 [count] in 1..T: the second half mirrors the first, so that early and late steps are drawn equally often."""
    half = torch.randint(1, num_steps + 1, ((count + 1) // 2,), generator=generator)
    return torch.cat([half, num_steps + 1 - half])[:count]


class Denoiser(nn.Module):
    """``eps_theta(x, y_t, f, t)``: linear layers whose outputs a learnt embedding of t gates; the picture enters once, encoded.

    Layer norms stand where CARD has batch norms, so that a row never depends on its batch, not even in training.
    """

    def __init__(self, input_dim: int, hidden_dim: int, num_classes: int, num_steps: int) -> None:
        super().__init__()
        self.picture = nn.Sequential(nn.LayerNorm(input_dim), nn.Linear(input_dim, hidden_dim), nn.LayerNorm(hidden_dim))
        self.label = nn.Linear(2 * num_classes, hidden_dim)
        self.label_gate = nn.Parameter(torch.rand(num_steps, hidden_dim))
        self.label_norm = nn.LayerNorm(hidden_dim)
        self.joint = nn.Linear(hidden_dim, hidden_dim)
        self.joint_gate = nn.Parameter(torch.rand(num_steps, hidden_dim))
        self.joint_norm = nn.LayerNorm(hidden_dim)
        self.noise = nn.Linear(hidden_dim, num_classes)

    def encode(self, features_FD: Tensor) -> Tensor:
        """float [F, D] -> float [F, 1, H]; computed once for all steps and draws."""
        picture_FH: Tensor = self.picture(features_FD)
        return picture_FH.unsqueeze(1)

    def forward(self, picture_F1H: Tensor, state_FNK: Tensor, prior_F1K: Tensor, t: int | Tensor) -> Tensor:
        """The noise in ``state`` [F, N, K] at step ``t`` (1..T), or at a step for each face (int64 [F])."""
        # As the layer of both labels side by side. To put them there, the prior would be repeated for every draw, and a graph
        # that asks for the number of crops cannot be cut behind the features (worker.backends.openvino_parts).
        of_state_HK, of_prior_HK = self.label.weight.tensor_split(2, dim=1)
        labels_FNH = nn.functional.linear(state_FNK, of_state_HK) + nn.functional.linear(prior_F1K, of_prior_HK, self.label.bias)
        hidden_FNH = nn.functional.softplus(self.label_norm(labels_FNH * self._at(self.label_gate, t)))
        hidden_FNH = hidden_FNH * picture_F1H
        hidden_FNH = nn.functional.softplus(self.joint_norm(self.joint(hidden_FNH) * self._at(self.joint_gate, t)))
        noise_FNK: Tensor = self.noise(hidden_FNH)
        return noise_FNK

    @staticmethod
    def _at(gate_SH: Tensor, t: int | Tensor) -> Tensor:
        return gate_SH[t - 1] if isinstance(t, int) else gate_SH[t - 1].unsqueeze(1)


class CardHead(nn.Module):
    """Features to family logits through N reconstructed labels; a linear softmax layer is the prior.

    A draw's logit is ``(max_k yhat_0[fake k] - yhat_0[real]) / tau`` with ``yhat_0`` clamped to [0, 1]: monotone, as CARD's own
    ``softmax(-(yhat_0 - 1)^2 / tau)`` is not: a very sure (2, 0) is undecided there. ``tau`` is fitted on held-out data. All is
    computed in float32, whatever surrounds it: ``1 / sqrt(abar_T)`` is about 100. ``ddim_stride`` 0 samples by the whole chain.

    Raises ValueError for sizes that make no head.
    """

    alpha_bar_S: Tensor
    noise_NSK: Tensor
    tau: Tensor

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        num_classes: int,
        num_steps: int = 10,
        *,
        draws: int = 50,
        ddim_stride: int = 0,
        tau: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if num_classes < 2 or draws < 1 or not 0 <= ddim_stride < num_steps or not tau > 0:
            raise ValueError(f"num_classes {num_classes}, draws {draws}, ddim_stride {ddim_stride}, tau {tau}: no such head")
        self.schedule = linear_schedule(num_steps)
        self.num_classes, self.ddim_stride = num_classes, ddim_stride
        self.prior = nn.Linear(input_dim, num_classes)
        self.denoiser = Denoiser(input_dim, hidden_dim, num_classes, num_steps)
        noise_NSK = torch.randn(draws, num_steps, num_classes, generator=torch.Generator().manual_seed(seed))
        # Rounded as a checkpoint rounds it, so that a head scores alike before and after it was saved.
        self.register_buffer("noise_NSK", noise_NSK.half().float())
        self.register_buffer("tau", torch.tensor([tau]))
        self.register_buffer("alpha_bar_S", torch.tensor(self.schedule.alpha_bar), persistent=False)

    def guess(self, features_FD: Tensor) -> Tensor:
        """The prior ``f``: float [F, D] -> probabilities [F, K]."""
        return torch.softmax(self.prior(features_FD), dim=-1)

    def reconstruct(self, features_FD: Tensor) -> Tensor:
        """``yhat_0`` of every draw, as it is: float [F, D] -> float [F, N, K]."""
        picture_F1H, prior_F1K = self.denoiser.encode(features_FD), self.guess(features_FD).unsqueeze(1)

        def predict(state_FNK: Tensor, t: int) -> Tensor:
            noise_FNK: Tensor = self.denoiser(picture_F1H, state_FNK, prior_F1K, t)
            return noise_FNK

        if self.ddim_stride:
            return reverse_ddim(self.schedule, predict, prior_F1K, self.noise_NSK[:, 0], stride=self.ddim_stride)
        return reverse_chain(self.schedule, predict, prior_F1K, self.noise_NSK)

    def outputs(self, features_FD: Tensor) -> tuple[Tensor, Tensor]:
        """float [F, D] -> family logits [F, K] and the logit fake against real of every draw [F, N].

        ``score_logit`` of the family logits is the mean over the draws; the mean ``yhat_0`` splits fake among its families.
        """
        device = features_FD.device.type
        if torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                return self._outputs(features_FD.float())
        return self._outputs(features_FD)

    def _outputs(self, features_FD: Tensor) -> tuple[Tensor, Tensor]:
        clean_FNK = self.reconstruct(features_FD).clamp(0.0, 1.0)
        draws_FN = (clean_FNK[..., 1:].amax(-1) - clean_FNK[..., 0]) / self.tau
        score_F1 = draws_FN.mean(1, keepdim=True)
        fakes_FK = torch.log_softmax(clean_FNK[..., 1:].mean(1) / self.tau, dim=-1)
        return torch.cat([torch.zeros_like(score_F1), score_F1 + fakes_FK], dim=1), draws_FN

    def forward(self, features_FD: Tensor) -> Tensor:
        """float [F, D] -> family logits [F, K]."""
        return self.outputs(features_FD)[0]

    def loss(self, features_FD: Tensor, family_F: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """``mean ||eps - eps_theta||^2`` at antithetic steps; the prior gets no gradient. ``generator`` is on the CPU."""
        device = features_FD.device
        with torch.autocast(device.type, enabled=False):
            features_FD = features_FD.float()
            t_F = antithetic_steps(len(features_FD), self.schedule.num_steps, generator).to(device)
            noise_F1K = torch.randn(len(features_FD), 1, self.num_classes, generator=generator).to(device)
            clean_F1K = nn.functional.one_hot(family_F, self.num_classes).to(noise_F1K.dtype).unsqueeze(1)
            prior_F1K = self.guess(features_FD).detach().unsqueeze(1)
            state_F1K = diffuse(clean_F1K, prior_F1K, noise_F1K, self.alpha_bar_S[t_F].view(-1, 1, 1))
            guessed_F1K = self.denoiser(self.denoiser.encode(features_FD), state_F1K, prior_F1K, t_F)
            return nn.functional.mse_loss(guessed_F1K, noise_F1K)

    def joint_loss(self, features_FD: Tensor, family_F: Tensor) -> Tensor:
        """``loss`` plus the prior's cross-entropy, for training both at once with the backbone."""
        device = features_FD.device.type
        with torch.autocast(device, enabled=False):
            logits_FK = self.prior(features_FD.float())
            entropy = nn.functional.cross_entropy(logits_FK, family_F)
        return entropy + self.loss(features_FD, family_F)
