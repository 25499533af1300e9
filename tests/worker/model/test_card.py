"""CARD's equations, each against another way to the same number, and the head as the backends run it."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
import torch
from torch import Tensor

from worker.backends.artefact import GATES
from worker.backends.candidates import precision_of
from worker.backends.onnx import OnnxClassifier
from worker.backends.openvino import OpenVinoClassifier, bf16_lacking
from worker.backends.torch import TorchClassifier
from worker.model import checkpoint
from worker.model.card import CardHead, Denoiser, antithetic_steps, diffuse, linear_schedule, recover, reverse_chain, reverse_ddim
from worker.model.graph import DRAWS, INPUT, LOGIT
from worker.model.network import score_logit
from worker.model.restore import load_network
from worker.types import Float32, UInt8

STEPS = range(1, 11)


@pytest.fixture
def head() -> CardHead:
    torch.manual_seed(0)
    return CardHead(24, 16, 4, draws=6).eval()


def oracle(clean: Tensor, prior: Tensor) -> Callable[[Tensor, int], Tensor]:
    """A denoiser that knows the label, and so the true noise in any state."""
    alpha_bar = linear_schedule(10).alpha_bar

    def predict(state: Tensor, t: int) -> Tensor:
        root = math.sqrt(alpha_bar[t])
        return (state - root * clean - (1 - root) * prior) / math.sqrt(1 - alpha_bar[t])

    return predict


def test_the_schedule_is_that_of_the_paper() -> None:
    schedule = linear_schedule(10)
    assert schedule.num_steps == 10
    assert [round(1 - schedule.alpha(t), 6) for t in (1, 10)] == [0.01, 0.95]
    assert schedule.alpha_bar[0] == 1
    assert 100 < 1 / math.sqrt(schedule.alpha_bar[10]) < 110
    assert linear_schedule(1000).num_steps == 1000
    with pytest.raises(ValueError, match="two or more"):
        linear_schedule(1)


def test_the_forward_marginal_is_what_single_steps_lead_to() -> None:
    """``y_t = sqrt(alpha_t) y_{t-1} + (1 - sqrt(alpha_t)) f + sqrt(beta_t) z``, simulated; two moments at every step."""
    generator = torch.Generator().manual_seed(1)
    schedule, clean, prior = linear_schedule(10), torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.2, 0.7, 0.1])
    walk = clean.expand(40_000, 3)
    for t in STEPS:
        alpha = schedule.alpha(t)
        noise = torch.randn(walk.shape, generator=generator)
        walk = math.sqrt(alpha) * walk + (1 - math.sqrt(alpha)) * prior + math.sqrt(1 - alpha) * noise
        jump = diffuse(clean, prior, torch.randn(walk.shape, generator=generator), schedule.alpha_bar[t])
        torch.testing.assert_close(walk.mean(0), jump.mean(0), atol=0.03, rtol=0)
        torch.testing.assert_close(walk.var(0), jump.var(0), atol=0.03, rtol=0)
    torch.testing.assert_close(walk.mean(0), prior, atol=0.03, rtol=0)


def test_recover_undoes_diffuse_at_every_step() -> None:
    clean, prior, noise = torch.randn(3, 5, 4, dtype=torch.float64).unbind(0)
    for alpha_bar in linear_schedule(10).alpha_bar:
        torch.testing.assert_close(recover(diffuse(clean, prior, noise, alpha_bar), prior, noise, alpha_bar), clean)
    each = torch.tensor(linear_schedule(10).alpha_bar[1:6], dtype=torch.float64).unsqueeze(1)
    torch.testing.assert_close(diffuse(clean, prior, noise, each)[2], diffuse(clean[2], prior[2], noise[2], float(each[2])))


@pytest.mark.parametrize("t", STEPS)
def test_the_backward_step_is_the_posterior_of_the_forward_one(t: int) -> None:
    """Against Bayes' rule for two Gaussians, and against the marginal that the step must lead back to."""
    schedule = linear_schedule(10)
    g0, g1, g2, variance = schedule.posterior(t)
    before, now, alpha = schedule.alpha_bar[t - 1], schedule.alpha_bar[t], schedule.alpha(t)
    clean, prior, state = 1.0, 0.3, -0.8
    if t > 1:
        mean = math.sqrt(before) * clean + (1 - math.sqrt(before)) * prior
        seen = (state - (1 - math.sqrt(alpha)) * prior) / math.sqrt(alpha)
        precision, seen_precision = 1 / (1 - before), alpha / (1 - alpha)
        assert variance == pytest.approx(1 / (precision + seen_precision))
        assert g0 * clean + g1 * state + g2 * prior == pytest.approx(variance * (precision * mean + seen_precision * seen))
    assert g0 + g1 + g2 == pytest.approx(1)
    assert g0 + g1 * math.sqrt(now) == pytest.approx(math.sqrt(before))
    assert g2 + g1 * (1 - math.sqrt(now)) == pytest.approx(1 - math.sqrt(before))
    assert g1**2 * (1 - now) + variance == pytest.approx(1 - before)


