"""One adaptation from corrected cases to a checkpoint, or to the reasons against it; killed, it goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import ValidationError
from rich.console import Console
from rich.progress import Progress

from training import provenance, terms
from training.adaptation.feedback import FeedbackSampler, cut_feedback, leaks_into, thumbnails
from training.adaptation.gate import judge
from training.adaptation.report import write_report
from training.adaptation.results import Adapted, Case, Gate, Tried
from training.adaptation.settings import Adaptation
from training.check import SHOWN
from training.data import CropStore
from training.device import choose_device
from training.identity import rows_sha256
from training.labelled import as_learnt, earlier_splits
from training.layouts import Listing, list_source
from training.loop import Run, parameter_groups, train_step
from training.prepare import Crop, read_index
from training.release import average_with, git_revision, training_sources
from training.room import refuse_unwritable
from training.settings import Fit
from training.splits import split_sha256
from training.validate import choose, predict
from worker.content import write_atomically
from worker.errors import ConfigError
from worker.model import checkpoint
from worker.model.network import DeepfakeNet
from worker.model.restore import load_network
from worker.model.spec import ModelSpec, TrainingData, TrainingSource
from worker.report import now
from worker.types import UInt8

IDENTITY, CANDIDATE, CROPS = "adaptation.json", "candidate.safetensors", "feedback"
TOGETHER = 64
"""Crops in memory at a time while scoring."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """``version``: of the new checkpoint; None is the parent's with ``-adapted``."""

    feedback: Path
    model: Path
    cache: Path
    out: Path
    folder: Path
    settings: Adaptation
    version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Crops that both checkpoints score."""

    store: CropStore
    rows: Sequence[Crop]


Train = Callable[[Run, FeedbackSampler, Adaptation, Progress], None]


def train(run: Run, sampler: FeedbackSampler, settings: Adaptation, progress: Progress) -> None:
    """To the last step, from where ``run`` stands; saved every ``save_every_steps``."""
    size = run.fit.stage(0).size
    task = progress.add_task("adapting", total=settings.steps, completed=run.step)
    while run.progress < 1:
        train_step(run, sampler.batch(run.step, size))
        progress.update(task, completed=run.step, description=f"adapting, loss {run.losses[-1][0]:.3f}")
        if run.step % settings.save_every_steps == 0:
            run.save()
    run.save()


def adapt(plan: Plan, console: Console, train: Train = train) -> Adapted:
    """Cut, check, train, judge; ``report.md`` and ``report.json`` in ``plan.folder``, the checkpoint where the gate accepts it.

    Raises ConfigError, naming the files, where feedback is in the regression set, and for what cannot be used; ModelError.
    """
    settings = plan.settings
    refuse_unwritable(plan.out)
    if plan.out.exists() and plan.model.exists() and plan.out.samefile(plan.model):
        raise ConfigError(f"{plan.out} is --model itself, which is left as it is: name another file for --out")
    torch.set_num_threads(settings.threads)
    spec, parent = load_network(plan.model)
    fit, digest = settings.fit(spec), checkpoint.sha256(plan.model)
    rows = read_index(plan.cache)
    unlearnt = held_groups(rows, spec.training)
    cache = CropStore(plan.cache, rows, hold_out=unlearnt)
    judging = [row for row in as_learnt(cache.rows, spec.training) if row.split != "train"]
    regression = choose(judging, frames_per_clip=settings.regression.frames, pictures_per_class=settings.regression.pictures)
    if not regression:
        raise ConfigError(f"{plan.cache} holds no crops that are not trained on: there is nothing to judge a checkpoint by")
    listing = list_source(plan.feedback, "manifest")
    _claim(plan, digest)
    feedback = cut_feedback(listing, plan.folder / CROPS, settings, provenance.crop_px_of(plan.cache))
    adapted, candidate = _spec(spec, plan, digest, cache, unlearnt, feedback.rows), plan.folder / CANDIDATE
    with Progress(console=console) as progress:
        _refuse_leaks(listing, feedback, cache, judging, plan.cache, progress)
        run = start(fit, parent, plan.folder, rows_sha256=rows_sha256([*cache.rows, *feedback.rows]))
        train(run, FeedbackSampler(feedback, cache, settings, spec.families, spec.crop.size), settings, progress)
        sets = Judged(store=cache, rows=regression), Judged(store=feedback, rows=feedback.rows)
        before = [_scores(parent.to(run.device), one, spec, progress, "scoring by the parent") for one in sets]
        tried: list[Tried] = []
        for share in settings.shares:
            gate = _judged_share(share, run, plan, adapted, sets, before, progress)
            tried.append(Tried(share=share, refusals=gate.refusals))
            if gate.is_accepted:
                break
    if gate.is_accepted:
        write_atomically(plan.out, candidate.read_bytes())
    candidate.unlink()
    skipped = {one.path: one.code for one in provenance.read_skipped(plan.folder / CROPS)}
    result = Adapted(
        created=now(),
        name=adapted.name,
        version=adapted.version,
        parent_version=spec.version,
        parent_sha256=digest,
        sha256=checkpoint.sha256(plan.out) if gate.is_accepted else None,
        settings=settings,
        feedback_files=len(before[1]),
        feedback_skipped=skipped,
        regression_sha256=_name_of(regression),
        regression_files=len(before[0]),
        regression_crops=len(regression),
        is_other_split=spec.training.split_sha256 not in (None, adapted.training.split_sha256),
        training=adapted.training,
        tried=tuple(tried),
        gate=gate,
    )
    write_report(result, plan.folder)
    return result


def held_groups(rows: Sequence[Crop], training: TrainingData) -> set[str]:
    """Groups of ``train`` that the parent has not learnt from: they judge, so they are not replayed."""
    known = zip(rows, as_learnt(rows, training), strict=True)
    return {row.group for row, its in known if row.split == "train" and its.split != "train"}


def _judged_share(
    share: float,
    run: Run,
    plan: Plan,
    adapted: ModelSpec,
    sets: tuple[Judged, Judged],
    before: Sequence[dict[str, list[float]]],
    progress: Progress,
) -> Gate:
    """The gate's word on so much of the end of training, the rest the parent's; ``CANDIDATE`` is what would be written."""
    averaged, candidate, regression = deepcopy(run.ema), plan.folder / CANDIDATE, plan.settings.regression
    average_with(averaged, plan.model, share)
    checkpoint.save(candidate, averaged.state_dict(), adapted)
    network = load_network(candidate)[1].to(run.device)
    after = [_scores(network, one, adapted, progress, f"scoring, share {share:g}") for one in sets]
    old, new = (_cases(one, *logits) for one, *logits in zip(sets, before, after, strict=True))
    return judge(old, new, draws=regression.draws, tolerance=regression.tolerance)


def _refuse_leaks(
    listing: Listing, feedback: CropStore, cache: CropStore, held: Sequence[Crop], folder: Path, progress: Progress
) -> None:
    """Raises ConfigError, with names, where feedback is among ``held``, the cache's rows that are not trained on."""
    made_of = provenance.read(folder)

    def looks(store: CropStore, rows: Sequence[Crop]) -> Iterator[UInt8]:
        yield from progress.track(thumbnails(store, rows), total=len(rows), description="looking for leaks")

    if found := leaks_into(listing, feedback, held, cache, made_of.root if made_of else folder, looks):
        told = "".join(f"\n  {leak}" for leak in found[:SHOWN])
        raise ConfigError(f"{len(found)} times feedback is among the files that judge it; take it out:{told}")


