"""The paper's tables as printed, with what is wrong in them, and ours in the same form."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from training.paper.engine import EPOCHS
from training.paper.evaluate import SourceResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One line of Tables 1 to 3; accuracies are nan in the paper's, which gives none by epoch."""

    epoch: int
    train_loss: float
    validation_loss: float
    seconds: float
    train_accuracy: float = float("nan")
    validation_accuracy: float = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One table and figure of the paper; ``accuracy`` is what its text says of the validation accuracy."""

    stage: str
    table: int
    figure: int
    caption: str
    figure_caption: str
    printed: tuple[tuple[str, str, str, str], ...]
    accuracy: float
    accuracy_said: str
    footnotes: tuple[str, ...] = ()

    @property
    def epochs(self) -> list[Epoch]:
        return [
            Epoch(epoch=int(epoch), train_loss=float(train), validation_loss=float(validation), seconds=float(seconds))
            for epoch, train, validation, seconds in self.printed
        ]


FINETUNE = Published(
    stage="finetune",
    table=1,
    figure=3,
    caption="Fine-tuning results of EfficientNetV2",
    figure_caption="loss and accuracy of fine-tuning",
    printed=(
        ("1", "0.1593", "0.0272", "1282"),
        ("2", "0.0641", "0.0137", "887"),
        ("3", "0.0450", "0.109", "915"),
        ("4", "0.0352", "0.0070", "960"),
        ("5", "0.307", "0.0059", "1020"),
        ("6", "0.264", "0.0077", "1081"),
    ),
    accuracy=0.99,
    accuracy_said="over 99 percent",
    footnotes=(
        "Printed so. 0.307 and 0.264 (train loss, epochs 5 and 6) look like 0.0307 and 0.0264, and 0.109 (validation loss, "
        "epoch 3) like 0.0109: each decimal point one place off.",
    ),
)
HEAD = Published(
    stage="head",
    table=2,
    figure=4,
    caption="Training results of DiffusionLayer()",
    figure_caption="loss and accuracy of the diffusion head on a frozen backbone",
    printed=(("1", "0.4506", "0.2627", "185"), ("2", "0.3849", "0.2755", "171")),
    accuracy=0.89,
    accuracy_said="89 percent",
)
UNFREEZE = Published(
    stage="unfreeze",
    table=3,
    figure=5,
    caption="Training results of unfrozen model",
    figure_caption="loss and accuracy of the unfrozen model",
    printed=HEAD.printed,
    accuracy=0.87,
    accuracy_said="87 percent",
    footnotes=(
        "Printed so: the paper's Table 3 repeats its Table 2 digit for digit, although the text tells of a lower accuracy (87 "
        "instead of 89 percent) and of more epochs. Its true values are not known.",
    ),
)
PUBLISHED = (FINETUNE, HEAD, UNFREEZE)
TABLE_4 = ("0.65", "0.77", "541")
"""Least accuracy, greatest accuracy, seconds."""


def read_epochs(stage_folder: Path) -> list[Epoch]:
    """Our lines of a stage."""
    with (stage_folder / EPOCHS).open(newline="") as file:
        return [
            Epoch(
                epoch=int(row["epoch"]),
                train_loss=float(row["train_loss"]),
                validation_loss=float(row["validation_loss"]),
                seconds=float(row["seconds"]),
                train_accuracy=float(row["train_accuracy"]),
                validation_accuracy=float(row["validation_accuracy"]),
            )
            for row in csv.DictReader(file)
        ]


def side_by_side(published: Published, ours: list[Epoch]) -> list[tuple[str, ...]]:
    """Rows of eight cells: epoch; the paper's losses, seconds; ours, and our validation accuracy. ``-`` where a side ended."""
    rows: list[tuple[str, ...]] = []
    theirs = {cells[0]: cells[1:] for cells in published.printed}
    mine = {
        str(line.epoch): (
            f"{line.train_loss:.4f}",
            f"{line.validation_loss:.4f}",
            f"{line.seconds:.1f}",
            f"{line.validation_accuracy:.3f}",
        )
        for line in ours
    }
    for epoch in sorted(theirs.keys() | mine.keys(), key=int):
        rows.append((epoch, *theirs.get(epoch, ("-",) * 3), *mine.get(epoch, ("-",) * 4)))
    return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Extremes:
    """A line of our Table 4: the test sources with the least and the greatest accuracy, and the mean seconds a source."""

    name: str
    least: SourceResult
    greatest: SourceResult
    seconds: float


def extremes(results: list[SourceResult]) -> list[Extremes]:
    """Over all test sources, and over those alone that have both labels: one label is easily got right by always saying it."""
    both = [result for result in results if result.real and result.fake]
    parts = {"ours, all sources": results, "ours, sources with both labels": both}
    return [
        Extremes(
            name=name,
            least=min(part, key=lambda result: result.accuracy),
            greatest=max(part, key=lambda result: result.accuracy),
            seconds=sum(result.seconds for result in part) / len(part),
        )
        for name, part in parts.items()
        if part
    ]