def test_the_reverse_chains_find_the_label_from_the_true_noise() -> None:
    torch.manual_seed(2)
    clean = torch.eye(4, dtype=torch.float64).unsqueeze(1)
    prior = torch.softmax(torch.randn(4, 1, 4, dtype=torch.float64), -1)
    noise = torch.randn(7, 10, 4, dtype=torch.float64)
    schedule, predict = linear_schedule(10), oracle(clean, prior)
    torch.testing.assert_close(reverse_chain(schedule, predict, prior, noise), clean.expand(4, 7, 4))
    for stride in (1, 2, 3, 9):
        torch.testing.assert_close(reverse_ddim(schedule, predict, prior, noise[:, 0], stride=stride), clean.expand(4, 7, 4))


def test_the_reverse_chain_walks_back_through_the_marginals() -> None:
    """With the true noise known, the states that the denoiser meets are spread as the forward process spreads them."""
    generator = torch.Generator().manual_seed(3)
    schedule, clean, prior = linear_schedule(10), torch.tensor([[[0.0, 1.0]]]), torch.tensor([[[0.4, 0.6]]])
    met: dict[int, Tensor] = {}
    known = oracle(clean, prior)

    def predict(state: Tensor, t: int) -> Tensor:
        met[t] = state
        return known(state, t)

    start = schedule.alpha_bar[10]
    noise = torch.randn(30_000, 10, 2, generator=generator)
    noise[:, 0] = diffuse(clean, prior, noise[:, 0], start) - prior  # the chain starts at the prior; here at the true y_T
    reverse_chain(schedule, predict, prior, noise)
    for t in STEPS:
        root = math.sqrt(schedule.alpha_bar[t])
        torch.testing.assert_close(met[t].mean((0, 1)), (root * clean + (1 - root) * prior)[0, 0], atol=0.03, rtol=0)
        torch.testing.assert_close(met[t].var((0, 1)), torch.full((2,), 1 - root**2), atol=0.03, rtol=0)


def test_steps_are_drawn_in_mirrored_pairs() -> None:
    steps = antithetic_steps(7, 10, torch.Generator().manual_seed(0))
    assert len(steps) == 7
    assert (steps[:3] + steps[4:] == 11).all()
    many = antithetic_steps(10_000, 10, torch.Generator().manual_seed(0))
    assert set(many.tolist()) == set(STEPS)
    assert torch.bincount(many, minlength=11)[1:].float().std() < 60


class Given(CardHead):
    """A head whose draws all end at given labels."""

    def ends(self, real: float, fake: float) -> float:
        """The score where the second family of three fakes is the greatest."""
        self.labels = torch.tensor([real, fake - 1, fake, fake - 2])
        return float(score_logit(self(torch.zeros(1, 24))))

    def reconstruct(self, features_FD: Tensor) -> Tensor:
        return self.labels.expand(len(features_FD), 6, 4)


def test_probability_rises_with_fake_and_falls_with_real() -> None:
    head = Given(24, 16, 4, draws=6)
    for real in (-1.0, 0.0, 0.3, 1.0, 3.0):
        scores = [head.ends(real, fake) for fake in (-1.0, 0.0, 0.2, 0.5, 0.9, 1.0, 2.0, 5.0)]
        assert scores == sorted(scores)
    for fake in (0.0, 0.5, 2.0):
        scores = [head.ends(real, fake) for real in (-1.0, 0.0, 0.5, 1.0, 4.0)]
        assert scores == sorted(scores, reverse=True)
    assert head.ends(0.0, 2.0) == pytest.approx(10, abs=1e-3)  # the very sure (2, 0) is sure, at tau = 0.1


def test_the_score_is_the_mean_of_the_draws_logits(head: CardHead) -> None:
    features = torch.randn(5, 24)
    families, draws = head.outputs(features)
    assert families.shape == (5, 4)
    assert draws.shape == (5, 6)
    assert draws.std(1).min() > 1e-3
    torch.testing.assert_close(score_logit(families), draws.mean(1))
    torch.testing.assert_close(head(features), families)


