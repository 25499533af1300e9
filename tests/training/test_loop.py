"""A tiny run: it learns something, saves, continues to the same weights, and refuses another configuration."""

from __future__ import annotations

import csv
import errno
import io
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console

from tests.training.conftest import crop, picture
from training.data import CropStore, PairSampler, start_loader
from training.device import choose_device
from training.identity import rows_sha256
from training.loop import (
    Feed,
    Run,
    add_noise,
    append_csv,
    cut_back,
    fit_network,
    follow,
    learning_rate,
    loading,
    log_validation,
    make_network,
    train_step,
)
from training.prepare import write_shard
from training.release import read_run
from training.settings import Fit, Mixture, Network, Stage, read_fit
from training.state import STATE, damage_told
from worker.errors import ConfigError, StorageFull

LittleRoom = Callable[[], AbstractContextManager[None]]

TINY = Fit(
    network=Network(backbone="test_efficientnet", hidden_dim=16, num_steps=2),
    stages=(Stage(until=0.5, size=32, pairs=4), Stage(until=1, size=48, pairs=4)),
    steps=4,
    noise_share=0.5,
    threads=1,
)
ROWS = "the rows of a test"


def steps(run: Run, cache: Path, until: int) -> None:
    sampler = PairSampler(CropStore(cache), run.fit.mixture, run.fit.seed)
    while run.step < until:
        stage = run.fit.stage(run.progress)
        train_step(run, sampler.batch(run.step, stage.pairs, stage.size))


def test_a_run_cut_and_continued_gives_the_weights_of_an_uncut_one(cache: Path, tmp_path: Path) -> None:
    whole = Run.start(TINY, tmp_path / "whole", rows_sha256=ROWS)
    steps(whole, cache, 4)
    first = Run.start(TINY, tmp_path / "cut", rows_sha256=ROWS)
    steps(first, cache, 2)
    first.save()
    second = Run.start(TINY, tmp_path / "cut", rows_sha256=ROWS)
    assert second.step == 2
    steps(second, cache, 4)
    for name, value in whole.ema.state_dict().items():
        assert torch.equal(value, second.ema.state_dict()[name]), name
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name]), name


def test_the_mask_branch_learns_is_resumed_and_leaves_no_trace(cache: Path, tmp_path: Path) -> None:
    fit = TINY.model_copy(update={"mask_weight": 1.0})
    whole = Run.start(fit, tmp_path / "whole", rows_sha256=ROWS)
    steps(whole, cache, 4)
    first = Run.start(fit, tmp_path / "cut", rows_sha256=ROWS)
    assert first.branch is not None
    before = first.branch.classify.weight.detach().clone()
    steps(first, cache, 2)
    assert not torch.equal(before, first.branch.classify.weight)
    first.save()
    second = Run.start(fit, tmp_path / "cut", rows_sha256=ROWS)
    steps(second, cache, 4)
    assert second.branch is not None
    assert whole.branch is not None
    assert torch.equal(whole.branch.classify.weight, second.branch.classify.weight)
    plain = Run.start(TINY, tmp_path / "plain", rows_sha256=ROWS)
    assert whole.network.state_dict().keys() == whole.ema.state_dict().keys() == plain.ema.state_dict().keys()


def test_no_step_is_longer_for_the_mask_branch_than_for_all_else(cache: Path, tmp_path: Path) -> None:
    run = Run.start(TINY.model_copy(update={"mask_weight": 1e4}), tmp_path / "run", rows_sha256=ROWS)
    steps(run, cache, 1)
    learnt = [parameter for group in run.optimizer.param_groups for parameter in group["params"]]
    norm = torch.nn.utils.get_total_norm([one.grad for one in learnt if one.grad is not None])
    assert 4.9 < float(norm) < 5.01


def test_a_run_that_stops_early_is_the_beginning_of_the_whole_one(cache: Path, tmp_path: Path) -> None:
    stopped = fit_network(TINY.model_copy(update={"stop": 2}), cache, tmp_path / "run", console=Console(quiet=True))
    whole = Run.start(TINY, tmp_path / "whole", rows_sha256=ROWS)
    steps(whole, cache, 2)
    assert (stopped.step, stopped.progress) == (2, 0.5)
    assert all(torch.equal(value, whole.ema.state_dict()[name]) for name, value in stopped.ema.state_dict().items())
    assert Run.start(TINY, tmp_path / "run", rows_sha256=stopped.rows_sha256).step == 2
    with pytest.raises(ValueError, match="before the last of steps"):
        Fit(stages=(Stage(until=1, size=32, pairs=2),), steps=2, stop=3)


