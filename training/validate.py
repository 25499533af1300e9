"""Validation inside a run: crops to logits, logits to one score a clip, AUC by source. Nothing here is trained on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch

from training.data import CropStore
from training.metrics import auc
from training.prepare import Crop
from worker.model.network import DeepfakeNet, score_logit
from worker.types import Float32, UInt8

AT_ONCE = 64
"""Crops in memory while scoring."""
BATCH = 32


def predict(network: DeepfakeNet, crops_FHWC: UInt8) -> Float32:
    """log p(fake) - log p(real) of each crop, float32 [F]; leaves the network in evaluation mode."""
    network.eval()
    device = next(network.parameters()).device
    found: list[Float32] = [np.empty(0, np.float32)]
    with torch.inference_mode():
        for start in range(0, len(crops_FHWC), BATCH):
            logits_FK = network(torch.from_numpy(crops_FHWC[start : start + BATCH]).to(device))
            found.append(score_logit(logits_FK.float()).cpu().numpy())
    return np.concatenate(found)


def logits_of(network: DeepfakeNet, store: CropStore, rows: Sequence[Crop], *, size: int) -> dict[str, float]:
    """Every file's mean logit over its crops of ``size``, as a scan would cut them."""
    logits: dict[str, list[float]] = defaultdict(list)
    for start in range(0, len(rows), AT_ONCE):
        some = rows[start : start + AT_ONCE]
        for row, logit in zip(some, predict(network, np.stack([store.crop(row, size=size) for row in some])), strict=True):
            logits[row.path].append(float(logit))
    return {path: float(np.mean(its)) for path, its in logits.items()}


def choose(rows: Sequence[Crop], *, frames_per_clip: int, pictures_per_class: int) -> list[Crop]:
    """A fixed sample of held-out and left-out rows: spaced frames of every clip, the first pictures of a source and class."""
    by_file: dict[str, list[Crop]] = defaultdict(list)
    for row in rows:
        if row.split != "train":
            by_file[row.path].append(row)
    chosen: list[Crop] = []
    taken: dict[tuple[str, str], int] = defaultdict(int)
    for _, members in sorted(by_file.items()):
        kind = members[0].source, members[0].label
        if len(members) == 1:
            if taken[kind] >= pictures_per_class:
                continue
            taken[kind] += 1
        places = np.linspace(0, len(members) - 1, min(frames_per_clip, len(members))).round().astype(int)
        chosen += [members[place] for place in np.unique(places)]
    return chosen


def validate(network: DeepfakeNet, store: CropStore, rows: Sequence[Crop], *, size: int) -> dict[str, float]:
    """AUC by source (``ffpp`` by manipulation too) over mean logits a file; for sources of one class the share scored above 0."""
    score = logits_of(network, store, rows, size=size)
    first = {row.path: row for row in reversed(rows)}
    found: dict[str, float] = {}
    for source in sorted({row.source for row in rows}):
        files = [row for row in first.values() if row.source == source]
        fake = np.array([row.label == "fake" for row in files])
        values = np.array([score[row.path] for row in files])
        if fake.all() or not fake.any():
            found[f"{source} called fake"] = float((values > 0).mean())
            continue
        found[f"{source} AUC"] = auc(fake, values)
        for kind in sorted({row.manipulation for row in files if source == "ffpp"} - {""}):
            part = np.array([row.manipulation in ("", kind) for row in files])
            found[f"{source}/{kind} AUC"] = auc(fake[part], values[part])
    return found
