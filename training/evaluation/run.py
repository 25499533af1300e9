"""One evaluation from manifest to report folder."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from training.evaluation import document as report_document
from training.evaluation import robustness, sections, summary
from training.evaluation.cases import Case, plain_split, read_cases, sample
from training.evaluation.judged import Judged, judge_all, write_csv
from training.evaluation.results import Evaluation, Level
from training.evaluation.scanning import match, read_reports, scan_cases
from training.labelled import as_learnt
from training.plain import PARTS
from training.room import refuse_unwritable
from training.splits import SPLITS
from worker import __version__
from worker.errors import ConfigError
from worker.frame_source import build_frames
from worker.jobs import BuildScanner
from worker.model.checkpoint import load_spec, sha256
from worker.model.packaged import default_checkpoint
from worker.model.spec import TrainingData
from worker.progress import Bar
from worker.report import Model, Report, now
from worker.settings import Settings

KNOWN_SPLITS = ("", *SPLITS, *sorted(set(PARTS) - set(SPLITS)))
"""Those of which it is known whether they are learnt from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is evaluated, and how much of it. ``splits``: only files of these; None leaves out those that were trained on."""

    manifest: Path
    out: Path
    data: Path | None = None
    splits: tuple[str, ...] | None = None
    limit: int | None = None
    reports: tuple[Path, ...] = ()
    robust_videos: int = 0
    robust_pictures: int = 0
    draws: int = summary.DRAWS
    workers: int = 1
    quiet: bool = False


def evaluate(plan: Plan, settings: Settings, build: BuildScanner) -> Evaluation:
    """Scan (or take finished reports), judge, and write ``report.json``, ``.md``, ``.html`` and ``scores.csv`` into the folder.

    Raises ConfigError, ModelError, ``scanning.Stopped``.
    """
    refuse_unwritable(plan.out / "report.json")
    finished = read_reports(plan.reports)
    cases, left_out = choose(read_cases(plan.manifest, plan.data), plan, _training(settings, finished))
    plan.out.mkdir(parents=True, exist_ok=True)
    if plan.reports:
        reports = match(cases, finished)
    else:
        reports = scan_cases(cases, plan.out, build=build, settings=settings, workers=plan.workers, quiet=plan.quiet)
    if unscanned := len(cases) - len(reports):
        left_out["without a report"] = unscanned
    judged = judge_all(cases, reports)
    found = Evaluation(
        created=now(),
        veriframe=__version__,
        manifest=plan.manifest.name or plan.manifest.resolve().name,
        manifest_sha256=hashlib.sha256(plan.manifest.read_bytes()).hexdigest() if plan.manifest.is_file() else None,
        model=_model(list(reports.values())),
        files=len(judged),
        left_out=left_out,
        seen_in_training=sum(item.case.split == "train" for item in judged),
        rows=tuple(summary.rows(judged, draws=plan.draws)),
        rules=tuple(summary.rules(judged, draws=plan.draws)),
        pairs=tuple(summary.pairs(judged)),
        demographics=tuple(summary.demographics(judged)),
        robustness=tuple(_robustness(judged, plan, settings, build)),
    )
    write_csv(judged, plan.out / "scores.csv")
    (plan.out / "report.json").write_text(found.model_dump_json(indent=1) + "\n", "utf-8")
    report_document.write(sections.document(found, judged), plan.out)
    return found


def _training(settings: Settings, finished: Sequence[Report]) -> TrainingData:
    """What the checkpoint was trained on; nothing is known of that of finished reports if the settings name another."""
    checkpoint = settings.model.checkpoint or default_checkpoint()
    made_with = {report.model.sha256 for report in finished if report.model is not None}
    if made_with and made_with != {sha256(checkpoint)}:
        return TrainingData(sources=())
    return load_spec(checkpoint).training


def choose(cases: Sequence[Case], plan: Plan, training: TrainingData) -> tuple[list[Case], dict[str, int]]:
    """The cases to judge, those of ``train`` that the checkpoint learnt from whatever the manifest says, and how many were left
    out by reason. Raises ConfigError where none is left, and for a split that is not known unless splits are named: its files may
    have been learnt from."""
    left_out: dict[str, int] = {}
    learnt = as_learnt(cases, training)
    if plan.splits is None:
        if odd := next((case for case in cases if case.split not in KNOWN_SPLITS), None):
            raise ConfigError(
                f"{plan.manifest}: {odd.name}: split {odd.split!r}; one of {', '.join(KNOWN_SPLITS[1:])}, or name by --split the "
                "ones to judge"
            )
        wanted = [case for case in learnt if case.split != "train"]
        if dropped := len(cases) - len(wanted):
            left_out["training files (--split train would take them)"] = dropped
    else:
        named = {plain_split(name) for name in plan.splits}
        wanted = [case for case, given in zip(learnt, cases, strict=True) if named & {case.split, given.split}]
        if dropped := len(cases) - len(wanted):
            left_out["of other splits"] = dropped
    if not wanted:
        known = Counter(case.split or "none" for case in cases)
        raise ConfigError(f"{plan.manifest}: no file is left to judge; its splits: {dict(known)}")
    chosen = sample(wanted, plan.limit)
    if dropped := len(wanted) - len(chosen):
        left_out["beyond --limit"] = dropped
    return chosen, left_out


def _model(reports: Sequence[Report]) -> Model:
    model = next((report.model for report in reports if report.model is not None), None)
    if model is None:
        raise ConfigError("no file could be scanned: the reports name no model")
    return model


def _robustness(judged: Sequence[Judged], plan: Plan, settings: Settings, build: BuildScanner) -> list[Level]:
    wanted = robustness.trials(judged, videos=plan.robust_videos, pictures=plan.robust_pictures)
    if not wanted:
        return []
    console = Console(stderr=True)
    bar = Bar(console, total=len(wanted), live=console.is_terminal and not plan.quiet)
    with build(settings) as scanner, build_frames(settings) as frames, bar:

        def on_trial(trial: robustness.Trial) -> None:
            bar.begin(f"{trial.family.name} {trial.level:g}")

        found = robustness.run(wanted, plan.out / robustness.FILE, scanner, frames, on_trial=on_trial, on_done=bar.advance)
    return robustness.levels(wanted, found, draws=min(plan.draws, 300))
