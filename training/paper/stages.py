"""Runs the stages in order in one run folder, each skipped or continued where it was left; ends with checkpoint and report."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers.tensorboard import TensorBoardLogger

from training.folder_lock import LOCK
from training.identity import refuse_other_rows
from training.paper.engine import BEST, Task, train_stage
from training.paper.evaluate import evaluate, write_results
from training.paper.networks import check_words, load_start, load_weights, make_network, with_new_head
from training.paper.noise import Plan, draw_plan, read_plan, write_plan
from training.paper.release import write_checkpoint
from training.paper.report import write_report
from training.paper.sets import Chosen, as_found, choose_sets
from training.paper.settings import Baselines, EvaluateStage, Hardware, NoiseStage, Pipeline, Sets, TrainStage
from training.prepare import read_index
from worker.content import write_atomically
from worker.errors import ConfigError
from worker.model.network import DeepfakeNet
from worker.model.spec import ModelSpec

RUN, PLAN, RESULTS, MODEL = "run.json", "plan.csv", "results.json", "model.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A configuration with its folders and rows."""

    pipeline: Pipeline
    cache: Path
    folder: Path
    chosen: Chosen
    fabric: Fabric

    def best(self, stage: str) -> Path:
        return self.folder / stage / BEST

    @property
    def plan_path(self) -> Path:
        return self.folder / "noise" / PLAN

    @property
    def results_path(self) -> Path:
        return self.folder / "evaluate" / RESULTS


def run_pipeline(pipeline: Pipeline, cache: Path, folder: Path) -> Path | None:
    """All stages; ``folder`` gets a folder for each, ``model.safetensors`` and the reports. Returns the Markdown report's path.

    Raises ConfigError where the sets overlap or are empty, or ``folder`` holds a run of another configuration or on other crops.
    """
    run = open_run(pipeline, cache, folder)
    for stage in pipeline.stages:
        if isinstance(stage, TrainStage):
            train(run, stage)
        elif isinstance(stage, NoiseStage):
            plan_noise(run, stage)
        else:
            evaluate_run(run, stage)
    run.fabric.logger.finalize("success")
    if not run.fabric.is_global_zero:
        return None
    write_checkpoint(pipeline, final_network(pipeline, folder), run.chosen, run.cache, folder / MODEL)
    return write_report(pipeline, run.chosen, folder)


def open_run(pipeline: Pipeline, cache: Path, folder: Path) -> Run:
    """Checks settings and sets, then starts the processes and their logs."""
    for stage in pipeline.stages:
        if isinstance(stage, TrainStage):
            check_words(stage)
    chosen = read_sets(cache, pipeline.sets)
    fabric = launch(pipeline.hardware, folder)
    claim(pipeline, chosen, folder)
    return Run(pipeline=pipeline, cache=cache, folder=folder, chosen=chosen, fabric=fabric)


def read_sets(cache: Path, sets: Sets) -> Chosen:
    """Raises ConfigError for an empty cache, and for sets that overlap or lack a class."""
    rows = as_found(read_index(cache))
    if not rows:
        raise ConfigError(f"{cache} holds no crops; make them with: veriframe data prepare")
    return choose_sets(rows, sets)


def launch(hardware: Hardware, folder: Path) -> Fabric:
    """Starts the other processes where there are several devices. Raises ConfigError for words that Fabric does not take here."""
    torch.set_num_threads(hardware.threads)
    try:
        fabric = Fabric(
            accelerator=hardware.accelerator,
            devices=hardware.devices,
            strategy=hardware.strategy,
            precision=hardware.precision,
            loggers=TensorBoardLogger(folder, name="tensorboard"),
        )
        fabric.launch()
    except (RuntimeError, TypeError, ValueError) as exc:
        told = ", ".join(f"{name} {getattr(hardware, name)}" for name in ("accelerator", "devices", "strategy", "precision"))
        raise ConfigError(f"hardware ({told}): {exc}") from exc
    return fabric


def claim(settings: Pipeline | Baselines, chosen: Chosen, folder: Path) -> None:
    """Write the configuration to the folder, and which crops it is for. Raises ConfigError where results of others are there.

    So too where a run is there that does not say which crops it is for: stages that are done would be passed over. A folder that
    holds nothing else yet is claimed anew: what ended its run at the start can be put right. Anything else may be the work of
    another process that has not saved a state yet.
    """
    path = folder / RUN
    told = {"sha256": settings.sha256, "rows_sha256": chosen.sha256, "settings": settings.model_dump(mode="json")}
    if path.exists():
        before = read_claim(path)
        if before == told:
            return
        if any(other.name not in (RUN, LOCK) for other in folder.iterdir()):
            if before["sha256"] != settings.sha256:
                raise ConfigError(f"{folder} holds a run of another configuration; choose another folder with --run")
            refuse_other_rows(before.get("rows_sha256"), chosen.sha256, folder)
            return
    write_atomically(path, json.dumps(told, indent=1).encode())


