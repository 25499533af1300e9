"""One training stage by Lightning Fabric: mixed precision, several devices, EMA, early stopping, and a state to go on from.

Every step draws from generators seeded by (seed, step), so a stage that was killed and started again ends with the same weights.
``state.ckpt`` holds the middle of a stage, ``best.safetensors`` the (averaged) weights of the lowest validation loss,
``epochs.csv`` a line for each epoch. Axes: F crops, C colours, H rows, W columns, K classes.
"""

from __future__ import annotations

import csv
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import save
from timm.data.mixup import Mixup
from timm.scheduler.scheduler_factory import create_scheduler_v2
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torchmetrics import MeanMetric

from training.paper.crops import Crops, Order, Samples, Share, batches_in, loader
from training.paper.networks import Learner, make_optimiser
from training.paper.noise import Plan, corrupt
from training.paper.sets import TrainingSet
from training.paper.settings import FAMILIES, Augmentation, Hardware, TrainStage
from training.room import beside
from training.state import damage_told
from worker.content import full_told
from worker.errors import ConfigError
from worker.model.network import DeepfakeNet, score_logit

STATE, BEST, EPOCHS = "state.ckpt", "best.safetensors", "epochs.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A stage, what it trains on, and where. ``identity`` names configuration and rows: others do not go on here."""

    stage: TrainStage
    hardware: Hardware
    seed: int
    identity: str
    cache: Path
    data: TrainingSet
    plan: Plan | None
    folder: Path