def start(fit: Fit, parent: DeepfakeNet, folder: Path, *, rows_sha256: str) -> Run:
    """A run from the parent's weights, or the one that ``folder`` holds."""
    network = deepcopy(parent).requires_grad_(True)
    network = network.to(choose_device(fit.device), memory_format=torch.channels_last)  # type: ignore[call-overload]
    ema = deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.AdamW(parameter_groups(network, fit), lr=fit.lr, weight_decay=fit.weight_decay, fused=True)
    run = Run(fit=fit, folder=folder, rows_sha256=rows_sha256, network=network, ema=ema, optimizer=optimizer)
    if run.state_path.exists():
        run.load()
    return run


def _claim(plan: Plan, digest: str) -> None:
    """Note what the folder is for. Raises ConfigError where it is for something else."""
    free = {"threads", "save_every_steps", "regression", "shares"}
    told = {"parent_sha256": digest, "settings": plan.settings.model_dump(mode="json", exclude=free)}
    path = plan.folder / IDENTITY
    if path.exists() and _with_defaults(json.loads(path.read_text("utf-8")), free) != told:
        raise ConfigError(f"{plan.folder} holds an adaptation of another checkpoint or with other settings: name another --run")
    plan.folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(told, indent=1).encode())


def _with_defaults(told: dict[str, Any], free: set[str]) -> dict[str, Any]:
    """What a folder was claimed for, settings that came later at their defaults; anything else as it is."""
    try:
        return told | {"settings": Adaptation.model_validate(told.get("settings")).model_dump(mode="json", exclude=free)}
    except ValidationError:
        return told


