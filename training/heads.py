"""Compares the heads on cached backbone features: linear, ``DiffusionLayer`` and ``CardHead``, equal steps, several seeds.

The backbone is a checkpoint's and stays as it is, so nothing but the head differs. CARD's prior is the linear head of the same
seed, frozen. Axes: F crops, D features, K families, N draws.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from scipy.optimize import minimize_scalar
from scipy.special import expit
from scipy.stats import spearmanr
from torch import Tensor, nn

from training.calibration import Clips, fit_platt, folds_by_group
from training.features import FAMILIES, Features, rows_of_split
from training.identity import rows_sha256
from training.metrics import (
    Bools,
    Floats,
    area_under_risk_coverage,
    auc,
    balanced_accuracy,
    class_weights,
    expected_calibration_error,
    log_loss,
    one_class,
    risk_coverage,
)
from training.prepare import Crop
from training.room import beside
from training.uncertainty import best_gate, pavpu
from worker.errors import ConfigError
from worker.model.card import CardHead
from worker.model.diffusion import DiffusionLayer
from worker.model.network import score_logit
from worker.verdict.draws import interval_width, paired_test

Loss = Callable[[Tensor, Tensor, torch.Generator], Tensor]
COVERAGES = np.linspace(0.02, 1.0, 50)
BATCH = 256
FOLDS = 5
PARTS = ("heldout", "leftout")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Of all heads alike; ``card_steps`` and ``draws`` are CARD's own."""

    steps: int = 1500
    batch: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.02
    hidden_dim: int = 256
    num_steps: int = 4
    card_steps: int = 10
    draws: int = 50


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """Of one head on one part: logits fake against real [F], with and without its steps, and how sure it is by its own means."""

    logit_F: Floats
    without_steps_F: Floats
    sure: dict[str, Floats]


def check_rows(rows: Sequence[Crop]) -> None:
    """Raises ConfigError where a split lacks a label, or one that judges has too few groups for ``cross_calibrated``."""
    parts = {split: rows_of_split(rows, split) for split in ("train", *PARTS)}
    for split in PARTS:
        groups = {label: sorted({row.group for row in parts[split] if row.label == label}) for label in ("real", "fake")}
        if len({row.group for row in parts[split]}) >= FOLDS and _every_fit_sees_both(parts[split]):
            continue
        told = "; ".join(f"{label} of {', '.join(names[:FOLDS])}" for label, names in groups.items())
        raise ConfigError(
            f"the comparison parts the groups of the split {split!r} into {FOLDS}, with real and fake crops outside of each: "
            f"they are too few ({told})"
        )


def _every_fit_sees_both(part: Sequence[Crop]) -> bool:
    fake_F = np.array([row.label == "fake" for row in part])
    fold_F = folds_by_group(np.array([row.group for row in part]), fake_F.astype(np.int64), FOLDS, seed=0)
    return not any(one_class(fake_F[fold_F != fold]) for fold in range(FOLDS))


