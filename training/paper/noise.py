"""The paper's noise (section 3.2): half of set 2, exactly, each crop with its own level; drawn on the fly from a written plan.

Equation 1: ``alpha ~ Uniform(0.1, 0.9)`` for each image. Equation 2: ``x' = sqrt(alpha) x + sqrt(1 - alpha) z``, on normalised
values.
The half is stratified: "the first N/2" of a list sorted by label would make noise mean a label.
Axes: F crops, C colours, H rows, W columns.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.paper.sets import TrainingSet, key_of, share_of
from training.prepare import Crop
from worker.errors import ConfigError

CLEAN = 1.0
"""The alpha of a crop that stays as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """alpha by crop (``key_of``), of the corrupted crops alone."""

    alpha: Mapping[str, float]

    def alpha_of(self, row: Crop) -> float:
        return self.alpha.get(key_of(row), CLEAN)


def draw_plan(chosen: TrainingSet, *, alpha: tuple[float, float], seed: int) -> Plan:
    """Exactly floor(N/2) of a set's N crops: half of every stratum (label, source, use), rounded so that the sum is right."""
    strata: dict[tuple[str, str, str], list[Crop]] = defaultdict(list)
    for use, rows in (("train", chosen.train), ("validation", chosen.validation)):
        for row in rows:
            strata[row.label, row.source, use].append(row)
    names = sorted(strata)
    spare = len(chosen.rows) // 2 - sum(len(strata[name]) // 2 for name in names)
    odd = sorted((name for name in names if len(strata[name]) % 2), key=lambda name: share_of(f"{seed} {name}"))
    taken = {name: len(strata[name]) // 2 + (name in odd[:spare]) for name in names}
    drawn: dict[str, float] = {}
    for name in names:
        ordered = sorted(strata[name], key=lambda row: share_of(f"{seed} half {key_of(row)}"))
        for row in ordered[: taken[name]]:
            drawn[key_of(row)] = float(np.random.default_rng([seed, key_number(row)]).uniform(*alpha))
    return Plan(alpha=drawn)


def key_number(row: Crop) -> int:
    """The crop as a number below 2**62, the seed of its noise."""
    return int(share_of(f"noise {key_of(row)}") * (1 << 56))


def corrupt(pixels_FCHW: Tensor, alpha_F: Tensor, key_F: Tensor, seed: int) -> Tensor:
    """Equation 2. ``z`` follows from (seed, key) alone, whatever the batch; rows with alpha 1 come back as they are."""
    noisy = (alpha_F < CLEAN).nonzero().flatten().tolist()
    if not noisy:
        return pixels_FCHW
    out = pixels_FCHW.clone()
    for place in noisy:
        generator = torch.Generator().manual_seed((seed * 1_000_003 + int(key_F[place])) % (1 << 63))
        z_CHW = torch.randn(pixels_FCHW.shape[1:], generator=generator).to(pixels_FCHW.device, pixels_FCHW.dtype)
        alpha = float(alpha_F[place])
        out[place] = alpha**0.5 * pixels_FCHW[place] + (1 - alpha) ** 0.5 * z_CHW
    return out


COLUMNS = ("path", "frame", "label", "source", "use", "alpha")


def write_plan(plan: Plan, chosen: TrainingSet, path: Path) -> None:
    """One line for each crop of the set; ``alpha`` is empty where the crop stays clean."""
    unfinished = path.with_suffix(".part")
    with unfinished.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for use, rows in (("train", chosen.train), ("validation", chosen.validation)):
            for row in rows:
                writer.writerow([row.path, row.frame, row.label, row.source, use, plan.alpha.get(key_of(row), "")])
    unfinished.rename(path)


def read_plan(path: Path) -> Plan:
    """Raises ConfigError where the file is missing or no plan."""
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return Plan(alpha={f"{row['path']}#{row['frame']}": float(row["alpha"]) for row in rows if row["alpha"]})
    except (OSError, KeyError, ValueError) as exc:
        raise ConfigError(f"{path}: not the plan of a noise stage: {exc!r}") from exc


def shares(plan: Plan, rows: Sequence[Crop]) -> dict[str, dict[str, int]]:
    """By source and label: crops and corrupted crops, as ``real``, ``real noisy``, ``fake``, ``fake noisy``."""
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        line = found.setdefault(row.source, {"real": 0, "real noisy": 0, "fake": 0, "fake noisy": 0})
        line[row.label] += 1
        line[f"{row.label} noisy"] += key_of(row) in plan.alpha
    return dict(sorted(found.items()))
