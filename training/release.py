"""From a run to a checkpoint that can be shipped, and to the scores of its averaged weights on crops that it never saw."""

from __future__ import annotations

import subprocess
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from training import terms
from training.data import held_out, is_left_out
from training.identity import rows_sha256
from training.labelled import earlier_splits, refuse_known, with_left_out
from training.prepare import RECONSTRUCTED, Crop, read_index
from training.provenance import split_of
from training.settings import Fit, Mixture
from training.splits import split_sha256
from training.state import STATE, damage_told, read_state
from worker.errors import ConfigError
from worker.model import checkpoint
from worker.model.network import DeepfakeNet, build
from worker.model.restore import load_network
from worker.model.spec import CropSpec, HeadSpec, ModelSpec, TrainingData, TrainingSource


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trained:
    """The averaged weights of a run and what they came from."""

    fit: Fit
    network: DeepfakeNet
    step: int
    crops: int
    trained_s: float
    rows_sha256: str | None
    """Names the cache's rows that it was trained on; None: the run is older than these names."""


def read_run(folder: Path) -> Trained:
    """Raises ConfigError where the folder holds no run, or one that is damaged or of another version."""
    path = folder / STATE
    if not path.exists():
        raise ConfigError(f"{folder} holds no run: {path.name} is missing")
    fit, state = read_state(path)
    with damage_told(path):
        network = build(
            backbone=fit.network.backbone,
            head=fit.network.head,
            families=len(fit.mixture.families),
            hidden_dim=fit.network.hidden_dim,
            num_steps=fit.network.num_steps,
        )
        network.load_state_dict(state["ema"])
        counts = state["counts"]
        return Trained(
            fit=fit,
            network=network.eval(),
            step=counts["step"],
            crops=counts["crops"],
            trained_s=counts["trained_s"],
            rows_sha256=state.get("rows_sha256"),
        )


def training_sources(rows: Sequence[Crop], mixture: Mixture) -> tuple[TrainingSource, ...]:
    """Files of each source that the mixture draws from, by label; left-out and held-out rows do not count."""
    files: dict[tuple[str, str], set[str]] = defaultdict(set)
    learnt = [row for row in rows if row.split == "train" and not is_left_out(row, mixture.leave_out)]
    with_reals = {row.source for row in learnt if row.label == "real"}
    drawn = [row for row in learnt if _is_drawn(row, mixture, with_reals)]
    originals = {row.target for row in drawn if row.source == RECONSTRUCTED}
    for row in [*drawn, *(row for row in learnt if row.label == "real" and row.path in originals)]:
        files[row.source, row.label].add(row.path)
    names = sorted({source for source, _ in files})
    return tuple(TrainingSource(name=name, real=len(files[name, "real"]), fake=len(files[name, "fake"])) for name in names)


def _is_drawn(row: Crop, mixture: Mixture, with_reals: Collection[str]) -> bool:
    """Whether a kind of pairs with a share can hold this training row; ``with_reals``: sources that have real ones, too."""
    if row.source == RECONSTRUCTED:
        return mixture.reconstruction + mixture.blend * mixture.remade_donor > 0
    family, beside = row.its_family, row.source in with_reals
    composite = mixture.composite if family in ("real", "manipulation") and beside and _names(mixture.composites, row) else 0.0
    synthetic = mixture.synthetic if family in ("real", "synthetic") and beside and _names(mixture.synthetics, row) else 0.0
    is_parent = family == "real" and (mixture.parents.get(row.source, 0.0) > 0 or not mixture.parents)
    parent = mixture.blend + mixture.traces + mixture.processing if is_parent else 0.0
    return (mixture.aligned if row.target else 0.0) + composite + synthetic + parent > 0


def _names(sources: Collection[str], row: Crop) -> bool:
    """An empty choice of sources is all of them."""
    return not sources or row.source in sources


def make_spec(trained: Trained, cache: Path, *, name: str, version: str, starts: Sequence[Path] = ()) -> ModelSpec:
    """The spec of a run's weights, without thresholds and calibrations of its own: those are fitted on scans.

    ``starts``: checkpoints beside ``network.start`` that the weights are made of.
    Raises ConfigError where the run was trained on other crops than the cache has, and where one of its starts has learnt from a
    group that it holds out. A run that does not say which crops is taken to be of this cache.
    """
    network, rows = trained.fit.network, read_index(cache)
    if trained.rows_sha256 is not None and trained.rows_sha256 != rows_sha256(rows):
        raise ConfigError(f"the run was trained on other crops than {cache} has now: name its own by --cache, or train anew")
    sources = training_sources(held_out(rows, trained.fit.hold_out), trained.fit.mixture)
    starts = [path for path in (network.start, *starts) if path is not None]
    licence = terms.of_training(trained.fit.terms, sources, data=terms.of_cache(cache), starts=starts, init=network.init)
    split, begun = split_sha256(split_of(cache)), [checkpoint.load_spec(path).training for path in starts]
    for path in starts if trained.fit.hold_out else ():
        refuse_known(path, trained.fit.hold_out, cache)
    return ModelSpec(
        name=name,
        version=version,
        backbone=network.backbone,
        head=HeadSpec(kind=network.head, hidden_dim=network.hidden_dim, num_steps=network.num_steps),
        families=trained.fit.mixture.families,
        crop=CropSpec(size=trained.fit.size),
        training=TrainingData(
            sources=with_left_out(sources, begun),
            split_sha256=split,
            held_out=trained.fit.hold_out,
            earlier_splits=earlier_splits(begun, split),
        ),
        git_revision=git_revision(),
        licence=licence,
        created=date.today(),
    )


def git_revision() -> str:
    """The commit that training's code stands at, or ``unknown`` outside a repository or without git."""
    command = ["git", "rev-parse", "--verify", "HEAD"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def average_with(network: DeepfakeNet, path: Path, share: float) -> None:
    """Leave ``share`` of every weight and batch statistic, take the rest from the checkpoint ``path`` that the run started from.

    What fine-tuning learns anew and what its start knew of other data add up along the line between the two (WiSE-FT, Wortsman et
    al., CVPR 2022). Raises ConfigError where the two networks differ.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"share must lie in 0 to 1, is {share}")
    start = load_network(path)[1].state_dict()
    ours = network.state_dict()
    if {name: value.shape for name, value in start.items()} != {name: value.shape for name, value in ours.items()}:
        raise ConfigError(f"{path}: not the network of the run")
    for name, value in ours.items():
        if value.is_floating_point():
            value.lerp_(start[name].to(value), 1 - share)


def export_checkpoint(
    run: Path, cache: Path, out: Path, *, name: str, version: str, start: Path | None = None, share: float = 0.5
) -> ModelSpec:
    """Write the run's averaged weights as fp16 safetensors with their spec; with ``start`` see ``average_with``."""
    trained = read_run(run)
    if start is not None:
        average_with(trained.network, start, share)
    spec = make_spec(trained, cache, name=name, version=version, starts=[] if start is None else [start])
    checkpoint.save(out, trained.network.state_dict(), spec)
    return spec
