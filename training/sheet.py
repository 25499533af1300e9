"""A contact sheet of what is trained on: for each kind of pair the real crop, the fake, where they differ, and both as trained.

Numbers do not show that a blend is too crude or cannot be seen, eyes do.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from training import augment
from training.data import WORK_PX, CropStore, Pair, PairMaker, changed_alike
from training.settings import KINDS, Mixture
from worker.errors import ConfigError
from worker.types import UInt8

COLUMNS = ("real", "fake", "mask or 4 x difference", "real, as trained", "fake, as trained")
TILE_PX, HEADER_PX = 176, 22
GAIN = 4
TIMED_PAIRS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """``crops_per_cpu_s`` by kind: degraded crops made in a second of one core; ``missing``: kinds the cache has nothing for."""

    crops_per_cpu_s: dict[str, float]
    missing: tuple[str, ...]


def contact_sheet(
    cache: Path,
    mixture: Mixture,
    out_png: Path,
    seed: int = 0,
    rows: int = 2,
    *,
    hold_out: Collection[str] = (),
    size: int = WORK_PX,
) -> Sheet:
    """``rows`` pairs of every kind that the cache has something for, whatever its share; the same seed, the same sheet.
    ``hold_out``: groups that are in none, as in a run that holds them out. ``size``: of the crops that the network is for.

    Raises ConfigError where it has nothing for any.
    """
    size = max(size, WORK_PX)
    maker = PairMaker(CropStore(cache, hold_out=hold_out), mixture, size)
    kinds = [kind for kind in KINDS if kind in maker.ready]
    if not kinds:
        raise ConfigError(
            f"{cache} has nothing for any kind of pairs of this mixture, which names sources: for media of your own "
            "--config configs/train/own-pairs.yaml"
        )
    bands = [_header([f"{column}" for column in COLUMNS])]
    speeds: dict[str, float] = {}
    for kind in kinds:
        started_s = time.process_time()
        pairs = [_as_trained(maker, mixture, kind, seed, number, size) for number in range(max(rows, TIMED_PAIRS))]
        speeds[kind] = 2 * len(pairs) / max(time.process_time() - started_s, 1e-9)
        bands.append(
            _header([f"{kind}: {pairs[0][0].family}, share {getattr(mixture, kind):.2f}, {speeds[kind]:.0f} crops/s a core"])
        )
        bands += [_row(pair, trained) for pair, trained in pairs[:rows]]
    out_png.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.vstack(bands)).save(out_png)
    return Sheet(crops_per_cpu_s=speeds, missing=tuple(kind for kind in KINDS if kind not in maker.ready))


def _as_trained(maker: PairMaker, mixture: Mixture, kind: str, seed: int, number: int, size: int) -> tuple[Pair, list[UInt8]]:
    rng = np.random.default_rng([seed, KINDS.index(kind), number])
    pair, how = maker.pair(kind, rng), augment.draw(rng)
    crops, _ = changed_alike(pair, mixture, rng)
    return pair, augment.apply(how, crops, size)


def difference(pair: Pair) -> UInt8:
    """The blend's mask where there is one, else ``GAIN`` times the difference about middle gray; black for two other pictures."""
    if pair.mask_HW is not None:
        return (pair.mask_HW[..., None] * 255).astype(np.uint8).repeat(3, axis=2)
    if not pair.same_picture:
        return np.zeros_like(pair.real_HWC)
    apart = pair.fake_HWC.astype(np.int16) - pair.real_HWC
    return (128 + GAIN * apart).clip(0, 255).astype(np.uint8)


def _row(pair: Pair, trained: Sequence[UInt8]) -> UInt8:
    tiles = [pair.real_HWC, pair.fake_HWC, difference(pair), *trained]
    size = TILE_PX, TILE_PX
    return np.hstack([np.asarray(cv2.resize(tile, size, interpolation=cv2.INTER_AREA), np.uint8) for tile in tiles])


def _header(texts: Sequence[str]) -> UInt8:
    """A black strip with each text at the left of its share of the width."""
    strip = Image.new("RGB", (TILE_PX * len(COLUMNS), HEADER_PX))
    draw = ImageDraw.Draw(strip)
    for number, text in enumerate(texts):
        place = 6 + number * strip.width // len(texts), 3
        draw.text(place, text, fill="white", font=ImageFont.load_default(14))
    return np.array(strip)
