"""Run as a program: a stage by two processes, once whole and once cut and continued. Arguments: the cache, a folder to write.

Forked from a process that has computed no gradient: another's children may not compute any.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy

from training.paper.engine import Task, train_stage
from training.paper.networks import make_network
from training.paper.sets import choose_sets
from training.paper.settings import Hardware, Selection, Sets, TrainStage
from training.prepare import read_index
from training.settings import Network
from worker.model.network import DeepfakeNet

CUT_AT = 3
STAGE = TrainStage.model_validate(
    {"stage": "finetune", "size": 32, "batch": 4, "epochs": 1, "optimiser": {"lr": 0.05}, "ema": 0.9}
)
SETS = Sets(first=Selection(sources=("140k",)), second=Selection(sources=("ciplab",)), test=Selection(sources=("ffpp",)))


def network() -> DeepfakeNet:
    return make_network(Network(backbone="test_efficientnet"), "linear", seed=1)


class Cut(Exception):
    """What a kill would be."""


class Cutting(Fabric):
    """Ends in the step after ``last``."""

    last = -1

    def log(self, name: str, value: Any, step: int | None = None) -> None:
        if step == self.last + 1:
            raise Cut


def task(cache: Path, folder: Path) -> Task:
    """Saves after every step."""
    hardware = Hardware(threads=1, save_every_s=0)
    data = choose_sets(read_index(cache), SETS).first
    return Task(stage=STAGE, hardware=hardware, seed=1, identity="", cache=cache, data=data, plan=None, folder=folder)


def both(fabric: Cutting, cache: Path, out: Path) -> None:
    """``whole`` is never stopped; ``cut`` ends after some steps, is copied as it is to ``half``, and goes on."""
    torch.set_num_threads(1)
    train_stage(network(), task(cache, out / "whole"), fabric)
    fabric.last = CUT_AT
    with contextlib.suppress(Cut):
        train_stage(network(), task(cache, out / "cut"), fabric)
    fabric.last = -1
    if fabric.is_global_zero:
        shutil.copytree(out / "cut", out / "half")
    fabric.barrier()
    train_stage(network(), task(cache, out / "cut"), fabric)


if __name__ == "__main__":
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    strategy = DDPStrategy(start_method="fork", process_group_backend="gloo")
    Cutting(accelerator="cpu", devices=2, strategy=strategy).launch(both, Path(sys.argv[1]), Path(sys.argv[2]))