def test_fit_runs_to_its_end_with_logs_and_validation(cache: Path, tmp_path: Path) -> None:
    run = fit_network(TINY, cache, tmp_path, console=Console(quiet=True), log_every=2)
    assert run.progress == 1
    assert run.crops == 32
    with (tmp_path / "steps.csv").open() as file:
        assert [row["size"] for row in csv.DictReader(file)] == ["32", "48"]
    with (tmp_path / "validation.csv").open() as file:
        assert {row["source"] for row in csv.DictReader(file)} == {"ffpp AUC", "ffpp/deepfakes AUC"}


def test_a_source_with_brackets_in_its_name_is_printed_as_it_is(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), record=True)
    log_validation(Run.start(TINY, tmp_path, rows_sha256=ROWS), {"mine[/x] AUC": 0.5}, console)
    assert "mine[/x] AUC 0.500" in console.export_text()


def test_another_configuration_does_not_continue_a_run(cache: Path, tmp_path: Path) -> None:
    Run.start(TINY, tmp_path, rows_sha256=ROWS).save()
    assert Run.start(TINY.model_copy(update={"steps": 99}), tmp_path, rows_sha256=ROWS).step == 0
    with pytest.raises(ConfigError, match="another configuration"):
        Run.start(TINY.model_copy(update={"lr": 1.0}), tmp_path, rows_sha256=ROWS)


def test_a_run_does_not_go_on_with_other_crops(cache: Path, tmp_path: Path) -> None:
    """A folder prepared anew under the same recipe: the old weights are not given out as trained on it."""
    other, run, quiet = tmp_path / "cache", tmp_path / "run", Console(quiet=True)
    shutil.copytree(cache, other)
    fit_network(TINY.model_copy(update={"stop": 1}), cache, run, console=quiet)
    write_shard(other, "more", [(picture(3), crop("more", 3, "real", "lfw"))])
    with pytest.raises(ConfigError, match=r"other crops.*--run, or delete"):
        fit_network(TINY, other, run, console=quiet)
    assert fit_network(TINY, cache, run, console=quiet).step == 4


def test_a_run_that_does_not_say_what_it_was_trained_on_does_not_go_on(tmp_path: Path) -> None:
    run = Run.start(TINY, tmp_path, rows_sha256=ROWS)
    run.save()
    state = torch.load(run.state_path, weights_only=True)
    del state["rows_sha256"]
    torch.save(state, run.state_path)
    with pytest.raises(ConfigError, match="does not say which crops"):
        Run.start(TINY, tmp_path, rows_sha256=ROWS)


def test_a_state_that_finds_no_room_leaves_the_last_one(tmp_path: Path, little_room: LittleRoom) -> None:
    run = Run.start(TINY, tmp_path, rows_sha256=ROWS)
    run.save()
    before = run.state_path.read_bytes()
    with little_room(), pytest.raises(StorageFull, match=f"no room in {tmp_path}"):
        run.save()
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]
    assert run.state_path.read_bytes() == before


@pytest.mark.parametrize("change", ["cut", "another version's setting", "another network"])
def test_a_state_that_cannot_be_used_is_named(tmp_path: Path, change: str) -> None:
    run = Run.start(TINY, tmp_path, rows_sha256=ROWS)
    run.save()
    state = torch.load(run.state_path, weights_only=True)
    if change == "cut":
        run.state_path.write_bytes(run.state_path.read_bytes()[:-5000])
    elif change == "another network":
        torch.save(state | {"ema": {}}, run.state_path)
    else:
        torch.save(state | {"fit": json.dumps(json.loads(state["fit"]) | {"of_old": 1})}, run.state_path)
    with pytest.raises(ConfigError, match=r"state\.pt is damaged, or of another version.*--run"):
        Run.start(TINY, tmp_path, rows_sha256=ROWS)
    with pytest.raises(ConfigError, match=r"state\.pt is damaged, or of another version"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "cannot be read: Permission denied"),
        (OSError(errno.EMFILE, "Too many open files"), None),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), None),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), None),
    ],
)
def test_what_is_no_fault_of_a_file_is_not_told_as_its_damage(error: Exception, told: str | None, tmp_path: Path) -> None:
    with pytest.raises(ConfigError if told else type(error), match=told), damage_told(tmp_path / STATE):
        raise error


def test_a_loss_that_is_no_number_ends_the_run_and_the_last_state_stays(cache: Path, tmp_path: Path) -> None:
    fit = TINY.model_copy(update={"lr": 1e25, "warmup": 0.0})
    first = Run.start(fit, tmp_path, rows_sha256=rows_sha256(CropStore(cache).rows))
    first.save()
    before = first.state_path.read_bytes()
    with pytest.raises(ConfigError, match=r"no number at step \d: lower lr"):
        fit_network(fit, cache, tmp_path, console=Console(quiet=True))
    assert first.state_path.read_bytes() == before


