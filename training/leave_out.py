"""Leave-one-source-out: one recipe trained anew for each fold without the fakes that the fold is then judged on.

A fold's *test* files are the fakes that it left out and the real files of their sources, of held-out groups or of sources that
nobody trains on. Its *validation* files are held-out files of what it was trained on, of the same kind of media; thresholds are
fitted on them. The real files of a left-out source's training groups stay in training: fakes are left out. Every fold keeps a run
of its own, ``FOLDER/FOLD``, that goes on where it was cut; what is scored is not trained again.

A study with a *stem* trains that first, in ``FOLDER/stem``: on real faces and what is made of them, no fake of any source. All
folds start from its averaged weights, so that the long part of the training is done once. The stem is judged too, on every fold.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence, Set
from copy import deepcopy
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console

from training.data import CropStore, PairSampler, is_left_out
from training.identity import rows_sha256
from training.leave_out_report import write_report
from training.loop import FREE, fit_network
from training.prepare import RECONSTRUCTED, Crop, read_index
from training.provenance import split_of
from training.release import average_with, export_checkpoint
from training.settings import STEM, Fit, Study
from training.splits import is_clip, split_sha256
from training.validate import logits_of
from worker.content import write_atomically
from worker.errors import ConfigError
from worker.model.restore import load_network

FOLD, WEIGHTS = "fold.json", "model.safetensors"
SCORES, SCORES_END, SCORES_STEM = "scores.csv", "scores-end.csv", "scores-stem.csv"
"""Of the weights that are judged; beside them of a fold's end, where an average is judged, and of the stem."""


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
    return "video" if is_clip(path) else "image"


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
        "originals": {row.target for row in learnt if row.target} & {row.target for row in judged},
        "files": {row.target if row.source == RECONSTRUCTED else row.path for row in learnt} & files.rows.keys(),
    }
    for what, found in shared.items():
        if found:
            first = sorted(map(str, found))[0]
            raise ConfigError(f"leaving out {', '.join(names)}: {len(found)} {what} judged and learnt from, the first {first}")


def scores_of(files: Files, logits: Mapping[str, float]) -> list[Score]:
    """The files of a fold with their logits."""
    return [
        Score(
            path=path,
            label=members[0].label,
            source=members[0].source,
            manipulation=members[0].manipulation,
            group=members[0].group,
            kind=kind_of(path),
            crops=len(members),
            logit=logits[path],
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


def claim(fit: Fit, cache: Path, folder: Path, stem: Fit | None = None) -> None:
    """Note down what a fold's folder is for, and what it starts from. Raises ConfigError where it was for something else."""
    mine: dict[str, object] = {
        "split_sha256": split_sha256(split_of(cache)),
        "rows_sha256": rows_sha256(read_index(cache)),
        "fit": _identity(fit),
    }
    if stem is not None:
        mine["stem"] = _identity(stem)
    path = folder / FOLD
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(mine, indent=1).encode())
    elif _with_defaults(json.loads(path.read_text("utf-8"))) != mine:
        raise ConfigError(
            f"{folder} holds a fold of another recipe, budget, stem or split, or other crops; choose another folder with --run"
        )


def _with_defaults(told: dict[str, object]) -> dict[str, object]:
    """What a folder was claimed for, settings that came later at their defaults; anything else as it is."""
    try:
        fits = {key: _identity(Fit.model_validate(told[key])) for key in ("fit", "stem") if key in told}
    except ValidationError:
        return told
    return told | fits


def _identity(fit: Fit) -> dict[str, object]:
    """What tells a run from others: not where the stem lies that a fold starts from, so that a study may be moved."""
    network = fit.network.model_copy(update={"start": None})
    return fit.model_copy(update={"network": network}).model_dump(mode="json", exclude=FREE)


def train_stem(stem: Fit, cache: Path, weights: Path, console: Console) -> None:
    """Write the stem's averaged weights, once; goes on with what its folder holds. Raises ConfigError where that is too long."""
    if weights.exists():
        return
    console.print("the stem: training", highlight=False)
    run = fit_network(stem, cache, weights.parent, console=console)
    if run.step != stem.last_step:
        raise ConfigError(
            f"{weights.parent} holds a run of {run.step} steps, the stem has {stem.last_step}; choose another folder"
        )
    export_checkpoint(weights.parent, cache, weights, name=f"veriframe-{STEM}", version="0")


def score_stem(weights: Path, store: CropStore, files: Mapping[str, Files], folder: Path) -> None:
    """Write the stem's scores of every fold's files, unless they are there; a file of several folds is looked at once."""
    paths = {name: folder / name / SCORES_STEM for name in files}
    if all(path.exists() for path in paths.values()):
        return
    rows_of = {path: members for its_files in files.values() for path, members in its_files.rows.items()}
    spec, network = load_network(weights)
    rows = [row for members in rows_of.values() for row in members]
    logits = logits_of(network, store, rows, size=spec.crop.size)
    for name, path in paths.items():
        write_scores(scores_of(files[name], logits), path)


def train_fold(study: Study, fit: Fit, cache: Path, folder: Path, store: CropStore, files: Files, console: Console) -> None:
    """Train one fold and write its scores, those of the judged weights last: where they are, the fold is done."""
    network = fit_network(fit, cache, folder, console=console).ema
    rows = [row for members in files.rows.values() for row in members]
    if study.share is not None and fit.network.start is not None:
        write_scores(scores_of(files, logits_of(network, store, rows, size=fit.size)), folder / SCORES_END)
        network = deepcopy(network)
        average_with(network, fit.network.start, study.share)
    write_scores(scores_of(files, logits_of(network, store, rows, size=fit.size)), folder / SCORES)


def run_study(study: Study, cache: Path, folder: Path, *, console: Console | None = None) -> Path:
    """Train and score the stem and every fold that is not yet, then write ``report.md``, ``.html``, ``.json``; returns the first.

    All folds are checked before the first one is trained. Raises ConfigError.
    """
    console = console or Console()
    store = CropStore(cache, hold_out=study.recipe.hold_out)
    files = {name: choose_files(store.rows, names) for name, names in study.folds.items()}
    weights = folder / STEM / WEIGHTS if study.stem is not None else None
    fits = {name: study.fit(name, weights) for name in study.folds}
    for fit in (*fits.values(), *([study.stem] if study.stem is not None else [])):
        PairSampler(store, fit.mixture, fit.seed)
    for name, fit in fits.items():
        claim(fit, cache, folder / name, study.stem)
    if study.stem is not None and weights is not None:
        claim(study.stem, cache, weights.parent)
        train_stem(study.stem, cache, weights, console)
        score_stem(weights, store, files, folder)
    for number, (name, its_files) in enumerate(files.items(), start=1):
        path = folder / name / SCORES
        told = f"fold {number} of {len(files)}, {name}: {'scored' if path.exists() else 'training'}"
        console.print(told, highlight=False, markup=False)
        if not path.exists():
            train_fold(study, fits[name], cache, folder / name, store, its_files, console)
    scores, end, stem = (
        {name: read_scores(folder / name / file) for name in files if (folder / name / file).exists()}
        for file in (SCORES, SCORES_END, SCORES_STEM)
    )
    beside = {"the folds' ends, not averaged": end, "the stem, before any fake was seen": stem}
    return write_report(study, scores, folder, beside={weights: found for weights, found in beside.items() if found})
