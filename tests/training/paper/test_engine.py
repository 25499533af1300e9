"""One stage by Fabric: it learns, mixes, stops early, keeps the best weights, and refuses another configuration's state."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from safetensors.torch import load_file

from training.paper.engine import (
    BEST,
    STATE,
    Counters,
    Task,
    bar,
    begin,
    class_weight,
    keep,
    mix,
    mixer,
    seed_everything,
    train_stage,
)
from training.paper.evaluate import read_results
from training.paper.networks import make_network
from training.paper.sets import choose_sets
from training.paper.settings import Augmentation, Hardware, Pipeline, TrainStage
from training.prepare import read_index
from training.settings import Network
from worker.errors import ConfigError, StorageFull

TINY = Network(backbone="test_efficientnet", hidden_dim=16, num_steps=2)


def task(crops: Path, folder: Path, tiny: Pipeline, **other: object) -> Task:
    told = {"stage": "finetune", "size": 32, "batch": 4, "epochs": 1, "optimiser": {"lr": 1e-3}}
    return Task(
        stage=TrainStage.model_validate(told | other),
        hardware=Hardware(threads=1),
        seed=1,
        identity="this one",
        cache=crops,
        data=choose_sets(read_index(crops), tiny.sets).first,
        plan=None,
        folder=folder,
    )


@pytest.fixture
def fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1)


def test_a_source_with_brackets_in_its_name_is_shown_as_it_is(fabric: Fabric, capsys: pytest.CaptureFixture[str]) -> None:
    with bar(fabric) as progress:
        progress.add_task("evaluate", total=1, loss="mine[/x]")
    assert "mine[/x]" in capsys.readouterr().out


def test_it_learns_what_tells_the_classes_apart(crops: Path, tmp_path: Path, tiny: Pipeline, fabric: Fabric) -> None:
    how = task(crops, tmp_path, tiny, epochs=8, patience=8, ema=None, augmentation={"degrade": False}, optimiser={"lr": 1e-2})
    history = train_stage(make_network(TINY, "linear", seed=1), how, fabric).history
    assert min(row["validation_loss"] for row in history) < 0.5 * history[0]["validation_loss"]
    assert max(row["validation_accuracy"] for row in history) == 1
    assert all(row["images"] == 20 for row in history)


def test_a_rate_of_nothing_stops_early_and_keeps_the_first_epoch(
    crops: Path, tmp_path: Path, tiny: Pipeline, fabric: Fabric
) -> None:
    optimiser = {"opt": "sgd", "lr": 1e-12, "min_lr": 0, "weight_decay": 0}
    how = task(crops, tmp_path, tiny, stage="head", epochs=9, patience=2, ema=None, optimiser=optimiser)
    network = make_network(TINY, "linear", seed=1)
    start = network.head.weight.detach().clone()
    counters = train_stage(network, how, fabric)
    assert (counters.epoch, counters.best_epoch) == (3, 0)
    assert torch.allclose(load_file(tmp_path / BEST)["head.weight"], start, atol=1e-6)


@pytest.mark.parametrize("how", [{"cutmix": 1.0}, {"mixup": 0.4}, {"augmix": "augmix-m2-w2", "degrade": False}])
def test_mixing_is_a_setting(how: dict[str, object], crops: Path, tmp_path: Path, tiny: Pipeline, fabric: Fabric) -> None:
    """Batches are odd: the last crop of each stays as it is."""
    losses = []
    for folder, augmentation in (("plain", {}), ("mixed", how), ("again", how)):
        told = task(crops, tmp_path / folder, tiny, augmentation=augmentation, label_smoothing=0.1, batch=5)
        losses.append(train_stage(make_network(TINY, "linear", seed=1), told, fabric).history[0]["train_loss"])
    assert losses[1] == losses[2] != losses[0]


@pytest.mark.parametrize("how", [{"cutmix": 1.0}, {"mixup": 0.4}])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_of_an_odd_batch_all_crops_but_the_last_are_mixed(how: dict[str, float], count: int) -> None:
    seed_everything(1, 0, 0)
    crops_FCHW, label_F = torch.rand(count, 3, 16, 16), torch.arange(count) % 2
    mixed_FCHW, label_FK = mix(mixer(Augmentation.model_validate(how)), crops_FCHW.clone(), label_F)
    even = count // 2 * 2
    assert (mixed_FCHW[:even] != crops_FCHW[:even]).flatten(1).any(1).all()
    assert torch.equal(mixed_FCHW[even:], crops_FCHW[even:])
    assert label_FK.shape == (count, 2)
    assert torch.allclose(label_FK.sum(1), torch.ones(count))
    assert label_FK[even:].argmax(1).tolist() == label_F[even:].tolist()


def test_a_device_with_one_crop_cannot_mix(crops: Path, tmp_path: Path, tiny: Pipeline, fabric: Fabric) -> None:
    how = task(crops, tmp_path, tiny, augmentation={"mixup": 0.4})
    one = replace(how, data=replace(how.data, train=how.data.train[:1]))
    with pytest.raises(ConfigError, match="two crops on each of 1 devices"):
        train_stage(make_network(TINY, "linear", seed=1), one, fabric)


class OneOfThree(Fabric):
    """The first of three processes."""

    world_size = 3


def test_a_device_without_a_crop_is_refused(crops: Path, tmp_path: Path, tiny: Pipeline) -> None:
    how = task(crops, tmp_path, tiny, batch=2)
    with pytest.raises(ConfigError, match=r"finetune: .* devices \(3\): lower hardware\.devices"):
        train_stage(make_network(TINY, "linear", seed=1), how, OneOfThree(accelerator="cpu", devices=1))
    assert not list(tmp_path.iterdir())


def test_another_configurations_state_is_refused(crops: Path, tmp_path: Path, tiny: Pipeline, fabric: Fabric) -> None:
    how = task(crops, tmp_path, tiny)
    begin(make_network(TINY, "linear", seed=1), how, fabric).save()
    other = Task(**({name: getattr(how, name) for name in Task.__dataclass_fields__} | {"identity": "another"}))
    with pytest.raises(ConfigError, match="another configuration"):
        begin(make_network(TINY, "linear", seed=1), other, fabric)


def with_scaler(scaler: torch.amp.GradScaler) -> Fabric:
    """float16 on the CPU, with the scaler of a GPU."""
    return Fabric(accelerator="cpu", devices=1, plugins=MixedPrecision("16-mixed", "cpu", scaler=scaler))


def test_a_loss_scale_that_is_too_high_is_lowered(crops: Path, tmp_path: Path, tiny: Pipeline) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)
    how = replace(task(crops, tmp_path, tiny), hardware=Hardware(threads=1, precision="16-mixed"))
    counters = train_stage(make_network(TINY, "linear", seed=1), how, with_scaler(scaler))
    assert counters.step == 5
    assert scaler.get_scale() < 2.0**24


def test_a_stage_goes_on_with_its_loss_scale(crops: Path, tmp_path: Path, tiny: Pipeline) -> None:
    how = task(crops, tmp_path, tiny)
    begin(make_network(TINY, "linear", seed=1), how, with_scaler(torch.amp.GradScaler("cpu", init_scale=8.0))).save()
    scaler = torch.amp.GradScaler("cpu")
    begin(make_network(TINY, "linear", seed=1), how, with_scaler(scaler))
    assert scaler.get_scale() == 8


class Exploding(Fabric):
    """Gradients become infinite."""

    def backward(self, tensor: torch.Tensor, *told: Any, **more: Any) -> None:
        super().backward(tensor * float("inf"), *told, **more)


def test_infinite_gradients_stop_a_stage(crops: Path, tmp_path: Path, tiny: Pipeline) -> None:
    with pytest.raises(ConfigError, match=r"finetune: the loss is no number at step 1: lower its optimiser\.lr"):
        train_stage(make_network(TINY, "linear", seed=1), task(crops, tmp_path, tiny), Exploding(accelerator="cpu", devices=1))


def test_so_they_do_where_16_mixed_has_no_scale(crops: Path, tmp_path: Path, tiny: Pipeline) -> None:
    """As on a CPU, which computes in bfloat16 then."""
    how = replace(task(crops, tmp_path, tiny), hardware=Hardware(threads=1, precision="16-mixed"))
    with pytest.raises(ConfigError, match="no number at step 1"):
        train_stage(make_network(TINY, "linear", seed=1), how, Exploding(accelerator="cpu", devices=1))


def test_a_rate_that_makes_the_loss_no_number_stops_a_stage_with_a_scale(crops: Path, tmp_path: Path, tiny: Pipeline) -> None:
    how = task(crops, tmp_path, tiny, optimiser={"lr": 1e30})
    scaled = replace(how, hardware=Hardware(threads=1, precision="16-mixed"))
    with pytest.raises(ConfigError, match="no number at step 2"):
        train_stage(make_network(TINY, "linear", seed=1), scaled, with_scaler(torch.amp.GradScaler("cpu", init_scale=1.0)))


def test_weights_and_state_that_find_no_room_leave_nothing(
    crops: Path, tmp_path: Path, tiny: Pipeline, fabric: Fabric, little_room: Callable[[], AbstractContextManager[None]]
) -> None:
    training = begin(make_network(TINY, "linear", seed=1), task(crops, tmp_path, tiny), fabric)
    with little_room():
        with pytest.raises(StorageFull, match=f"no room in {tmp_path}"):
            keep(training.judged, tmp_path / BEST)
        with pytest.raises(StorageFull, match=f"no room in {tmp_path}"):
            training.save()
    assert not list(tmp_path.iterdir())


def test_a_state_that_cannot_be_read_is_named(crops: Path, tmp_path: Path, tiny: Pipeline, fabric: Fabric) -> None:
    how = task(crops, tmp_path, tiny)
    begin(make_network(TINY, "linear", seed=1), how, fabric).save()
    (tmp_path / STATE).write_bytes((tmp_path / STATE).read_bytes()[:-5000])
    with pytest.raises(ConfigError, match=r"state\.ckpt is damaged"):
        begin(make_network(TINY, "linear", seed=1), how, fabric)


@pytest.mark.parametrize("left", ["", "[{}]", "[1]"])
def test_results_that_cannot_be_read_are_named(tmp_path: Path, left: str) -> None:
    (tmp_path / "results.json").write_text(left)
    with pytest.raises(ConfigError, match=r"results\.json is damaged.*delete it"):
        read_results(tmp_path / "results.json")


class SecondProcess(Fabric):
    """One of two, whose clock says something else than the first's. Counts the states it saves."""

    def __init__(self, *, first_says: bool) -> None:
        super().__init__(accelerator="cpu", devices=1)
        self.first_says, self.saved = first_says, 0

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        return self.first_says

    def save(self, *told: Any, **more: Any) -> None:
        self.saved += 1
        super().save(*told, **more)