def test_the_loss_falls_on_one_batch(cache: Path, tmp_path: Path) -> None:
    run = Run.start(TINY.model_copy(update={"steps": 40, "lr": 3e-3, "noise_share": 0.0}), tmp_path, rows_sha256=ROWS)
    batch = PairSampler(CropStore(cache), Mixture(), 1).batch(0, 4, 32)
    for _ in range(30):
        train_step(run, batch)
    assert run.losses[-1][0] < 0.6 * run.losses[0][0]


def test_the_stem_stands_still_at_first(cache: Path, tmp_path: Path) -> None:
    run = Run.start(TINY.model_copy(update={"stem_frozen_until": 0.5, "weight_decay": 0.0}), tmp_path, rows_sha256=ROWS)
    before = run.network.backbone.conv_stem.weight.detach().clone()
    steps(run, cache, 2)
    assert torch.equal(run.network.backbone.conv_stem.weight, before)
    steps(run, cache, 4)
    assert not torch.equal(run.network.backbone.conv_stem.weight, before)


def test_noise_keeps_the_variance_and_treats_a_pair_alike() -> None:
    pixels = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    out = add_noise(pixels, share=0.5, alpha=(0.4, 0.6), generator=torch.Generator().manual_seed(1))
    changed = (out != pixels).flatten(1).any(1)
    assert torch.equal(changed[0::2], changed[1::2])
    assert 0.2 < changed.float().mean() < 0.8
    assert abs(float(out[changed].var()) - 1) < 0.05


def test_several_loaders_give_the_batches_in_order(cache: Path) -> None:
    stage, sampler = TINY.stages[0], PairSampler(CropStore(cache), TINY.mixture, TINY.seed)
    with ThreadPoolExecutor(2) as pool:
        start_loader(cache, TINY.mixture, TINY.seed)
        feed = Feed(pool, ahead=4)
        for step in range(3):
            expected = sampler.batch(step, stage.pairs, stage.size)
            assert np.array_equal(feed.batch(step, stage).crops_FHWC, expected.crops_FHWC)


def test_what_a_run_holds_out_is_in_none_of_its_loaders_batches(cache: Path) -> None:
    fit, stage = TINY.model_copy(update={"hold_out": ("ffpp/1",)}), TINY.stages[0]
    sampler = PairSampler(CropStore(cache, hold_out=fit.hold_out), fit.mixture, fit.seed)
    with loading(fit, cache) as feed:
        expected = sampler.batch(0, stage.pairs, stage.size)
        assert np.array_equal(feed.batch(0, stage).crops_FHWC, expected.crops_FHWC)


def test_a_run_is_continued_on_other_hardware(tmp_path: Path) -> None:
    Run.start(TINY.model_copy(update={"device": "cpu"}), tmp_path, rows_sha256=ROWS).save()
    assert Run.start(TINY.model_copy(update={"loaders": 3, "threads": 2}), tmp_path, rows_sha256=ROWS).step == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_where_there_is_none_is_refused() -> None:
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(ConfigError, match="no CUDA device"):
        choose_device("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_the_first_steps_on_cuda_are_near_those_on_the_cpu(cache: Path, tmp_path: Path) -> None:
    losses = []
    for device in ("cpu", "cuda"):
        run = Run.start(TINY.model_copy(update={"device": device}), tmp_path / device, rows_sha256=ROWS)
        steps(run, cache, 2)
        run.save()
        losses.append([loss for loss, _ in run.losses])
    assert losses[1] == pytest.approx(losses[0], abs=0.05)
    assert Run.start(TINY.model_copy(update={"device": "cpu"}), tmp_path / "cuda", rows_sha256=ROWS).device.type == "cpu"


def test_learning_rate_rises_then_falls() -> None:
    rates = [learning_rate(progress / 100, peak=1.0, warmup=0.05) for progress in range(101)]
    assert rates[0] == 0
    assert max(rates) == rates[5] == 1
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[-1] == pytest.approx(0.01)


def test_the_average_follows_weights_and_batch_statistics() -> None:
    ema, network = (make_network(TINY.network, seed) for seed in (1, 2))
    old = {name: value.clone() for name, value in ema.state_dict().items()}
    follow(ema, network, 0.9)
    for name, value in ema.state_dict().items():
        if value.is_floating_point():
            assert torch.allclose(value, 0.9 * old[name] + 0.1 * network.state_dict()[name], atol=1e-6), name


def test_a_start_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.safetensors"):
        make_network(Network(backbone="test_efficientnet", init=tmp_path / "absent.safetensors"), 1)


@pytest.mark.parametrize(
    "text", ["stages: [{until: 1, size: 64, pairs: 4}]\nsped: 2\n", "stages: []\n", "minutes: [", "minutes: 2024-13-45"]
)
def test_a_bad_configuration_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        read_fit(path)


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("seed", {"seed": -1}),
        ("threads", {"threads": 0}),
        ("minutes", {"minutes": 0}),
        ("steps", {"steps": 0}),
        ("steps", {"steps": -3}),
        ("label_smoothing", {"label_smoothing": 2}),
        ("noise_alpha", {"noise_alpha": [3, 4]}),
        ("network.num_steps", {"network": {"num_steps": 0}}),
        ("network.hidden_dim", {"network": {"hidden_dim": 0}}),
    ],
)
def test_a_number_out_of_its_range_is_refused_by_name(tmp_path: Path, key: str, told: dict[str, object]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump({"stages": [{"until": 1, "size": 64, "pairs": 4}], **told}))
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        read_fit(path)


