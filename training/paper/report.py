"""The run folder's report, Markdown and HTML: Tables 1 to 4 and Figures 3 to 5 of the paper, ours beside theirs."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import timm
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined

from training.paper.evaluate import SourceResult, read_results
from training.paper.figures import draw_sources, draw_stage
from training.paper.noise import read_plan, shares
from training.paper.sets import Chosen, counts
from training.paper.settings import Pipeline
from training.paper.tables import PUBLISHED, TABLE_4, Extremes, Published, extremes, read_epochs, side_by_side
from training.release import git_revision
from training.terms import spec_of_start

MARKDOWN, HTML = "report.md", "report.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePart:
    """What the report shows of one training stage."""

    published: Published
    rows: list[tuple[str, ...]]
    best: str
    figure: str


def write_report(pipeline: Pipeline, chosen: Chosen, folder: Path) -> Path:
    """``report.md``, ``report.html`` and ``figures/`` from what the stages have left; the path of the Markdown."""
    told = contents(pipeline, chosen, folder)
    for name, escape in ((MARKDOWN, False), (HTML, True)):
        environment = Environment(
            loader=PackageLoader("training.paper"),
            autoescape=escape,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        (folder / name).write_text(environment.get_template(f"{name}.j2").render(told), "utf-8")
    return folder / MARKDOWN


def contents(pipeline: Pipeline, chosen: Chosen, folder: Path) -> dict[str, Any]:
    """All that the templates name; draws the figures."""
    results, found = _results(folder)
    network = pipeline.network
    judged = {row.source for row in chosen.test}
    start = None if network.init is None else spec_of_start(network.init)
    learnt_before = () if start is None else start.training.sources
    return {
        "stages": [_stage_part(published, folder) for published in PUBLISHED if _ran(pipeline, published.stage)],
        "results": results,
        "extremes": found,
        "published_4": TABLE_4,
        "learnt_too": sorted(judged & {row.source for row in (*chosen.first.rows, *chosen.second.rows)}),
        "known_to_start": sorted(judged & {source.name for source in learnt_before}),
        "sets": {
            "set 1, training": counts(chosen.first.train),
            "set 1, validation": counts(chosen.first.validation),
            "set 2, training": counts(chosen.second.train),
            "set 2, validation": counts(chosen.second.validation),
            "test": counts(chosen.test),
        },
        "noise": shares(read_plan(folder / "noise" / "plan.csv"), chosen.second.rows) if _ran(pipeline, "noise") else {},
        "noise_total": len(chosen.second.rows),
        "network": network,
        "start": "random weights" if network.init is None else network.init.name,
        "settings": {stage.stage: stage.model_dump(exclude={"stage"}) for stage in pipeline.stages},
        "about": {
            "configuration (sha256)": pipeline.sha256,
            "seed": pipeline.seed,
            "code": git_revision(),
            "precision": pipeline.hardware.precision,
            "machine": machine(),
            "libraries": f"torch {torch.__version__}, lightning-fabric {version('lightning-fabric')}, timm {timm.__version__}",
        },
    }


def machine() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()}, {torch.get_num_threads()} threads"


def _ran(pipeline: Pipeline, name: str) -> bool:
    return any(stage.stage == name for stage in pipeline.stages)


def _stage_part(published: Published, folder: Path) -> StagePart:
    ours = read_epochs(folder / published.stage)
    figure = f"figures/figure-{published.figure}.png"
    draw_stage(published, ours, folder / figure)
    best = min(ours, key=lambda line: line.validation_loss)
    return StagePart(
        published=published,
        rows=side_by_side(published, ours),
        best=f"epoch {best.epoch}, validation loss {best.validation_loss:.4f}, accuracy {best.validation_accuracy:.3f}",
        figure=figure,
    )


def _results(folder: Path) -> tuple[list[SourceResult], list[Extremes]]:
    path = folder / "evaluate" / "results.json"
    if not path.exists():
        return [], []
    results = read_results(path)
    draw_sources(results, folder / "figures" / "table-4.png")
    return results, extremes(results)