@dataclass(kw_only=True)
class Counters:
    """Where a stage stands, and the sums of the epoch that runs."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    right: float = 0.0
    seen: int = 0
    seconds: float = 0.0
    best_loss: float = float("inf")
    best_epoch: int = -1
    history: list[dict[str, float]] = field(default_factory=list)

    def stopped(self, stage: TrainStage) -> bool:
        """All epochs done, or ``patience`` of them without a lower validation loss."""
        return self.epoch >= stage.epochs or (self.best_epoch >= 0 and self.epoch - 1 - self.best_epoch >= stage.patience)


@dataclass(kw_only=True)
class Training:
    """All that changes during a stage."""

    task: Task
    fabric: Fabric
    learner: Any
    """The learner as Fabric wraps it."""
    bare: Learner
    optimiser: Any
    ema: ModelEmaV3 | None
    counters: Counters = field(default_factory=Counters)

    @property
    def judged(self) -> DeepfakeNet:
        """The weights that validation judges: the average, where there is one."""
        network = self.bare.network if self.ema is None else self.ema.module
        assert isinstance(network, DeepfakeNet)
        return network

    def save(self) -> None:
        """Beside and then renamed: a kill never leaves half a state. Raises StorageFull."""
        path = self.task.folder / STATE
        unfinished = path.with_suffix(".part")
        state = self._state() | {"precision": self.fabric.strategy.precision.state_dict()}
        state["counters"] |= self.sums()
        try:
            with full_told(path.parent):
                self.fabric.save(unfinished, state)
                if self.fabric.is_global_zero:
                    unfinished.rename(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        self.fabric.barrier()

    def load(self) -> None:
        """Raises ConfigError where the folder holds a stage of another configuration, or on other crops."""
        path = self.task.folder / STATE
        state = self._state()
        rest = self.fabric.load(path, state, weights_only=True)
        if state["identity"] != self.task.identity:
            raise ConfigError(f"{path} is of another configuration or other crops; choose another folder with --run")
        if self.ema is not None:
            self.ema.module.load_state_dict(state["ema"])
        if scale := rest.get("precision"):  # none but with a scaler, and none in states of old
            self.fabric.strategy.precision.load_state_dict(scale)
        self.counters = Counters(**state["counters"])
        if not self.fabric.is_global_zero:  # the first goes on with the sums of all
            self.counters.loss_sum, self.counters.right, self.counters.seen = 0.0, 0.0, 0

    def sums(self) -> dict[str, float]:
        """The sums of the epoch so far over all processes, by their names in ``Counters``."""
        own = {name: getattr(self.counters, name) for name in ("loss_sum", "right", "seen")}
        if self.fabric.world_size == 1:
            return own
        total = self.fabric.all_reduce(torch.tensor(list(own.values()), dtype=torch.float64), reduce_op="sum")
        assert isinstance(total, Tensor)
        loss_sum, right, seen = total.tolist()
        return {"loss_sum": loss_sum, "right": right, "seen": int(seen)}

    def _state(self) -> dict[str, Any]:
        return {
            "learner": self.learner,
            "optimiser": self.optimiser,
            "ema": {} if self.ema is None else self.ema.module.state_dict(),
            "counters": dict(vars(self.counters)),
            "identity": self.task.identity,
        }


def train_stage(network: DeepfakeNet, task: Task, fabric: Fabric) -> Counters:
    """Train until the stage stops, going on from a state found in its folder; ends with ``best.safetensors`` written.

    Raises ConfigError where the state is another run's, where a device would get no crop of a batch, or one alone where crops are
    to be mixed, and where the loss is no number any more.
    """
    stage = task.stage
    crops_each = min(stage.batch, len(task.data.train)) // fabric.world_size
    if stage.augmentation.mixes and crops_each < 2:
        raise ConfigError(f"{stage.stage}: mixup and cutmix need two crops on each of {fabric.world_size} devices")
    if crops_each < 1:
        raise ConfigError(
            f"{stage.stage}: a batch has fewer crops than there are devices ({fabric.world_size}): lower hardware.devices"
        )
    task.folder.mkdir(parents=True, exist_ok=True)
    training = begin(network, task, fabric)
    crops = Crops(task.cache, task.data.train, size=stage.size, plan=task.plan, augmentation=stage.augmentation, seed=task.seed)
    per_epoch = batches_in(len(crops), stage.batch, whole=True)
    scheduler = create_scheduler_v2(
        training.optimiser.optimizer,
        stage.optimiser.sched,
        num_epochs=stage.epochs,
        warmup_epochs=round(stage.optimiser.warmup_epochs * per_epoch) / per_epoch,  # type: ignore[arg-type]
        warmup_lr=0.0,
        min_lr=stage.optimiser.min_lr,
        step_on_epochs=False,
        updates_per_epoch=per_epoch,
    )[0]
    with bar(fabric) as progress:
        line = progress.add_task(stage.stage, total=stage.epochs * per_epoch, loss="")
        while not training.counters.stopped(stage):
            one_epoch(training, crops, scheduler, progress, line)
            close_epoch(training)
    return training.counters


def begin(network: DeepfakeNet, task: Task, fabric: Fabric) -> Training:
    """Everything set up, and loaded where a state was left."""
    bare = Learner(network.to(memory_format=torch.channels_last), task.stage, class_weight(task))
    learner, optimiser = fabric.setup(bare, make_optimiser(bare, task.stage.optimiser))
    ema = None if task.stage.ema is None else ModelEmaV3(bare.network, decay=task.stage.ema, use_warmup=True)
    training = Training(task=task, fabric=fabric, learner=learner, bare=bare, optimiser=optimiser, ema=ema)
    if (task.folder / STATE).exists():
        with damage_told(task.folder / STATE):
            training.load()
    return training


def class_weight(task: Task) -> tuple[float, float]:
    """Real and fake weigh the same where ``balance`` is set."""
    found = Counter(row.label for row in task.data.train)
    if not task.stage.balance:
        return 1.0, 1.0
    total = found["real"] + found["fake"]
    return total / (2 * found["real"]), total / (2 * found["fake"])


def one_epoch(training: Training, crops: Crops, scheduler: Any, progress: Progress, line: Any) -> None:
    """The batches that this epoch still has."""
    task, fabric, counters = training.task, training.fabric, training.counters
    share = Share(rank=fabric.global_rank, world=fabric.world_size)
    order = Order(len(crops), batch=task.stage.batch, epoch=counters.epoch, start=counters.batch, seed=task.seed, share=share)
    training.learner.train()
    saved = started = time.monotonic()
    for samples in batches(fabric, crops, order, task.hardware.workers):
        scheduler.step_update(counters.step)
        loss = one_step(training, samples)
        now = time.monotonic()
        counters.seconds += now - started
        started = now
        progress.update(line, completed=counters.step, loss=f"epoch {counters.epoch + 1} loss {loss:.4f}")
        if fabric.broadcast(now - saved >= task.hardware.save_every_s):  # the first process's clock: saving waits for all
            training.save()
            saved = started = time.monotonic()


def batches(fabric: Fabric, crops: Crops, order: Order, workers: int) -> Iterator[Samples]:
    """This process's batches, on its device."""
    ready: Any = fabric.setup_dataloaders(loader(crops, order, workers), use_distributed_sampler=False)
    return iter(ready)