def _spec(
    parent: ModelSpec, plan: Plan, digest: str, cache: CropStore, unlearnt: set[str], feedback: Sequence[Crop]
) -> ModelSpec:
    """The parent's, its calibration marked as inherited, with what was learnt from since."""
    sources = {source.name: source for source in parent.training.sources}
    for source in training_sources(cache.rows, plan.settings.mixture):
        sources.setdefault(source.name, source)
    for name in sorted({row.source for row in feedback}):
        files = {(row.label, row.path) for row in feedback if row.source == name}
        labels = [label for label, _ in files]
        key = f"feedback {name}"
        before = sources.get(key, TrainingSource(name=key))
        sources[key] = TrainingSource(name=key, real=before.real + labels.count("real"), fake=before.fake + labels.count("fake"))
    split = split_sha256(provenance.split_of(plan.cache))
    training = TrainingData(
        sources=tuple(sources.values()),
        split_sha256=split,
        parent_sha256=digest,
        held_out=tuple(sorted({*parent.training.held_out, *unlearnt})),
        earlier_splits=earlier_splits([parent.training], split),
    )
    changed = {
        "version": plan.version or f"{parent.version}-adapted",
        "calibration_is_inherited": True,
        "training": training,
        "licence": terms.together([parent.licence, *terms.of_cache(plan.cache)]),
        "git_revision": git_revision(),
        "created": date.today(),
    }
    return parent.model_copy(update=changed)


def _scores(
    network: DeepfakeNet, judged: Judged, spec: ModelSpec, progress: Progress, description: str
) -> dict[str, list[float]]:
    """The logits of each file's crops, as a scan would cut them."""
    logits: dict[str, list[float]] = defaultdict(list)
    parts = [judged.rows[first : first + TOGETHER] for first in range(0, len(judged.rows), TOGETHER)]
    for part in progress.track(parts, description=description):
        crops_FHWC = np.stack([judged.store.crop(row, margin=spec.crop.margin, size=spec.crop.size) for row in part])
        for row, logit in zip(part, predict(network, crops_FHWC), strict=True):
            logits[row.path].append(float(logit))
    return logits


def _cases(judged: Judged, before: dict[str, list[float]], after: dict[str, list[float]]) -> list[Case]:
    """Each file scored by both networks, on the same crops."""
    first = {row.path: row for row in reversed(judged.rows)}
    found: list[Case] = []
    for path, logits in before.items():
        row = first[path]
        label: Literal["real", "fake"] = "fake" if row.label == "fake" else "real"
        means = float(np.mean(logits)), float(np.mean(after[path]))
        found.append(Case(path=path, label=label, source=row.source, group=row.group, before=means[0], after=means[1]))
    return found


def _name_of(rows: Sequence[Crop]) -> str:
    return hashlib.sha256("\n".join(f"{row.path} {row.frame} {row.split}" for row in rows).encode()).hexdigest()
