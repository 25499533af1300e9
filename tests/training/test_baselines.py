"""The comparison of networks: cost as counted by hand, accuracy at equal images, resumed."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from training.baselines import compare, cost, judge_once, markdown
from training.paper.evaluate import SourceResult, write_results
from training.paper.networks import make_network
from training.paper.settings import Baselines
from training.paper.stages import read_sets
from training.settings import Network
from worker.errors import ConfigError
from worker.model.network import DeepfakeNet

SETTINGS = Baselines.model_validate(
    {
        "backbones": ["test_efficientnet"],
        "sets": {
            "first": {"sources": ["140k"], "splits": ["train"]},
            "second": {"sources": ["ciplab"], "splits": ["train"]},
            "test": {"sources": "others"},
        },
        "hardware": {"threads": 1, "accelerator": "cpu", "devices": 1},
        "train": {"stage": "finetune", "size": 32, "batch": 2, "epochs": 1, "optimiser": {"lr": 0.001}},
        "evaluate": {"stage": "evaluate", "size": 32},
        "latency_size": 32,
    }
)


def test_cost_is_what_a_hand_counts() -> None:
    backbone = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    parameters_m, gmacs, latency_ms = cost(DeepfakeNet(backbone, nn.Linear(8, 2)), 16, runs=3)
    assert parameters_m * 1e6 == 3 * 8 * 9 + 8 * 2 + 2
    assert round(gmacs * 1e9) == 3 * 8 * 9 * 16 * 16 + 8 * 2
    assert latency_ms > 0


def test_networks_see_equally_many_images_and_one_more_can_join(cache: Path, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    first = compare(SETTINGS, cache, tmp_path)
    both = compare(SETTINGS.model_copy(update={"backbones": ("test_efficientnet", "test_resnet")}), cache, tmp_path)
    torch.set_num_threads(threads)
    assert both[0].train_seconds == first[0].train_seconds
    assert both[0].images == both[1].images > 0
    with (tmp_path / "baselines.csv").open() as file:
        assert [row["backbone"] for row in csv.DictReader(file)] == ["test_efficientnet", "test_resnet"]
    other = tmp_path / "cache"
    shutil.copytree(cache, other)
    index = other / "140k-fake.csv"
    index.write_text(index.read_text().replace(",0.99,", ",0.98,"))
    with pytest.raises(ConfigError, match="other crops"):
        compare(SETTINGS, other, tmp_path)
    assert markdown(both, SETTINGS).count("\n| test_") == 2


class SecondProcess(Fabric):
    """One of two: while it waits, the first one writes its results."""

    is_global_zero = False

    def __init__(self, path: Path, results: list[SourceResult]) -> None:
        super().__init__(accelerator="cpu", devices=1)
        self.path, self.results = path, results

    def barrier(self, name: str | None = None) -> None:
        assert not self.path.exists()
        write_results(self.results, self.path)


def test_of_several_processes_the_first_one_judges_and_the_others_wait(cache: Path, tmp_path: Path) -> None:
    results = [SourceResult(source="ffpp", real=1, fake=1, accuracy=0.5, auc=0.5, log_loss=0.7, seconds=0.1)]
    network, chosen = make_network(Network(backbone="test_efficientnet"), "linear", seed=1), read_sets(cache, SETTINGS.sets)
    second = SecondProcess(tmp_path / "results.json", results)
    assert judge_once(SETTINGS, network, chosen, cache, second.path, second) == results
