"""The paper's related networks beside ours: parameters, multiply-adds, latency, and what each learns from equally many images."""

from __future__ import annotations

import csv
import statistics
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from training.paper.engine import BEST, Task, train_stage
from training.paper.evaluate import SourceResult, evaluate, read_results, write_results
from training.paper.networks import check_words, load_weights, make_network
from training.paper.sets import Chosen
from training.paper.settings import Baselines
from training.paper.stages import RESULTS, claim, launch, read_sets
from training.settings import Network
from worker.model.network import DeepfakeNet

TABLE, MARKDOWN = "baselines.csv", "baselines.md"
LATENCY_RUNS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One network. ``images``: seen in training; accuracies at 0.5, the test one a mean over sources."""

    backbone: str
    parameters_m: float
    gmacs: float
    latency_ms: float
    images: int
    train_seconds: float
    validation_accuracy: float
    test_accuracy_least: float
    test_accuracy_mean: float
    test_accuracy_greatest: float


def compare(settings: Baselines, cache: Path, folder: Path) -> list[Line]:
    """A line for each network, also in ``baselines.csv`` and ``baselines.md``; goes on where it was cut."""
    check_words(settings.train)
    chosen = read_sets(cache, settings.sets)
    fabric = launch(settings.hardware, folder)
    claim(settings, chosen, folder)
    lines = [
        one(settings, backbone, chosen, cache=cache, folder=folder / backbone, fabric=fabric) for backbone in settings.backbones
    ]
    if fabric.is_global_zero:
        write_table(lines, folder)
        (folder / MARKDOWN).write_text(markdown(lines, settings), "utf-8")
    return lines


def one(settings: Baselines, backbone: str, chosen: Chosen, *, cache: Path, folder: Path, fabric: Fabric) -> Line:
    """Train from random weights, judge the best epoch's, and measure the cost."""
    network = make_network(Network(backbone=backbone), "linear", seed=settings.seed)
    parameters_m, gmacs, latency_ms = cost(network, settings.latency_size)
    task = Task(
        stage=settings.train,
        hardware=settings.hardware,
        seed=settings.seed,
        identity=f"{backbone} {settings.sha256} {chosen.sha256}",
        cache=cache,
        data=chosen.first,
        plan=None,
        folder=folder,
    )
    history = train_stage(network, task, fabric).history
    judged = make_network(Network(backbone=backbone), "linear", seed=settings.seed)
    load_weights(judged, folder / BEST)
    accuracies = [result.accuracy for result in judge_once(settings, judged, chosen, cache, folder / RESULTS, fabric)]
    best = min(history, key=lambda row: row["validation_loss"])
    return Line(
        backbone=backbone,
        parameters_m=round(parameters_m, 2),
        gmacs=round(gmacs, 3),
        latency_ms=round(latency_ms, 1),
        images=int(sum(row["images"] for row in history)),
        train_seconds=round(sum(row["seconds"] for row in history), 1),
        validation_accuracy=round(best["validation_accuracy"], 4),
        test_accuracy_least=round(min(accuracies), 4),
        test_accuracy_mean=round(statistics.mean(accuracies), 4),
        test_accuracy_greatest=round(max(accuracies), 4),
    )


def judge_once(
    settings: Baselines, network: DeepfakeNet, chosen: Chosen, cache: Path, path: Path, fabric: Fabric
) -> list[SourceResult]:
    """The results at ``path``; where they are not there the first process writes them, and the others wait for it."""
    if fabric.is_global_zero and not path.exists():
        how = settings.hardware
        write_results(evaluate(network, chosen.test, cache=cache, stage=settings.evaluate, hardware=how, fabric=fabric), path)
    fabric.barrier()
    return read_results(path)


@torch.inference_mode()
def cost(network: DeepfakeNet, size: int, runs: int = LATENCY_RUNS) -> tuple[float, float, float]:
    """(millions of parameters, 10^9 multiply-adds of one crop, median milliseconds of one crop on one CPU thread)."""
    network.eval()
    crop_FHWC = torch.zeros(1, size, size, 3, dtype=torch.uint8)
    with FlopCounterMode(display=False) as counter:
        network(crop_FHWC)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        network(crop_FHWC)
        times = []
        for _ in range(runs):
            started = time.perf_counter()
            network(crop_FHWC)
            times.append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
    return parameters(network) / 1e6, counter.get_total_flops() / 2e9, statistics.median(times) * 1e3


def parameters(network: nn.Module) -> int:
    return sum(value.numel() for value in network.parameters())


def write_table(lines: list[Line], folder: Path) -> None:
    with (folder / TABLE).open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Line)])
        writer.writeheader()
        writer.writerows(asdict(line) for line in lines)


def markdown(lines: list[Line], settings: Baselines) -> str:
    """The table, with what it was measured on."""
    head = (
        "| backbone | parameters (M) | GMACs | CPU ms | images seen | train s | validation accuracy "
        "| test accuracy, least to greatest (mean) |"
    )
    rows = [
        f"| {line.backbone} | {line.parameters_m:.2f} | {line.gmacs:.2f} | {line.latency_ms:.1f} "
        f"| {line.images} | {line.train_seconds:.0f} | {line.validation_accuracy:.3f} "
        f"| {line.test_accuracy_least:.2f} to {line.test_accuracy_greatest:.2f} ({line.test_accuracy_mean:.2f}) |"
        for line in lines
    ]
    told = (
        f"From random weights, {settings.train.epochs} epochs at most, {settings.train.size} px. Cost: one crop of "
        f"{settings.latency_size} px, one thread, fp32, PyTorch. Accuracy at 0.5 by picture; the test range is over sources."
    )
    return "\n".join([head, "|---" * 8 + "|", *rows, "", told, ""])