def test_a_row_does_not_depend_on_its_batch(head: CardHead) -> None:
    features, order = torch.randn(7, 24), torch.randperm(7)
    families, draws = head.outputs(features)
    torch.testing.assert_close(head.outputs(features[order])[1], draws[order], atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.cat([head(features[:3]), head(features[3:])]), families, atol=1e-4, rtol=0)
    torch.testing.assert_close(head(torch.cat([features, torch.zeros(4, 24)]))[:7], families, atol=1e-4, rtol=0)
    same = head.outputs(features[:1].expand(3, 24))[1]
    torch.testing.assert_close(same, draws[:1].expand(3, 6), atol=1e-4, rtol=0)


def test_the_fast_sampler_runs_over_every_so_manieth_step() -> None:
    torch.manual_seed(0)
    whole = CardHead(24, 16, 4, draws=6, ddim_stride=1).eval()
    fast = CardHead(24, 16, 4, draws=6, ddim_stride=5).eval()
    fast.load_state_dict(whole.state_dict())
    features = torch.randn(3, 24)
    before = fast(features)
    assert not torch.allclose(whole(features), before)
    with torch.no_grad():
        fast.denoiser.label_gate[[0, 1, 2, 3, 5, 6, 7, 8]] += 1  # steps 10 and 5 are all that it takes
    assert torch.equal(fast(features), before)


def test_noise_follows_from_the_seed_and_is_saved() -> None:
    def made(seed: int) -> CardHead:
        torch.manual_seed(9)
        return CardHead(24, 16, 4, draws=6, seed=seed).eval()

    features = torch.randn(3, 24)
    assert torch.equal(made(0)(features), made(0)(features))
    assert not torch.equal(made(0)(features), made(1)(features))
    other = made(1)
    other.load_state_dict(made(0).state_dict())
    assert torch.equal(other(features), made(0)(features))
    noise = other.state_dict()["noise_NSK"]
    assert noise.shape == (6, 10, 4)
    assert torch.equal(noise, noise.half().float())


def test_every_step_and_draw_matters(head: CardHead) -> None:
    features = torch.randn(3, 24)
    before = head.reconstruct(features)
    for step in range(10):
        with torch.no_grad():
            head.denoiser.label_gate[step] += 1
        after = head.reconstruct(features)
        assert not torch.allclose(after, before)
        before = after


class Watched(Denoiser):
    """Counts encodings, and guesses with ``guess`` where that is given."""

    encoded = 0
    guess: Callable[[Tensor, Tensor, int | Tensor], Tensor] | None = None

    def encode(self, features_FD: Tensor) -> Tensor:
        self.encoded += 1
        return super().encode(features_FD)

    def forward(self, picture_F1H: Tensor, state_FNK: Tensor, prior_F1K: Tensor, t: int | Tensor) -> Tensor:
        if self.guess is not None:
            return self.guess(state_FNK, prior_F1K, t)
        return super().forward(picture_F1H, state_FNK, prior_F1K, t)


@pytest.fixture
def watched(head: CardHead) -> Watched:
    head.denoiser = Watched(24, 16, 4, 10)
    return head.denoiser


def test_the_picture_is_encoded_once(head: CardHead, watched: Watched) -> None:
    head(torch.randn(2, 24))
    assert watched.encoded == 1


def test_the_head_stays_in_float32_under_autocast(head: CardHead) -> None:
    features = torch.randn(4, 24)
    with torch.autocast("cpu", torch.bfloat16):
        families, draws = head.outputs(features)
        loss = head.joint_loss(features, torch.tensor([0, 1, 2, 3]))
    assert families.dtype == draws.dtype == loss.dtype == torch.float32
    torch.testing.assert_close(families, head(features))


@torch.no_grad()
def test_the_loss_is_the_error_of_the_guessed_noise(head: CardHead, watched: Watched) -> None:
    """A denoiser that knows the labels has none; one that guesses 0 has the noise's variance."""
    features, family = torch.randn(512, 24), torch.randint(0, 4, (512,))
    clean, prior = torch.nn.functional.one_hot(family, 4).float().unsqueeze(1), head.guess(features).unsqueeze(1)

    def knowing(state: Tensor, given: Tensor, t: int | Tensor) -> Tensor:
        torch.testing.assert_close(given, prior)
        alpha_bar = head.alpha_bar_S[t].view(-1, 1, 1)
        return (state - alpha_bar.sqrt() * clean - (1 - alpha_bar.sqrt()) * prior) / (1 - alpha_bar).sqrt()

    watched.guess = knowing
    assert float(head.loss(features, family)) < 1e-6
    watched.guess = lambda state, given, t: torch.zeros_like(state)
    assert float(head.loss(features, family, torch.Generator().manual_seed(0))) == pytest.approx(1, abs=0.1)


