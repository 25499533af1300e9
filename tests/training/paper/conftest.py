"""A cache with the sources of both sets and a test set, and a tiny staged run over it, gone through once."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from training.paper.settings import Pipeline
from training.paper.stages import run_pipeline
from training.prepare import write_shard

SIZES = {"140k": 12, "ciplab": 6, "roeishc": 5, "ffpp": 2, "lfw": 2}
TINY: dict[str, Any] = {
    "network": {"backbone": "test_efficientnet", "hidden_dim": 16, "num_steps": 2},
    "sets": {"first": {"sources": ["140k"]}, "second": {"sources": ["ciplab", "roeishc"]}, "test": {"sources": "others"}},
    "hardware": {"threads": 1, "accelerator": "cpu", "devices": 1},
    "stages": [
        {"stage": "finetune", "size": 32, "batch": 4, "epochs": 2, "optimiser": {"lr": 0.01, "warmup_epochs": 0.5}},
        {"stage": "noise"},
        {"stage": "head", "size": 32, "batch": 4, "epochs": 2, "optimiser": {"lr": 0.01}},
        {"stage": "unfreeze", "size": 32, "batch": 4, "epochs": 2, "optimiser": {"lr": 0.01}},
        {"stage": "evaluate", "size": 32},
    ],
}


@pytest.fixture(scope="session")
def faces() -> ModuleType:
    """The synthetic pictures and rows of the folder above."""
    path = Path(__file__).parents[1] / "conftest.py"
    spec = importlib.util.spec_from_file_location("synthetic_faces", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def crops(tmp_path_factory: pytest.TempPathFactory, faces: ModuleType) -> Path:
    """A cache: every crop a group of its own; LFW has real ones only. Fakes are darker: there is something to learn."""
    folder = tmp_path_factory.mktemp("crops")
    for source, count in SIZES.items():
        for label, seed in (("real", 0), ("fake", 100)):
            if (source, label) != ("lfw", "fake"):
                shard = f"{source}-{label}"
                rows = [faces.crop(shard, n, label, source, group=f"{source}/{label}/{n}") for n in range(count)]
                write_shard(folder, shard, [(faces.picture(seed + n) // (1 + (seed > 0)), row) for n, row in enumerate(rows)])
    return folder


@pytest.fixture(scope="session")
def tiny() -> Pipeline:
    return Pipeline.model_validate(TINY)


@pytest.fixture(scope="session")
def gone_through(crops: Path, tiny: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of all stages, never stopped."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    threads = torch.get_num_threads()
    run_pipeline(tiny, crops, folder)
    torch.set_num_threads(threads)
    return folder
