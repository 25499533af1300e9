"""Synthetic faces for the tests of training: smooth pictures with a face box and landmarks, cached as the real ones are."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import date
from pathlib import Path

import cv2
import numpy as np
import pytest

from training.prepare import Crop, write_shard
from worker.model import checkpoint
from worker.model.spec import Licence, ModelSpec, TrainingData
from worker.types import Float32, UInt8

SIZE = 288
"""Of the cached crops: a cache may hold any."""
LANDMARKS_K2 = np.array([[115, 125], [173, 125], [144, 158], [120, 185], [168, 185]], np.float32)
BOX = (80.0, 70.0, 208.0, 230.0)


def picture(seed: int, size: int = SIZE) -> UInt8:
    """Low-frequency colours with some texture: something that blending and compression change."""
    rng = np.random.default_rng(seed)
    smooth = cv2.resize(rng.uniform(40, 215, (8, 8, 3)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    return (smooth + rng.normal(0, 6, (size, size, 3))).clip(0, 255).astype(np.uint8)


def crop(shard: str, number: int, label: str, source: str, **other: object) -> Crop:
    values: dict[str, object] = {
        "shard": shard,
        "row": -1,
        "path": f"{'videos' if source == 'ffpp' else 'faces'}/{source}/{label}/{shard}-{number}",
        "label": label,
        "source": source,
        "manipulation": "deepfakes" if (source, label) == ("ffpp", "fake") else "",
        "group": f"{source}/{number}",
        "split": "train",
        "frame": 0,
        "target": f"{number:03d}" if source == "ffpp" else "",
        "side_px": 150.0,
        "prob": 0.99,
        "box": BOX,
        "landmarks": tuple(float(v) for v in LANDMARKS_K2.ravel()),
    }
    return Crop(**(values | other))  # type: ignore[arg-type]


@pytest.fixture
def landmarks_K2() -> Float32:
    return LANDMARKS_K2 * np.float32(224 / SIZE)


@pytest.fixture
def little_room() -> Callable[[], AbstractContextManager[None]]:
    """A limit of 100 kB to a file's size, which a writer meets as it meets a full disk."""

    @contextmanager
    def limited() -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two training crops of each label for FF++ (aligned), 140k and ciplab, and a held-out FF++ pair."""
    folder = tmp_path_factory.mktemp("cache")
    for source in ("ffpp", "140k", "ciplab"):
        for label, seed in (("real", 0), ("fake", 100)):
            shard = f"{source}-{label}"
            rows = [(picture(seed + n), crop(shard, n, label, source)) for n in range(2)]
            if source == "ffpp":
                rows.append((picture(seed + 7), crop(shard, 7, label, source, split="heldout")))
            write_shard(folder, shard, rows)
    return folder


@pytest.fixture
def uncalibrated(tmp_path: Path) -> Path:
    """A checkpoint of hardly any weights."""
    path = tmp_path / "model.safetensors"
    spec = ModelSpec(
        name="m",
        version="1",
        backbone="test_efficientnet",
        training=TrainingData(sources=()),
        git_revision="0000000",
        licence=Licence(name="test", file="none", notice="For tests."),
        created=date(2026, 1, 1),
    )
    checkpoint.save(path, {"weight": np.ones(3, np.float32)}, spec)
    return path
