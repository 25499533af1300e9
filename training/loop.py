"""One training run: AdamW, cosine with warm-up, progressive resolution, EMA; stops at a time limit, continues where it was cut.

Batches follow from (seed, step), noise too, so on the CPU a run cut and continued gives the very weights of an uncut one (by
steps; by minutes the schedule follows the clock). Axes: F crops, K families, C colours, H rows, W columns.
"""

from __future__ import annotations

import csv
import io
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from training.data import Batch, CropStore, PairSampler, load_batch, start_loader
from training.device import choose_device, place
from training.errors import Diverged
from training.identity import refuse_other_rows, rows_sha256
from training.labelled import refuse_known
from training.maskbranch import MaskBranch
from training.pace import Pace
from training.prepare import read_index
from training.provenance import whole_lines
from training.room import beside
from training.settings import FAMILIES, Fit, Network, Stage
from training.state import STATE, damage_told, read_state, write_state
from training.validate import choose, validate
from worker.content import full_told
from worker.errors import ConfigError, ModelError
from worker.model.network import DeepfakeNet, build, score_logit
from worker.model.restore import load_network

STEPS, VALIDATION = "steps.csv", "validation.csv"
AHEAD = 6
"""Batches that each loading process may be ahead."""
FREE = {
    "minutes",
    "save_every_minutes",
    "validate_every_minutes",
    "validate_every_steps",
    "threads",
    "device",
    "loaders",
    "terms",
}
"""Settings that do not change what a run of so many steps gives."""
OnValidation = Callable[[int, dict[str, float]], None]
"""Told the step and what ``validate`` found; what it raises ends the training."""


def make_network(network: Network, seed: int, families: int = len(FAMILIES)) -> DeepfakeNet:
    """The network to be trained, its backbone from ``network.init`` where given. Raises ConfigError if that does not fit, and for
    a backbone that timm does not know."""
    torch.manual_seed(seed)
    try:
        made = build(
            backbone=network.backbone,
            head=network.head,
            families=families,
            hidden_dim=network.hidden_dim,
            num_steps=network.num_steps,
        )
    except RuntimeError as exc:
        raise ConfigError(f"network.backbone: timm has no {network.backbone!r}: {exc}") from exc
    if network.init is not None:
        try:
            made.backbone.load_state_dict(load_file(network.init))
        except (OSError, RuntimeError, SafetensorError) as exc:
            raise ConfigError(f"{network.init}: does not fit {network.backbone}: {exc}") from exc
    if network.start is not None:
        try:
            made.load_state_dict(load_network(network.start)[1].state_dict())
        except (ModelError, RuntimeError) as exc:
            raise ConfigError(f"{network.start}: does not fit the network that is configured: {exc}") from exc
    return made


def learning_rate(progress: float, *, peak: float, warmup: float) -> float:
    """Linear from 0, then half a cosine to 1 % of the peak; ``progress`` in [0, 1]."""
    if progress < warmup:
        return peak * (progress / warmup)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup))))