def test_the_prior_learns_from_its_own_loss_alone(head: CardHead) -> None:
    features, family = torch.randn(8, 24, requires_grad=True), torch.randint(0, 4, (8,))
    head.loss(features, family).backward()  # type: ignore[no-untyped-call]
    assert head.prior.weight.grad is None
    assert features.grad is not None
    assert head.denoiser.label.weight.grad is not None
    head.joint_loss(features, family).backward()  # type: ignore[no-untyped-call]
    assert head.prior.weight.grad is not None


def test_training_makes_labels_out_of_noise() -> None:
    """Four separable families: a few hundred steps, then right answers that the prior alone cannot give."""
    torch.manual_seed(0)
    centres = 3 * torch.randn(4, 8)
    head = CardHead(8, 32, 4, draws=4)
    optimizer = torch.optim.Adam(head.denoiser.parameters(), lr=5e-3)
    torch.nn.init.zeros_(head.prior.weight)
    torch.nn.init.zeros_(head.prior.bias)
    for _ in range(300):
        family = torch.randint(0, 4, (64,))
        loss = head.loss(centres[family] + torch.randn(64, 8), family)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    family = torch.arange(4).repeat(25)
    found = head.eval()(centres[family] + torch.randn(100, 8))
    assert ((score_logit(found) > 0) == (family > 0)).float().mean() > 0.95
    assert (found[family > 0, 1:].argmax(1) + 1 == family[family > 0]).float().mean() > 0.9


@pytest.mark.parametrize(
    "change",
    [
        {"num_classes": 1},
        {"num_steps": 1},
        {"draws": 0},
        {"ddim_stride": 10},
        {"ddim_stride": -1},
        {"tau": 0.0},
        {"tau": math.nan},
    ],
)
def test_impossible_heads_are_refused(change: dict[str, float]) -> None:
    sizes: dict[str, float] = {"input_dim": 8, "hidden_dim": 4, "num_classes": 4}
    with pytest.raises(ValueError, match=r"num_classes|num_steps"):
        CardHead(**(sizes | change))  # type: ignore[arg-type]


def test_features_and_families_that_do_not_fit_are_refused(head: CardHead) -> None:
    with pytest.raises(RuntimeError):
        head(torch.randn(2, 23))
    with pytest.raises(RuntimeError):
        head.loss(torch.randn(2, 24), torch.tensor([0, 4]))


def test_both_backends_give_the_score_and_the_draws(tiny_card: tuple[Path, Path], make_crops: Callable[[int], UInt8]) -> None:
    path, onnx = tiny_card
    crops = make_crops(9)
    with_torch = TorchClassifier(path, threads=1, max_batch=4).scores(crops)
    others = [OnnxClassifier(onnx, threads=1, max_batch=9, checkpoint_sha256=checkpoint.sha256(path))]
    if importlib.util.find_spec("openvino"):
        others.append(OpenVinoClassifier(onnx, threads=1, max_batch=2))
        if bf16_lacking() is None:
            others.append(OpenVinoClassifier(onnx, threads=1, max_batch=2, precision="bf16"))
    assert with_torch.logit_F.std() > 0.05
    for other in others:
        scores, (most, _) = other.scores(crops), GATES[precision_of(other.name)]
        np.testing.assert_allclose(_p(scores.logit_F), _p(with_torch.logit_F), atol=most)
        assert scores.draws_FN.shape == (9, 5)
        np.testing.assert_allclose(_p(scores.draws_FN), _p(with_torch.draws_FN), atol=most if most < 0.01 else 3 * most)
    session = ort.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    draws, logit = session.run([DRAWS, LOGIT], {INPUT: crops})
    assert draws.shape == (9, 5)
    np.testing.assert_allclose(draws.mean(1), logit, atol=1e-4)
    order = np.random.default_rng(0).permutation(9)
    np.testing.assert_allclose(_p(session.run([LOGIT], {INPUT: crops[order]})[0]), _p(logit[order]), atol=1e-3)
    assert load_network(path)[1].head.noise_NSK.shape == (5, 10, 4)


def _p(logit_F: Float32) -> npt.NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-logit_F)), np.float64)
