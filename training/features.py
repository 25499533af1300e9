"""Backbone features of cached crops, computed once and kept, for the comparison of heads (``training.heads``).

Axes: F crops, D features.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import Progress

from training.data import CropStore
from training.identity import rows_sha256
from training.prepare import RECONSTRUCTED, Crop
from training.splits import is_clip
from worker.content import write_atomically
from worker.errors import ConfigError
from worker.model.network import DeepfakeNet
from worker.model.spec import CropSpec
from worker.types import Float32, Int64

FAMILIES = ("real", "manipulation", "synthetic")
"""Families that cached crops are labelled with; blends are made on the fly in training and are not among them."""
FIRST_SOURCES = ("ffpp", "140k", "ciplab", "lfw", "utkface")
"""Training sources drawn from before all others: the order of sources decides which crops a seed draws."""
BATCH = 32
SAVE_EVERY = 4
"""Batches between two savings of the features."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Features:
    """float32 [F, D] of as many crops, with what is known of them."""

    features_FD: Float32
    rows: tuple[Crop, ...]

    def __post_init__(self) -> None:
        if self.features_FD.ndim != 2 or len(self.features_FD) != len(self.rows):
            raise ValueError(f"features {self.features_FD.shape} of {len(self.rows)} crops")

    @property
    def fake_F(self) -> npt.NDArray[np.bool_]:
        return np.array([row.label == "fake" for row in self.rows])

    @property
    def family_F(self) -> Int64:
        """Into ``FAMILIES``."""
        return np.array([family(row) for row in self.rows], np.int64)

    @property
    def groups_F(self) -> npt.NDArray[np.str_]:
        return np.array([row.group for row in self.rows])

    def of_split(self, split: str) -> Features:
        """The crops of ``train``, ``heldout`` or ``leftout``. Raises ConfigError unless real and fake ones are among them."""
        rows = tuple(rows_of_split(self.rows, split))
        return Features(features_FD=self.features_FD[[row.split == split for row in self.rows]], rows=rows)


def rows_of_split(rows: Sequence[Crop], split: str) -> list[Crop]:
    """Raises ConfigError unless real and fake ones are among them."""
    found = [row for row in rows if row.split == split]
    if {row.label for row in found} != {"real", "fake"}:
        hint = " (`veriframe data prepare --leave-out SOURCE` leaves a source out)" if split == "leftout" else ""
        raise ConfigError(f"the comparison needs real and fake crops of the split {split!r}; the cache lacks some{hint}")
    return found


def family(row: Crop) -> int:
    """The place in ``FAMILIES`` of a labelled crop; files that are blends count as manipulated."""
    return FAMILIES.index("manipulation" if row.its_family == "blend" else row.its_family)


def choose_rows(rows: Sequence[Crop], *, per_label: int = 1500, pictures: int = 1000, frames_per_clip: int = 4) -> list[Crop]:
    """A fixed sample: ``per_label`` real and fake training crops, shared as evenly among sources as they allow; of what was not
    trained on, at most so many ``pictures`` of a source's class and spaced frames of every clip. No recompressed and no
    reconstructed copies. A smaller sample of pictures is part of a larger one."""
    known = [row for row in rows if not row.variant and row.source != RECONSTRUCTED]
    rng = np.random.default_rng(0)
    chosen: list[Crop] = []
    learnt = [row for row in known if row.split == "train"]
    others = sorted({row.source for row in learnt} - set(FIRST_SOURCES))
    for label in ("real", "fake"):
        pools = [[row for row in learnt if row.label == label and row.source == name] for name in (*FIRST_SOURCES, *others)]
        for pool, count in zip(pools, even_shares([len(pool) for pool in pools], per_label), strict=True):
            chosen += _some(pool, count, rng)
    clips: dict[str, list[Crop]] = defaultdict(list)
    classes: dict[tuple[str, str], list[Crop]] = defaultdict(list)
    for row in known:
        if row.split not in ("heldout", "leftout"):
            continue
        if is_clip(row.path):
            clips[row.path].append(row)
        else:
            classes[row.source, row.label].append(row)
    for _, members in sorted(classes.items()):
        chosen += _some(members, pictures, rng)
    for _, members in sorted(clips.items()):
        places = np.linspace(0, len(members) - 1, min(frames_per_clip, len(members))).round().astype(int)
        chosen += [members[place] for place in places]
    return chosen


def _some(pool: Sequence[Crop], count: int, rng: np.random.Generator) -> list[Crop]:
    return [pool[place] for place in np.sort(rng.permutation(len(pool))[:count])]


def even_shares(sizes: Sequence[int], total: int) -> list[int]:
    """``total`` parted evenly among pools of these sizes; what a small pool cannot give, the larger ones do."""
    shares = [0] * len(sizes)
    open_pools = sorted(range(len(sizes)), key=lambda pool: sizes[pool])
    for done, pool in enumerate(open_pools):
        shares[pool] = min(sizes[pool], (total - sum(shares)) // (len(sizes) - done))
    return shares


def extract(
    network: DeepfakeNet,
    store: CropStore,
    rows: Sequence[Crop],
    path: Path,
    *,
    crop: CropSpec,
    checkpoint_sha256: str,
) -> Features:
    """The network's pooled features of these crops, cut as its scans would, float32. ``path`` (.npz) keeps them: what it holds is
    not computed again.

    Crops that were cut anew, to another face or box, are others (``training.identity``). Raises ConfigError where ``path``
    holds the features of another checkpoint, of crops of another size or margin, or does not say of which.
    """
    names = [rows_sha256([row]) for row in rows]
    made_by = f"{checkpoint_sha256} {crop.margin} {crop.size}"
    known = _read(path, made_by)
    open_rows = [(name, row) for name, row in zip(names, rows, strict=True) if name not in known]
    with torch.inference_mode(), Progress() as progress:
        for number, start in enumerate(progress.track(range(0, len(open_rows), BATCH), description="features"), start=1):
            part = open_rows[start : start + BATCH]
            crops_FHWC = torch.from_numpy(np.stack([store.crop(row, margin=crop.margin, size=crop.size) for _, row in part]))
            pixels_FCHW = network.normalise(crops_FHWC).contiguous(memory_format=torch.channels_last)
            features_FD = network.backbone(pixels_FCHW).float().numpy()
            known.update(zip((name for name, _ in part), features_FD, strict=True))
            if number % SAVE_EVERY == 0:
                _write(path, known, made_by)
    if open_rows:
        _write(path, known, made_by)
    return Features(features_FD=np.stack([known[name] for name in names]), rows=tuple(rows))


def _read(path: Path, made_by: str) -> dict[str, Float32]:
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as kept:
        if "made_by" not in kept or str(kept["made_by"]) != made_by:
            raise ConfigError(f"{path} holds features of another checkpoint or of crops cut otherwise; choose another folder")
        return dict(zip(kept["names"].tolist(), kept["features_FD"], strict=True))


def _write(path: Path, known: dict[str, Float32], made_by: str) -> None:
    content = io.BytesIO()
    np.savez(
        content,
        names=np.array(list(known)),
        features_FD=np.stack(list(known.values())),
        made_by=np.array(made_by),
    )
    write_atomically(path, content.getvalue())