def add_noise(pixels_FCHW: Tensor, *, share: float, alpha: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Equation 2, ``sqrt(a) x + sqrt(1 - a) z``, on ``share`` of the pairs of normalised crops; both of a pair get one ``a``.

    Drawn on the CPU by its ``generator``: the same on every device.
    """
    pairs = len(pixels_FCHW) // 2
    chosen_F = (torch.rand(pairs, generator=generator) < share).repeat_interleave(2)
    alpha_F = torch.empty(pairs).uniform_(*alpha, generator=generator).repeat_interleave(2)
    if not chosen_F.any():
        return pixels_FCHW
    noise = torch.randn((int(chosen_F.sum()), *pixels_FCHW.shape[1:]), generator=generator).to(pixels_FCHW.device)
    a = alpha_F[chosen_F].view(-1, 1, 1, 1).to(pixels_FCHW.device)
    chosen_F = chosen_F.to(pixels_FCHW.device)
    out = pixels_FCHW.clone()
    out[chosen_F] = a.sqrt() * pixels_FCHW[chosen_F] + (1 - a).sqrt() * noise
    return out


@torch.no_grad()
def follow(ema: nn.Module, network: nn.Module, decay: float) -> None:
    """Exponential moving average of weights and of batch statistics."""
    theirs = network.state_dict()
    for name, value in ema.state_dict().items():
        if value.is_floating_point():
            value.lerp_(theirs[name].to(value.dtype), 1 - decay)
        else:
            value.copy_(theirs[name])


@dataclass(kw_only=True)
class Run:
    """Everything that a checkpoint of a run holds."""

    fit: Fit
    folder: Path
    rows_sha256: str
    """Names the crops that it learns from and is judged on (``training.identity``)."""
    network: DeepfakeNet
    ema: DeepfakeNet
    optimizer: torch.optim.Optimizer
    step: int = 0
    trained_s: float = 0.0
    crops: int = 0
    branch: MaskBranch | None = None
    losses: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=50))

    @classmethod
    def start(cls, fit: Fit, folder: Path, *, rows_sha256: str) -> Run:
        """A new run, or the one that ``folder`` holds."""
        network = make_network(fit.network, fit.seed, len(fit.mixture.families))
        network = network.to(choose_device(fit.device), memory_format=torch.channels_last)  # type: ignore[call-overload]
        ema = deepcopy(network).requires_grad_(False)
        branch = MaskBranch(network).to(choose_device(fit.device)) if fit.mask_weight else None
        groups = parameter_groups(network, fit)
        if branch is not None:
            groups.append({"params": [branch.classify.weight], "part": "head", "weight_decay": fit.weight_decay})
            groups.append({"params": [branch.classify.bias], "part": "head", "weight_decay": 0.0})
        optimizer = torch.optim.AdamW(groups, lr=fit.lr, weight_decay=fit.weight_decay, fused=True)
        folder.mkdir(parents=True, exist_ok=True)
        run = cls(fit=fit, folder=folder, rows_sha256=rows_sha256, network=network, ema=ema, optimizer=optimizer, branch=branch)
        if run.state_path.exists():
            run.load()
        return run

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @property
    def state_path(self) -> Path:
        return self.folder / STATE

    @property
    def progress(self) -> float:
        """Share of the run that is done, in [0, 1]."""
        done = self.step / self.fit.steps if self.fit.steps else self.trained_s / (self.fit.minutes * 60)
        return min(1.0, done)

    @property
    def done(self) -> bool:
        return self.progress >= 1 or (self.fit.stop is not None and self.step >= self.fit.stop)

    def save(self) -> None:
        """A cut never leaves half a file. Raises StorageFull."""
        state = {
            "network": self.network.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "branch": self.branch.state_dict() if self.branch is not None else {},
            "counts": {"step": self.step, "trained_s": self.trained_s, "crops": self.crops},
            "fit": self.fit.model_dump_json(),
            "rows_sha256": self.rows_sha256,
        }
        write_state(self.state_path, state)

    def load(self) -> None:
        """Raises ConfigError where the folder's run had another configuration than its length and hardware, or other crops.

        So too where it does not say which crops it had, and where the state is damaged or of another version.
        """
        theirs, state = read_state(self.state_path)
        free = {*FREE, "steps", "stop"}
        if theirs.model_dump(exclude=free) != self.fit.model_dump(exclude=free):
            raise ConfigError(f"{self.folder} holds a run with another configuration; choose another folder")
        refuse_other_rows(state.get("rows_sha256"), self.rows_sha256, self.folder)
        with damage_told(self.state_path):
            self.network.load_state_dict(state["network"])
            self.ema.load_state_dict(state["ema"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.branch is not None:
                self.branch.load_state_dict(state["branch"])
            self.step, self.trained_s, self.crops = (state["counts"][name] for name in ("step", "trained_s", "crops"))


def parameter_groups(network: DeepfakeNet, fit: Fit) -> list[dict[str, Any]]:
    """Stem, trunk and head apart (each has its rate), and no decay for biases and norms."""
    kinds: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, value in network.named_parameters():
        stem = name.startswith(("backbone.conv_stem", "backbone.bn1", "backbone.conv1"))
        part = "stem" if stem else "head" if name.startswith("head.") else "trunk"
        kinds.setdefault((part, value.ndim > 1), []).append(value)
    return [
        {"params": values, "part": part, "weight_decay": fit.weight_decay if decayed else 0.0}
        for (part, decayed), values in sorted(kinds.items())
    ]


def share_of_rate(part: str, progress: float, fit: Fit) -> float:
    """The stem stands still at first: the bundled start's stem has an unusual scale (its batch norms were estimated anew)."""
    if part == "stem":
        return 0.0 if progress < fit.stem_frozen_until else fit.stem_lr_share
    return fit.head_lr_share if part == "head" else 1.0


def train_step(run: Run, batch: Batch) -> None:
    """One update of the weights and their average. Raises Diverged where loss or gradients are no numbers: nothing is updated."""
    fit, progress = run.fit, run.progress
    for group in run.optimizer.param_groups:
        group["lr"] = learning_rate(progress, peak=fit.lr, warmup=fit.warmup) * share_of_rate(group["part"], progress, fit)
    generator = torch.Generator().manual_seed(fit.seed * 1_000_003 + run.step)
    run.network.train()
    device = run.device
    family_F = place(batch.family_F, device)
    pixels_FCHW = run.network.normalise(place(batch.crops_FHWC, device))
    pixels_FCHW = add_noise(pixels_FCHW, share=fit.noise_share, alpha=fit.noise_alpha, generator=generator)
    with torch.autocast(device.type, torch.bfloat16, enabled=fit.bf16 or device.type == "cuda"):
        logits_FK = run.network.forward_normalised(pixels_FCHW.contiguous(memory_format=torch.channels_last)).float()
        loss = nn.functional.cross_entropy(logits_FK, family_F, label_smoothing=fit.label_smoothing)
        if run.branch is not None and batch.where_FHW is not None:
            loss = loss + fit.mask_weight * run.branch.loss(place(batch.where_FHW, device))
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    branch = () if run.branch is None else run.branch.classify.parameters()
    norm = nn.utils.clip_grad_norm_([*run.network.parameters(), *branch], 5.0)
    if not math.isfinite(float(norm)):
        raise Diverged(
            f"the loss is no number at step {run.step + 1}: lower lr, in another folder; the state of the last save is kept"
        )
    run.optimizer.step()
    run.step += 1
    run.crops += len(family_F)
    follow(run.ema, run.network, min(fit.ema, run.step / (run.step + 10)))
    right = ((score_logit(logits_FK.detach()) > 0) == (family_F > 0)).float().mean()
    run.losses.append((float(loss.detach()), float(right)))


class Feed:
    """Batches of consecutive steps, made a few ahead; a change of stage drops those made for the old one."""

    def __init__(self, pool: Executor, ahead: int = AHEAD) -> None:
        self._pool, self._ahead = pool, ahead
        self._waiting: dict[tuple[int, int, int, int | None], Future[Batch]] = {}

    def batch(self, step: int, stage: Stage) -> Batch:
        keys = [(ahead, stage.pairs, stage.size, stage.window) for ahead in range(step, step + self._ahead)]
        for key in self._waiting.keys() - set(keys):
            self._waiting.pop(key).cancel()
        for key in keys:
            if key not in self._waiting:
                self._waiting[key] = self._pool.submit(load_batch, *key)
        return self._waiting.pop(keys[0]).result(timeout=300)


@contextmanager
def loading(fit: Fit, cache: Path) -> Iterator[Feed]:
    """Processes that make the batches."""
    with ProcessPoolExecutor(
        fit.loaders, get_context("spawn"), start_loader, (cache, fit.mixture, fit.seed, fit.hold_out, fit.size)
    ) as pool:
        try:
            yield Feed(pool, AHEAD * fit.loaders)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def fit_network(
    fit: Fit,
    cache: Path,
    folder: Path,
    *,
    console: Console | None = None,
    log_every: int = 25,
    on_validation: OnValidation | None = None,
) -> Run:
    """Train until the limit; ``folder`` gets ``state.pt``, ``steps.csv`` and ``validation.csv``. Continues a run found there."""
    console = console or Console()
    torch.set_num_threads(fit.threads)
    rows = read_index(cache)
    store = CropStore(cache, rows, hold_out=fit.hold_out)
    if fit.hold_out and fit.network.start is not None:
        refuse_known(fit.network.start, fit.hold_out, cache)
    run = Run.start(fit, folder, rows_sha256=rows_sha256(rows))
    sample = choose(store.rows, frames_per_clip=4, pictures_per_class=40)
    console.print(f"step {run.step}, progress {run.progress:.1%}, {sum(r.split == 'train' for r in store.rows)} training crops")
    for note in PairSampler(store, fit.mixture, fit.seed).notes:
        console.print(note, highlight=False, markup=False)
    if not sample:
        console.print("the cache holds nothing out: the run is not validated")
    cut_back(folder / STEPS, run.step)
    cut_back(folder / VALIDATION, run.step - run.done)  # of a run that is done the last one is made again
    saved_s = validated_s = run.trained_s
    pace = Pace()
    with loading(fit, cache) as feed:
        while not run.done:
            started = time.monotonic()
            stage = fit.stage(run.progress)
            batch = feed.batch(run.step, stage)
            waited_s = time.monotonic() - started
            train_step(run, batch)
            took_s = time.monotonic() - started
            run.trained_s += took_s
            pace.add(crops=len(batch.family_F), seconds=took_s, waited_s=waited_s)
            if run.step % log_every == 0:
                log_step(run, stage, console, pace.told())
            if run.trained_s - saved_s > fit.save_every_minutes * 60:
                saved_s = run.trained_s
                run.save()
            if sample and not run.done and fit.is_validation_due(run.step, run.trained_s - validated_s):
                validated_s = run.trained_s
                log_validation(run, validate(run.ema, store, sample, size=fit.size), console, on_validation)
    run.save()
    if sample:
        log_validation(run, validate(run.ema, store, sample, size=fit.size), console, on_validation)
    return run


def log_step(run: Run, stage: Stage, console: Console, pace: str) -> None:
    """A line on the console, with the ``pace`` since the last one, and in ``steps.csv``: means over the last 50 steps."""
    loss, right = (sum(values) / len(run.losses) for values in zip(*run.losses, strict=True))
    row = {
        "step": run.step,
        "minutes": round(run.trained_s / 60, 2),
        "crops": run.crops,
        "size": stage.window or stage.size,
        "loss": round(loss, 4),
        "accuracy": round(right, 4),
    }
    append_csv(run.folder / STEPS, row)
    told = " ".join(f"{name} {value}" for name, value in row.items())
    console.print(f"{run.progress:6.1%} {told}, {pace}", highlight=False, soft_wrap=True)  # one line each, in a file too


def log_validation(run: Run, found: dict[str, float], console: Console, on_validation: OnValidation | None = None) -> None:
    """One row of ``validation.csv`` for each source; the averaged weights are judged."""
    for name, value in found.items():
        append_csv(run.folder / VALIDATION, {"step": run.step, "source": name, "value": round(value, 4)})
    told = "validation " + ", ".join(f"{name} {value:.3f}" for name, value in found.items())
    console.print(told, highlight=False, markup=False)
    if on_validation is not None:
        on_validation(run.step, found)


def append_csv(path: Path, row: dict[str, Any]) -> None:
    fresh = not path.exists()
    with full_told(path.parent), path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row.keys())
        if fresh:
            writer.writeheader()
        writer.writerow(row)


def cut_back(path: Path, step: int) -> None:
    """Take away the rows of later steps: a run that was cut goes on before them, where it was last saved.

    What a kill left of a row goes too, and a row that was written on behind it.
    """
    if not path.exists():
        return
    data = path.read_bytes()
    whole = whole_lines(data)
    if not whole:
        path.unlink()
        return
    header, *rows = csv.reader(io.StringIO(whole.decode(), newline=""))
    kept = [row for row in rows if len(row) == len(header) and int(row[0]) <= step]
    if kept == rows and whole == data:
        return
    with beside(path) as unfinished, unfinished.open("w", newline="") as file:
        csv.writer(file).writerows([header, *kept])
