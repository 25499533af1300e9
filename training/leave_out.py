"""Leave-one-source-out: one recipe trained anew for each fold without the fakes that the fold is then judged on.

A fold's *test* files are the fakes that it left out and the real files of their sources, of held-out groups or of sources that
nobody trains on. Its *validation* files are held-out files of what it was trained on, of the same kind of media; thresholds are
fitted on them. The real files of a left-out source's training groups stay in training: fakes are left out. Every fold keeps a run
of its own, ``FOLDER/FOLD``, that goes on where it was cut; what is scored is not trained again.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from rich.console import Console

from training.data import CropStore, PairSampler, is_left_out
from training.leave_out_report import write_report
from training.loop import fit_network
from training.manifest import is_video
from training.prepare import RECONSTRUCTED, Crop
from training.provenance import split_of
from training.settings import Fit, Study
from training.splits import split_sha256
from training.validate import predict
from worker.content import write_atomically
from worker.errors import ConfigError
from worker.model.network import DeepfakeNet

FOLD, SCORES = "fold.json", "scores.csv"
AT_ONCE = 64
"""Crops in memory while scoring."""
FREE = {"minutes", "save_every_minutes", "validate_every_minutes", "validate_every_steps", "threads", "device", "loaders"}
"""Settings that do not change what a fold gives; its steps do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One file by the model that left it out (``test``) or was not trained on its group (``validation``); it may be both."""

    path: str
    label: str
    source: str
    manipulation: str
    group: str
    kind: str
    """video or image."""
    crops: int
    logit: float
    """log p(fake) - log p(real), the mean over its crops."""
    test: bool
    validation: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Rows of a fold's files by path, and which of them serve for what."""

    rows: Mapping[str, tuple[Crop, ...]]
    test: frozenset[str]
    validation: frozenset[str]


def kind_of(path: str) -> str:
    return "video" if is_video(path) or path.startswith("videos/") else "image"


def choose_files(rows: Sequence[Crop], names: Collection[str]) -> Files:
    """A fold's files. Raises ConfigError where it could not be judged, or a file's people are among those learnt from."""
    apart = [row for row in rows if row.split != "train" and not row.variant]
    fakes = [row for row in apart if is_left_out(row, names)]
    sources = {row.source for row in fakes}
    reals = [row for row in apart if row.label == "real" and row.source in sources]
    if not fakes or not reals:
        raise ConfigError(f"leaving out {', '.join(names)}: held-out files of both labels are needed, the cache has not got them")
    kinds = {kind_of(row.path) for row in fakes}
    others = [
        row
        for row in apart
        if row.split == "heldout" and row.source not in names and not is_left_out(row, names) and kind_of(row.path) in kinds
    ]
    by_path: dict[str, list[Crop]] = defaultdict(list)
    for row in {(row.path, row.frame): row for row in (*fakes, *reals, *others)}.values():
        by_path[row.path].append(row)
    found = Files(
        rows={path: tuple(sorted(members, key=lambda row: row.frame)) for path, members in sorted(by_path.items())},
        test=frozenset(row.path for row in (*fakes, *reals)),
        validation=frozenset(row.path for row in others),
    )
    refuse_leaks(rows, found, names)
    return found


def refuse_leaks(rows: Sequence[Crop], files: Files, names: Collection[str]) -> None:
    """Raises ConfigError where a group, an original or a file is both learnt from and judged."""
    learnt = [row for row in rows if row.split == "train" and not is_left_out(row, names)]
    judged = [row for members in files.rows.values() for row in members]
    shared: dict[str, Set[object]] = {
        "groups": {row.group for row in learnt} & {row.group for row in judged},
        "originals": {(row.source, row.target) for row in learnt if row.target} & {(row.source, row.target) for row in judged},
        "files": {row.target if row.source == RECONSTRUCTED else row.path for row in learnt} & files.rows.keys(),
    }
    for what, found in shared.items():
        if found:
            first = sorted(map(str, found))[0]
            raise ConfigError(f"leaving out {', '.join(names)}: {len(found)} {what} judged and learnt from, the first {first}")


def score_files(network: DeepfakeNet, store: CropStore, files: Files) -> list[Score]:
    """Every file's mean logit over its crops, as a scan would cut them."""
    rows = [row for members in files.rows.values() for row in members]
    logits: dict[str, list[float]] = defaultdict(list)
    for start in range(0, len(rows), AT_ONCE):
        some = rows[start : start + AT_ONCE]
        for row, logit in zip(some, predict(network, np.stack([store.crop(row) for row in some])), strict=True):
            logits[row.path].append(float(logit))
    return [
        Score(
            path=path,
            label=members[0].label,
            source=members[0].source,
            manipulation=members[0].manipulation,
            group=members[0].group,
            kind=kind_of(path),
            crops=len(members),
            logit=float(np.mean(logits[path])),
            test=path in files.test,
            validation=path in files.validation,
        )
        for path, members in files.rows.items()
    ]


def write_scores(scores: Sequence[Score], path: Path) -> None:
    """Beside and then renamed: a file that is there is whole."""
    unfinished = path.with_suffix(".part")
    with unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Score)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(score) for score in scores)
    unfinished.replace(path)


def read_scores(path: Path) -> list[Score]:
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Score(
                path=row["path"],
                label=row["label"],
                source=row["source"],
                manipulation=row["manipulation"],
                group=row["group"],
                kind=row["kind"],
                crops=int(row["crops"]),
                logit=float(row["logit"]),
                test=row["test"] == "True",
                validation=row["validation"] == "True",
            )
            for row in csv.DictReader(file)
        ]


def claim(fit: Fit, cache: Path, folder: Path) -> None:
    """Note down what a fold's folder is for. Raises ConfigError where it was for something else."""
    mine = {"split_sha256": split_sha256(split_of(cache)), "fit": fit.model_dump(mode="json", exclude=FREE)}
    path = folder / FOLD
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(mine, indent=1).encode())
    elif json.loads(path.read_text("utf-8")) != mine:
        raise ConfigError(f"{folder} holds a fold of another recipe, budget or split; choose another folder with --run")


def run_study(study: Study, cache: Path, folder: Path, *, console: Console | None = None) -> Path:
    """Train and score every fold that is not yet, then write ``report.md``, ``.html`` and ``.json``; returns the first.

    All folds are checked before the first one is trained. Raises ConfigError.
    """
    console = console or Console()
    store = CropStore(cache)
    files = {name: choose_files(store.rows, names) for name, names in study.folds.items()}
    for name in study.folds:
        fit = study.fit(name)
        PairSampler(store, fit.mixture, fit.seed)
        claim(fit, cache, folder / name)
    scores: dict[str, list[Score]] = {}
    for number, (name, its_files) in enumerate(files.items(), start=1):
        path = folder / name / SCORES
        console.print(f"fold {number} of {len(files)}, {name}: {'scored' if path.exists() else 'training'}", highlight=False)
        if not path.exists():
            run = fit_network(study.fit(name), cache, folder / name, console=console)
            write_scores(score_files(run.ema, store, its_files), path)
        scores[name] = read_scores(path)
    return write_report(study, scores, folder)
