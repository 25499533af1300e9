"""A stage by two real processes: one network, whoever validates it, and the numbers of all crops, also where it was cut."""

from __future__ import annotations

import csv
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from lightning_fabric import Fabric

from tests.training.paper.two_ranks import network, task
from training.paper.engine import BEST, EPOCHS, begin, train_stage, validate
from training.paper.networks import load_weights

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.timeout(900)  # a process that imports torch may have to wait for a busy machine


@pytest.fixture(scope="module")
def trained(crops: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``two_ranks`` left."""
    folder = tmp_path_factory.mktemp("ranks")
    words = [sys.executable, "-m", "tests.training.paper.two_ranks", str(crops), str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def epoch(folder: Path) -> dict[str, float]:
    """The line of the only epoch, without its seconds."""
    (row,) = csv.DictReader((folder / EPOCHS).read_text().splitlines())
    return {name: float(value) for name, value in row.items() if name != "seconds"}


def test_both_validate_the_weights_that_are_kept(trained: Path, crops: Path, tmp_path: Path) -> None:
    kept = network()
    load_weights(kept, trained / "whole" / BEST)
    told = task(crops, tmp_path)
    alone = replace(told, stage=told.stage.model_copy(update={"ema": None}))
    loss, accuracy = validate(begin(kept, alone, Fabric(accelerator="cpu", devices=1)))
    assert epoch(trained / "whole")["validation_loss"] == pytest.approx(loss, rel=1e-3)
    assert epoch(trained / "whole")["validation_accuracy"] == accuracy


def test_a_cut_epoch_counts_the_crops_of_both(trained: Path) -> None:
    assert epoch(trained / "cut") == epoch(trained / "whole")
    assert epoch(trained / "cut")["images"] == 20


def test_one_process_goes_on_with_the_numbers_of_both(trained: Path, crops: Path) -> None:
    train_stage(network(), task(crops, trained / "half"), Fabric(accelerator="cpu", devices=1))
    assert epoch(trained / "half")["images"] == 20
