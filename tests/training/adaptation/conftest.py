"""A crop cache with training rows and a regression set of eight people, and a tiny checkpoint that knows that set by heart."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.conftest import crop, picture
from training.data import CropStore
from training.prepare import Crop, write_shard
from worker.model import checkpoint
from worker.model.network import DeepfakeNet, build
from worker.model.spec import CropSpec, HeadSpec, Licence, ModelSpec, TrainingData, TrainingSource

SIZE = 32
Teach = Callable[[DeepfakeNet, Sequence[tuple[CropStore, Crop, bool]]], None]


def teach(network: DeepfakeNet, told: Sequence[tuple[CropStore, Crop, bool]]) -> None:
    """Set the last layer so that each crop is called fake or not as told."""
    crops_FHWC = np.stack([store.crop(row, size=SIZE) for store, row, _ in told])
    seen: list[torch.Tensor] = []
    classifier = network.head.classifier
    handle = classifier.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    with torch.inference_mode():
        network.eval()(torch.from_numpy(crops_FHWC))
    handle.remove()
    features = torch.cat([seen[0], torch.ones(len(told), 1)], 1).double()
    wanted = torch.tensor([2.0 if fake else -2.0 for _, _, fake in told], dtype=torch.float64)
    solved = torch.linalg.pinv(features, rtol=1e-6) @ wanted
    with torch.no_grad():
        classifier.weight.zero_()
        classifier.bias.copy_(torch.tensor([0.0, float(solved[-1]), -30.0, -30.0]))
        classifier.weight[1] = solved[:-1].float()


@pytest.fixture(scope="package")
def old(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny cache, with a held-out real and fake picture of each of eight people."""
    folder = tmp_path_factory.mktemp("old") / "cache"
    shutil.copytree(cache, folder)
    for label, seed in (("real", 200), ("fake", 300)):
        rows = [(picture(seed + n), crop(f"held-{label}", 50 + n, label, "140k", split="heldout")) for n in range(8)]
        write_shard(folder, f"held-{label}", rows)
    return folder


@pytest.fixture(scope="package")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``feedback.csv``, three real pictures, and their crops as ``cut_feedback`` would leave them."""
    folder = tmp_path_factory.mktemp("wrong")
    names = [f"alarm-{n}.png" for n in range(3)]
    (folder / "feedback.csv").write_text("path,label,source\n" + "".join(f"{name},real,mine\n" for name in names))
    shard = "mine-real-00000"
    rows = [(picture(400 + n), crop(shard, n, "real", "mine", path=name)) for n, name in enumerate(names)]
    (folder / "crops").mkdir()
    write_shard(folder / "crops", shard, rows)
    return folder


@pytest.fixture
def run_folder(wrong: Path, tmp_path: Path) -> Path:
    shutil.copytree(wrong / "crops", tmp_path / "run" / "feedback")
    return tmp_path / "run"


def held(old: Path) -> list[tuple[CropStore, Crop, bool]]:
    store = CropStore(old)
    return [(store, row, row.label == "fake") for row in store.rows if row.split == "heldout"]


def alarms(wrong: Path, *, fake: bool) -> list[tuple[CropStore, Crop, bool]]:
    store = CropStore(wrong / "crops")
    return [(store, row, fake) for row in store.rows]


@pytest.fixture(scope="package")
def parent(old: Path, wrong: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Right on all of the regression set, wrong on the feedback."""
    torch.manual_seed(0)
    network = build(backbone="test_efficientnet", hidden_dim=16, num_steps=2)
    teach(network, [*held(old), *alarms(wrong, fake=True)])
    spec = ModelSpec(
        name="tiny",
        version="1",
        backbone="test_efficientnet",
        head=HeadSpec(hidden_dim=16, num_steps=2),
        crop=CropSpec(size=SIZE),
        training=TrainingData(sources=(TrainingSource(name="ffpp", real=9, fake=9),)),
        git_revision="unknown",
        licence=Licence(name="none", file="none", notice="A test's."),
        created=date(2026, 1, 1),
    )
    path = tmp_path_factory.mktemp("parent") / "parent.safetensors"
    checkpoint.save(path, network.state_dict(), spec, np.float32)
    return path
