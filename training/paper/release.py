"""The final weights of a staged run as a checkpoint that ``veriframe scan --model`` takes."""

from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path

from training import terms
from training.labelled import earlier_splits, with_left_out
from training.paper.sets import Chosen
from training.paper.settings import FAMILIES, Pipeline, TrainStage
from training.provenance import split_of
from training.release import git_revision
from training.splits import split_sha256
from worker.model import checkpoint
from worker.model.network import DeepfakeNet
from worker.model.spec import CropSpec, HeadSpec, ModelSpec, TrainingData, TrainingSource


def write_checkpoint(
    pipeline: Pipeline, network: DeepfakeNet, chosen: Chosen, cache: Path, out: Path, *, name: str = "own", version: str = "1"
) -> ModelSpec:
    """fp16 safetensors with their spec. Thresholds are the plain ones: calibrations are fitted on scans, afterwards."""
    last = pipeline.stage(pipeline.weights_from)
    assert isinstance(last, TrainStage)
    init, split = pipeline.network.init, split_sha256(split_of(cache))
    start = None if init is None else terms.spec_of_start(init)
    begun = () if start is None else (start.training,)
    head = HeadSpec(
        kind="linear" if last.stage == "finetune" else pipeline.network.head,
        hidden_dim=pipeline.network.hidden_dim,
        num_steps=pipeline.network.num_steps,
        draws=pipeline.network.draws,
        ddim_stride=pipeline.network.ddim_stride,
    )
    spec = ModelSpec(
        name=name,
        version=version,
        backbone=pipeline.network.backbone,
        head=head,
        families=FAMILIES,
        crop=CropSpec(size=last.size),
        training=TrainingData(
            sources=with_left_out(trained_on(chosen), begun),
            split_sha256=split,
            earlier_splits=earlier_splits(begun, split),
        ),
        git_revision=git_revision(),
        licence=terms.of_training(
            pipeline.terms,
            trained_on(chosen),
            data=terms.of_cache(cache),
            starts=[] if init is None else [init],
            init=init,
        ),
        created=date.today(),
    )
    checkpoint.save(out, network.state_dict(), spec)
    return spec


def trained_on(chosen: Chosen) -> tuple[TrainingSource, ...]:
    """Files of both training sets by source, label and side, those that chose the epoch included."""
    files = {(row.source, row.label, row.split, row.path) for row in chosen.first.rows + chosen.second.rows}
    labels = Counter((source, label) for source, label, _, _ in files)
    leftout = Counter(source for source, _, split, _ in files if split == "leftout")
    return tuple(
        TrainingSource(name=name, real=labels[name, "real"], fake=labels[name, "fake"], leftout=leftout[name])
        for name in sorted({source for source, _ in labels})
    )