def one_step(training: Training, samples: Samples) -> float:
    """One update of the weights and their average; the loss of this process's crops. Raises ConfigError where it is no number."""
    task, fabric, counters = training.task, training.fabric, training.counters
    seed_everything(task.seed, counters.step, fabric.global_rank)
    network = training.bare.network
    clean_FCHW = network.normalise(samples.crops_FHWC)
    target: Tensor = samples.fake_F
    if task.stage.augmentation.mixes:
        clean_FCHW, target = mix(mixer(task.stage.augmentation), clean_FCHW, target)
    pixels_FCHW = corrupt(clean_FCHW, samples.alpha_F, samples.key_F, task.seed)
    loss, logits_FK = training.learner(pixels_FCHW.contiguous(memory_format=torch.channels_last), clean_FCHW, target)
    training.optimiser.zero_grad()
    fabric.backward(loss)
    norm = fabric.clip_gradients(
        training.learner, training.optimiser, max_norm=task.stage.optimiser.clip_norm, error_if_nonfinite=False
    )
    assert norm is not None
    refuse_no_number(training, loss, norm)
    training.optimiser.step()
    counters.step += 1
    counters.batch += 1
    if training.ema is not None:
        training.ema.update(network, step=counters.step)
    value = float(loss.detach())
    counters.loss_sum += value * len(samples.fake_F)
    counters.right += float(((score_logit(logits_FK) > 0) == (samples.fake_F > 0)).sum())
    counters.seen += len(samples.fake_F)
    fabric.log(f"{task.stage.stage}/loss", value, counters.step)
    return value


def refuse_no_number(training: Training, loss: Tensor, norm: Tensor) -> None:
    """Raises ConfigError, in all processes, where the loss or the gradients' norm is not finite.

    With a loss scale the norm alone may be infinite: the optimiser passes over such a step, and the scale is lowered.
    """
    task, fabric = training.task, training.fabric
    if torch.isfinite(norm):  # the same norm in all processes
        return
    mean = fabric.all_reduce(loss.detach().clone())
    assert isinstance(mean, Tensor)
    is_scaled = getattr(fabric.strategy.precision, "scaler", None) is not None
    if not is_scaled or not torch.isfinite(mean):
        raise ConfigError(
            f"{task.stage.stage}: the loss is no number at step {training.counters.step + 1}: lower its optimiser.lr, "
            "in another folder (--run); the state of the last save is kept"
        )


def mix(mixer: Mixup, crops_FCHW: Tensor, label_F: Tensor) -> tuple[Tensor, Tensor]:
    """Mixed crops and their labels [F, K]. timm mixes even numbers of crops: of an odd one the last stays as it is."""
    even = len(label_F) // 2 * 2
    mixed_FCHW, mixed_FK = mixer(crops_FCHW[:even], label_F[:even])
    if even == len(label_F):
        return mixed_FCHW, mixed_FK
    alone_FK = nn.functional.one_hot(label_F[even:], len(FAMILIES)).to(mixed_FK.dtype)
    return torch.cat([mixed_FCHW, crops_FCHW[even:]]), torch.cat([mixed_FK, alone_FK])