def fit(head: nn.Module, loss: Loss, train: Features, settings: Settings, seed: int) -> None:
    """AdamW with half a cosine over random batches; these follow from the seed alone, so every head sees the same."""
    features_FD, family_F = torch.from_numpy(train.features_FD), torch.from_numpy(train.family_F)
    learnt = [value for value in head.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(learnt, lr=settings.lr, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    order, noise = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed + 1)
    for _ in range(settings.steps):
        rows = torch.randint(len(features_FD), (settings.batch,), generator=order)
        optimizer.zero_grad(set_to_none=True)
        loss(features_FD[rows], family_F[rows], noise).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    head.eval().requires_grad_(False)


def fit_heads(train: Features, settings: Settings, seed: int) -> dict[str, nn.Module]:
    """The three heads, in evaluation mode; CARD's ``tau`` is still to be fitted."""
    width, families = train.features_FD.shape[1], len(FAMILIES)
    torch.manual_seed(seed)
    linear = nn.Linear(width, families)
    diffusion = DiffusionLayer(width, settings.hidden_dim, families, settings.num_steps)
    card = CardHead(width, settings.hidden_dim, families, settings.card_steps, draws=settings.draws)
    for head in (linear, diffusion):
        fit(head, lambda x, y, _, head=head: nn.functional.cross_entropy(head(x), y), train, settings, seed)  # type: ignore[misc]
    card.prior.load_state_dict(linear.state_dict())
    card.prior.requires_grad_(False)
    fit(card, card.loss, train, settings, seed)
    return {"linear": linear, "diffusion": diffusion, "card": card}


@torch.no_grad()
def fit_tau(card: CardHead, held: Features) -> None:
    """Set ``tau`` to what gives the least log loss on held-out crops, both classes weighing alike."""
    draws_FN = _batched(lambda x: card.outputs(x)[1], held.features_FD)
    raw_F = draws_FN.mean(1) * float(card.tau)
    found = minimize_scalar(
        lambda log_tau: log_loss(held.fake_F, expit(raw_F / np.exp(log_tau))), bounds=(-5, 3), method="bounded"
    )
    card.tau.fill_(float(np.exp(found.x)))


@torch.inference_mode()
def score(head: nn.Module, part: Features) -> Scores:
    """Scores of one part; ``sure`` rises with sureness: the negated p-value and interval width of CARD's draws, and for
    ``DiffusionLayer`` the negated distance that its steps move the features, over their length."""
    if isinstance(head, CardHead):
        draws_FN = _batched(lambda x: head.outputs(x)[1], part.features_FD)
        prior_FK = _batched(lambda x: head.guess(x).clamp_min(1e-30).log(), part.features_FD)
        sure = {"interval": -interval_width(draws_FN), "t-test": -paired_test(draws_FN)}
        return Scores(logit_F=draws_FN.mean(1), without_steps_F=_logit(prior_FK), sure=sure)
    logit_F = _logit(_batched(head, part.features_FD))
    if isinstance(head, DiffusionLayer):
        moved_F = _batched(lambda x: (head.denoise(x) - x).norm(dim=1) / x.norm(dim=1), part.features_FD)
        return Scores(
            logit_F=logit_F,
            without_steps_F=_logit(_batched(head.classifier, part.features_FD)),
            sure={"distance moved": -moved_F},
        )
    return Scores(logit_F=logit_F, without_steps_F=logit_F, sure={})


def _batched(run: Callable[[Tensor], Tensor], features_FD: np.ndarray[Any, Any]) -> Floats:
    parts = [run(torch.from_numpy(features_FD[start : start + BATCH])) for start in range(0, len(features_FD), BATCH)]
    return np.asarray(torch.cat(parts).numpy(), np.float64)


def _logit(logits_FK: Floats) -> Floats:
    return np.asarray(score_logit(torch.from_numpy(logits_FK)).numpy(), np.float64)


def judge(scores: Scores, part: Features) -> dict[str, float]:
    """Numbers of one head on one part; both classes weigh alike in all of them."""
    fake_F, logit_F = part.fake_F, scores.logit_F
    wrong_F, weight_F = (logit_F > 0) != fake_F, class_weights(fake_F)
    calibrated_F = cross_calibrated(logit_F, part)
    found = {
        "accuracy": balanced_accuracy(fake_F, logit_F > 0),
        "AUC": auc(fake_F, logit_F),
        "log loss": log_loss(fake_F, expit(logit_F)),
        "ECE": expected_calibration_error(fake_F, expit(logit_F)),
        "log loss, calibrated": log_loss(fake_F, calibrated_F),
        "ECE, calibrated": expected_calibration_error(fake_F, calibrated_F),
        "AURC |p - 0.5|": area_under_risk_coverage(np.abs(logit_F), wrong_F, weight_F),
        "accuracy without steps": balanced_accuracy(fake_F, scores.without_steps_F > 0),
        "AUC without steps": auc(fake_F, scores.without_steps_F),
        "rank correlation without steps": float(spearmanr(logit_F, scores.without_steps_F).statistic),
        "mean change of p by the steps": float(np.abs(expit(logit_F) - expit(scores.without_steps_F)).mean()),
    }
    return found | {f"AURC {name}": area_under_risk_coverage(sure_F, wrong_F, weight_F) for name, sure_F in scores.sure.items()}


def cross_calibrated(logit_F: Floats, part: Features) -> Floats:
    """p of each crop by a temperature and an offset that were fitted without its group."""
    clips = Clips(logits_n=logit_F, labels_n=part.fake_F.astype(np.int64), groups_n=part.groups_F)
    fold_F = folds_by_group(clips.groups_n, clips.labels_n, FOLDS, seed=0)
    p_F = np.zeros(len(logit_F))
    for fold in range(FOLDS):
        a, b = fit_platt(clips.take(fold_F != fold))
        p_F[fold_F == fold] = expit(a * logit_F[fold_F == fold] + b)
    return p_F


def out_of_source(held: Scores, left: Scores, held_part: Features, left_part: Features) -> dict[str, float]:
    """What thresholds and calibrations of the held-out part give on the left-out sources: ECE, and PAvPU of every gate."""
    clips = Clips(logits_n=held.logit_F, labels_n=held_part.fake_F.astype(np.int64), groups_n=held_part.groups_F)
    a, b = fit_platt(clips)
    found = {"ECE, calibrated out of source": expected_calibration_error(left_part.fake_F, expit(a * left.logit_F + b))}
    wrong = [(side.logit_F > 0) != part.fake_F for side, part in ((held, held_part), (left, left_part))]
    weight = [class_weights(part.fake_F) for part in (held_part, left_part)]
    certain: dict[str, Bools] = {}
    for name, sure_F in ({"|p - 0.5|": np.abs(held.logit_F)} | held.sure).items():
        theirs_F = np.abs(left.logit_F) if name == "|p - 0.5|" else left.sure[name]
        gate = -0.05 if name == "t-test" else best_gate(sure_F, wrong[0], weight[0])
        certain[name] = theirs_F > gate
    if "t-test" in certain:
        certain["t-test and interval"] = certain["t-test"] & certain["interval"]
    for name, certain_F in certain.items():
        found[f"PAvPU {name}"] = pavpu(certain_F, wrong[1], weight[1])
        found[f"certain share {name}"] = float(weight[1] @ certain_F / weight[1].sum())
    return found


@torch.inference_mode()
def cost(head: nn.Module, features_FD: np.ndarray[Any, Any]) -> dict[str, float]:
    """Parameters, and the median milliseconds of processor time of a batch of 32 faces' features."""
    batch_FD = torch.from_numpy(features_FD[:32])
    times_s = []
    for _ in range(30):
        started = time.process_time()
        head(batch_FD)
        times_s.append(time.process_time() - started)
    parameters = sum(value.numel() for value in head.parameters())
    return {"parameters": float(parameters), "CPU ms for 32 faces": float(np.median(times_s)) * 1e3}


def measure(head: nn.Module, held: Features, left: Features) -> dict[str, dict[str, float]]:
    """Every number of one head, by part; also of a head that was trained elsewhere, with other families."""
    on_held, on_left = score(head, held), score(head, left)
    return {
        "heldout": judge(on_held, held),
        "leftout": judge(on_left, left) | out_of_source(on_held, on_left, held, left),
        "cost": cost(head, left.features_FD),
    }


def compare_seed(features: Features, settings: Settings, seed: int) -> dict[str, Any]:
    """Everything measured with one seed, for JSON: ``metrics`` by head and part, ``curves`` of the left-out sources by rule."""
    train, held, left = (features.of_split(split) for split in ("train", *PARTS))
    heads = fit_heads(train, settings, seed)
    card = heads["card"]
    assert isinstance(card, CardHead)
    fit_tau(card, held)
    metrics: dict[str, dict[str, dict[str, float]]] = {}
    curves: dict[str, dict[str, list[float]]] = {}
    for name, head in heads.items():
        metrics[name] = measure(head, held, left)
        on_left = score(head, left)
        wrong_F = (on_left.logit_F > 0) != left.fake_F
        rules = {"|p - 0.5|": np.abs(on_left.logit_F)} | on_left.sure
        curves[name] = {rule: _curve(sure_F, wrong_F, class_weights(left.fake_F)) for rule, sure_F in rules.items()}
    return {"seed": seed, "settings": asdict(settings), "tau": float(card.tau), "metrics": metrics, "curves": curves}


def _curve(sure_F: Floats, wrong_F: Bools, weight_F: Floats) -> list[float]:
    coverage_K, risk_K = risk_coverage(sure_F, wrong_F, weight_F)
    return [float(value) for value in np.interp(COVERAGES, coverage_K, risk_K)]


def _sha256(features: Features) -> str:
    """Names the crops and what the backbone made of them."""
    values = np.ascontiguousarray(features.features_FD).tobytes()
    return hashlib.sha256(rows_sha256(features.rows).encode() + values).hexdigest()


def compare(features: Features, settings: Settings, seeds: Sequence[int], run: Path) -> list[dict[str, Any]]:
    """All seeds; each is kept in ``run`` when done, and not computed again with the same settings and the same features."""
    found, identity = [], _sha256(features)
    with Progress() as progress:
        for seed in progress.track(seeds, description="seeds"):
            path = run / f"seed-{seed}.json"
            kept = json.loads(path.read_text()) if path.exists() else {}
            if kept.get("settings") != asdict(settings) or kept.get("features_sha256") != identity:
                kept = compare_seed(features, settings, seed) | {"features_sha256": identity}
                with beside(path) as unfinished:
                    unfinished.write_text(json.dumps(kept, indent=1))
            found.append(kept)
    return found