def read_claim(path: Path) -> dict[str, Any]:
    """What a run's folder was claimed for. Raises ConfigError for a file that does not say it."""
    try:
        found = json.loads(path.read_text("utf-8"))
        return {"sha256": found["sha256"], **found}
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise ConfigError(f"{path} does not say what the run is of ({exc!r}); choose another folder with --run") from exc


def train(run: Run, stage: TrainStage) -> None:
    """Where the stage was left, or from the weights of the stage before."""
    second = stage.stage != "finetune"
    task = Task(
        stage=stage,
        hardware=run.pipeline.hardware,
        seed=run.pipeline.seed,
        identity=f"{stage.stage} {run.pipeline.sha256} {run.chosen.sha256}",
        cache=run.cache,
        data=run.chosen.second if second else run.chosen.first,
        plan=read_plan(run.plan_path) if second else None,
        folder=run.folder / stage.stage,
    )
    train_stage(starting_network(run, stage), task, run.fabric)


def starting_network(run: Run, stage: TrainStage) -> DeepfakeNet:
    network, seed = run.pipeline.network, run.pipeline.seed
    if stage.stage == "finetune":
        made = make_network(network, "linear", seed=seed)
        if network.init is not None:
            load_start(made.backbone, network.init)
        return made
    if stage.stage == "head":
        return with_new_head(network, run.best("finetune"), seed=seed)
    made = make_network(network, network.head, seed=seed)
    load_weights(made, run.best("head"))
    return made


def plan_noise(run: Run, stage: NoiseStage) -> Plan:
    """Draw and write which crops of set 2 are corrupted, and how much."""
    if run.fabric.is_global_zero and not run.plan_path.exists():
        plan = draw_plan(run.chosen.second, alpha=stage.alpha, seed=run.pipeline.seed)
        run.plan_path.parent.mkdir(parents=True, exist_ok=True)
        write_plan(plan, run.chosen.second, run.plan_path)
    run.fabric.barrier()
    return read_plan(run.plan_path)


def evaluate_run(run: Run, stage: EvaluateStage) -> None:
    """The final weights on the test set, by the first process alone."""
    if not run.fabric.is_global_zero or run.results_path.exists():
        return
    network = final_network(run.pipeline, run.folder)
    run.results_path.parent.mkdir(parents=True, exist_ok=True)
    results = evaluate(network, run.chosen.test, cache=run.cache, stage=stage, hardware=run.pipeline.hardware, fabric=run.fabric)
    write_results(results, run.results_path)


def final_network(pipeline: Pipeline, folder: Path) -> DeepfakeNet:
    """The network of the last training stage with its best weights."""
    last = pipeline.weights_from
    network = make_network(pipeline.network, "linear" if last == "finetune" else pipeline.network.head, seed=pipeline.seed)
    load_weights(network, folder / last / BEST)
    return network.eval()


def read_run(folder: Path) -> tuple[Pipeline, str | None]:
    """The configuration that a run folder holds, and the name of its rows. Raises ConfigError where it holds no staged run.

    None: the run is older than these names.
    """
    try:
        told = json.loads((folder / RUN).read_text("utf-8"))
        return Pipeline.model_validate(told["settings"]), told.get("rows_sha256")
    except (OSError, KeyError, ValueError) as exc:
        raise ConfigError(f"{folder} holds no staged run: {exc}") from exc


def export_run(folder: Path, cache: Path, out: Path, *, name: str, version: str) -> ModelSpec:
    """The run's final weights under another name. Raises ConfigError where they are not there, or came from another cache.

    A run that does not say which crops it was trained on is taken to be of this cache.
    """
    pipeline, rows = read_run(folder)
    chosen = read_sets(cache, pipeline.sets)
    if rows is not None and rows != chosen.sha256:
        raise ConfigError(f"{folder} was trained on other crops than {cache} has now: name its own by --cache, or train anew")
    return write_checkpoint(pipeline, final_network(pipeline, folder), chosen, cache, out, name=name, version=version)