def mixer(how: Augmentation) -> Mixup:
    """timm's Mixup and CutMix; the loss does the label smoothing."""
    return Mixup(  # type: ignore[no-untyped-call]
        mixup_alpha=how.mixup,
        cutmix_alpha=how.cutmix,
        prob=how.mix_prob,
        switch_prob=how.switch_prob,
        label_smoothing=0.0,
        num_classes=len(FAMILIES),
    )


def seed_everything(seed: int, step: int, rank: int) -> None:
    """What a step draws (mixing, dropout) follows from its number, whatever was drawn before."""
    mixed = int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0])
    random.seed(mixed)
    np.random.seed(mixed)
    torch.manual_seed(mixed)


def close_epoch(training: Training) -> None:
    """Validate, log, keep the weights if they are the best, and save."""
    task, fabric, counters = training.task, training.fabric, training.counters
    started = time.monotonic()
    validation_loss, validation_accuracy = validate(training)
    sums = training.sums()
    row = {
        "epoch": counters.epoch + 1,
        "train_loss": round(sums["loss_sum"] / sums["seen"], 6),
        "validation_loss": round(validation_loss, 6),
        "train_accuracy": round(sums["right"] / sums["seen"], 6),
        "validation_accuracy": round(validation_accuracy, 6),
        "seconds": round(counters.seconds + time.monotonic() - started, 2),
        "images": int(sums["seen"]),
    }
    fabric.log_dict({f"{task.stage.stage}/{name}": value for name, value in row.items() if name != "epoch"}, counters.step)
    better = validation_loss < counters.best_loss
    if better:
        counters.best_loss, counters.best_epoch = validation_loss, counters.epoch
    counters.history.append(row)
    counters.epoch, counters.batch = counters.epoch + 1, 0
    counters.loss_sum = counters.right = counters.seconds = 0.0
    counters.seen = 0
    if fabric.is_global_zero:
        if better:
            keep(training.judged, task.folder / BEST)
        write_history(counters.history, task.folder / EPOCHS)
    training.save()
    fabric.print(" ".join(f"{name} {value:g}" for name, value in row.items()))


def keep(network: nn.Module, path: Path) -> None:
    """Whole or not at all. Raises StorageFull. By way of memory: safetensors does not say why it could not write a file."""
    data = save({name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()})
    with beside(path) as unfinished:
        unfinished.write_bytes(data)


def write_history(rows: list[dict[str, float]], path: Path) -> None:
    unfinished = path.with_suffix(".part")
    with unfinished.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    unfinished.rename(path)


@torch.no_grad()
def validate(training: Training) -> tuple[float, float]:
    """(cross-entropy, accuracy) over all validation crops, corrupted as planned, undegraded otherwise."""
    task, fabric = training.task, training.fabric
    crops = Crops(task.cache, task.data.validation, size=task.stage.size, plan=task.plan, augmentation=None, seed=task.seed)
    order = Order(len(crops), batch=task.stage.batch, share=Share(rank=fabric.global_rank, world=fabric.world_size))
    network = training.judged.eval()
    if fabric.world_size > 1:  # batch norms have seen each process's own crops; kept are the first's
        for buffer in network.buffers():
            torch.distributed.broadcast(buffer, 0)
    loss, accuracy = (MeanMetric().to(fabric.device) for _ in range(2))
    for samples in batches(fabric, crops, order, task.hardware.workers):
        pixels_FCHW = corrupt(network.normalise(samples.crops_FHWC), samples.alpha_F, samples.key_F, task.seed)
        with fabric.autocast():
            logits_FK = network.forward_normalised(pixels_FCHW.contiguous(memory_format=torch.channels_last)).float()
        losses_F = nn.functional.cross_entropy(logits_FK, samples.fake_F, reduction="none")
        loss.update(losses_F, training.bare.class_weight_K[samples.fake_F])
        accuracy.update(((score_logit(logits_FK) > 0) == (samples.fake_F > 0)).float())
    return float(loss.compute()), float(accuracy.compute())


def bar(fabric: Fabric) -> Progress:
    """Only the first process shows one."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}", markup=False),  # evaluate names sources here
    )
    return Progress(*columns, disable=not fabric.is_global_zero)