@pytest.mark.parametrize(("first_says", "every_s", "in_epoch"), [(True, 1e9, 5), (False, 0.0, 0)])
def test_all_processes_save_when_the_first_does(
    first_says: bool, every_s: float, in_epoch: int, crops: Path, tmp_path: Path, tiny: Pipeline
) -> None:
    how = replace(task(crops, tmp_path, tiny), hardware=Hardware(threads=1, save_every_s=every_s))
    second = SecondProcess(first_says=first_says)
    counters = train_stage(make_network(TINY, "linear", seed=1), how, second)
    assert (counters.step, second.saved) == (5, in_epoch + 1)


def test_patience_counts_from_the_best_epoch() -> None:
    stage = TrainStage.model_validate({"stage": "head", "epochs": 9, "patience": 2, "optimiser": {"lr": 1}})
    assert not Counters(epoch=0).stopped(stage)
    assert not Counters(epoch=2, best_epoch=0).stopped(stage)
    assert Counters(epoch=3, best_epoch=0).stopped(stage)
    assert not Counters(epoch=8, best_epoch=7).stopped(stage)
    assert Counters(epoch=9, best_epoch=8).stopped(stage)


def test_a_rare_class_weighs_more(crops: Path, tmp_path: Path, tiny: Pipeline) -> None:
    how = task(crops, tmp_path, tiny)
    real = [row for row in how.data.train if row.label == "real"]
    fewer = how.data.__class__(
        train=(*real, *(row for row in how.data.train if row.label == "fake"))[: len(real) + 2], validation=()
    )
    told = Task(**({name: getattr(how, name) for name in Task.__dataclass_fields__} | {"data": fewer}))
    weights = class_weight(told)
    assert weights[0] * len(real) == pytest.approx(weights[1] * 2)