@pytest.mark.parametrize(("key", "told"), [("backbone", {"backbone": "nobody"}), ("no_weights", {"init": "no_weights"})])
def test_a_network_that_cannot_be_made_leaves_no_folder(tmp_path: Path, key: str, told: dict[str, object]) -> None:
    if "init" in told:
        told = {"init": tmp_path / "no_weights"}
        (tmp_path / "no_weights").write_bytes(b"none")
    network = TINY.network.model_copy(update=told)
    with pytest.raises(ConfigError, match=key):
        Run.start(TINY.model_copy(update={"network": network}), tmp_path / "run", rows_sha256=ROWS)
    assert not (tmp_path / "run").exists()


def test_the_first_checkpoints_configuration_is_valid() -> None:
    fit = read_fit(Path(__file__).parents[2] / "configs" / "train" / "first.yaml")
    assert fit.network.head == "diffusion"
    assert fit.stages[-1].size == 224


def test_a_window_lies_within_the_crop() -> None:
    assert Stage(until=1, size=64, pairs=1, window=64).window == 64
    with pytest.raises(ValueError, match="at most the size"):
        Stage(until=1, size=64, pairs=1, window=96)


def test_a_cache_that_holds_nothing_out_is_trained_on_without_validation(tmp_path: Path) -> None:
    for label, seed in (("real", 0), ("fake", 100)):
        write_shard(tmp_path, label, [(picture(seed + n), crop(label, n, label, "lfw")) for n in range(2)])
    mixture = Mixture(aligned=0, blend=1, composite=0, synthetic=0)
    fit = TINY.model_copy(update={"mixture": mixture, "steps": 2, "validate_every_steps": 1})
    console = Console(file=io.StringIO(), record=True)
    assert fit_network(fit, tmp_path, tmp_path / "run", console=console).step == 2
    assert "holds nothing out: the run is not validated" in console.export_text()


def test_a_run_that_goes_on_has_every_step_in_its_logs_once(cache: Path, tmp_path: Path) -> None:
    run = Run.start(TINY, tmp_path, rows_sha256=rows_sha256(CropStore(cache).rows))
    run.step = 4
    run.save()
    (tmp_path / "steps.csv").write_text("step,loss\n2,0.7\n4,0.6\n6,0.5\n8")  # killed after its last saving
    (tmp_path / "validation.csv").write_text("step,source,value\n2,ffpp AUC,0.5\n4,ffpp AUC,0.6\n")
    fit_network(TINY, cache, tmp_path, console=Console(quiet=True))
    logged = {}
    for name in ("steps.csv", "validation.csv"):
        with (tmp_path / name).open() as file:
            logged[name] = [(row["step"], row.get("source")) for row in csv.DictReader(file)]
    assert logged["steps.csv"] == [("2", None), ("4", None)]
    assert logged["validation.csv"] == [("2", "ffpp AUC"), ("4", "ffpp AUC"), ("4", "ffpp/deepfakes AUC")]


@pytest.mark.parametrize(
    ("left", "steps"),
    [
        ("step,loss\r\n2,0.7\r\n4,0.", ["2"]),
        ("step,loss\r\n2,0.7\r\n4,0.4,0.6\r\n", ["2"]),
        ("step,loss\r\n2,0.7\r\n", ["2"]),
        ("step,lo", []),
        ("", []),
    ],
    ids=["cut", "two run together", "whole", "header cut", "empty"],
)
def test_a_row_that_a_kill_cut_short_goes_and_the_next_one_is_whole(tmp_path: Path, left: str, steps: list[str]) -> None:
    log = tmp_path / "steps.csv"
    log.write_text(left, newline="")
    cut_back(log, 4)
    append_csv(log, {"step": 6, "loss": 0.5})
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == [*steps, "6"]
    assert all(row.keys() == {"step", "loss"} for row in rows)
