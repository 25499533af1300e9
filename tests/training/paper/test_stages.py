"""All stages end to end: what they leave, and that a run killed in the middle ends with the weights of one that was not."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from training.folder_lock import LOCK
from training.paper.engine import BEST, STATE
from training.paper.evaluate import read_results
from training.paper.networks import make_network
from training.paper.release import write_checkpoint
from training.paper.settings import Pipeline
from training.paper.stages import MODEL, PLAN, RESULTS, RUN, claim, export_run, read_claim, read_sets, run_pipeline
from training.splits import split_sha256
from training.terms import BUNDLED
from worker.errors import ConfigError
from worker.model import checkpoint
from worker.model.card import CardHead
from worker.model.restore import load_network
from worker.model.spec import TrainingData, TrainingSource

ROOT = Path(__file__).parents[3]
CHILD = """
import sys
from pathlib import Path
from training.configuration import read_configuration
from training.paper.stages import run_pipeline
config, cache, folder = map(Path, sys.argv[1:])
run_pipeline(read_configuration([config]), cache, folder)
"""


def weights(folder: Path, stage: str) -> dict[str, torch.Tensor]:
    return load_file(folder / stage / BEST)


def test_each_stage_starts_from_the_one_before(gone_through: Path) -> None:
    tuned, headed, unfrozen = (weights(gone_through, stage) for stage in ("finetune", "head", "unfreeze"))
    backbone = [name for name in tuned if name.startswith("backbone.")]
    assert all(torch.equal(tuned[name], headed[name]) for name in backbone)
    assert not all(torch.equal(headed[name], unfrozen[name]) for name in backbone)
    assert "head.weight" in tuned
    assert "head.step_embedding" in headed


def test_a_checkpoint_keeps_how_its_card_head_samples(crops: Path, tiny: Pipeline, tmp_path: Path) -> None:
    network = tiny.network.model_copy(update={"head": "card", "num_steps": 4, "draws": 7, "ddim_stride": 2})
    pipeline = tiny.model_copy(update={"network": network})
    out = tmp_path / "card.safetensors"
    write_checkpoint(pipeline, make_network(network, "card", seed=1), read_sets(crops, tiny.sets), crops, out)
    spec, loaded = load_network(out)
    assert (spec.head.draws, spec.head.ddim_stride) == (7, 2)
    assert isinstance(loaded.head, CardHead)
    assert (len(loaded.head.noise_NSK), loaded.head.ddim_stride) == (7, 2)


def test_the_noise_plan_covers_half_of_set_2(gone_through: Path) -> None:
    lines = (gone_through / "noise" / PLAN).read_text().splitlines()[1:]
    assert len(lines) == 2 * (6 + 5)
    assert sum(not line.endswith(",") for line in lines) == 11


def test_every_test_source_is_judged(gone_through: Path) -> None:
    results = {result.source: result for result in read_results(gone_through / "evaluate" / RESULTS)}
    assert {name: (result.real, result.fake) for name, result in results.items()} == {"ffpp": (2, 2), "lfw": (2, 0)}
    assert results["lfw"].auc is None


def test_the_checkpoint_is_one_that_a_scan_takes(gone_through: Path, crops: Path, tmp_path: Path) -> None:
    spec, network = load_network(gone_through / MODEL)
    assert spec.families == ("real", "fake")
    assert spec.crop.size == 32
    assert spec.licence == BUNDLED, "a cache that says nothing of itself counts as of the committed split"
    assert {source.name: (source.real, source.fake) for source in spec.training.sources} == {
        "140k": (12, 12),
        "ciplab": (6, 6),
        "roeishc": (5, 5),
    }
    assert spec.training.split_sha256 == split_sha256(), "of such a cache, too"
    assert torch.allclose(network.head.classifier.weight, weights(gone_through, "unfreeze")["head.classifier.weight"], atol=1e-3)
    export_run(gone_through, crops, tmp_path / "out.safetensors", name="mine", version="2")
    assert load_network(tmp_path / "out.safetensors")[0].name == "mine"


def test_a_checkpoint_says_by_which_splits_its_start_was_trained(
    gone_through: Path, crops: Path, tiny: Pipeline, tmp_path: Path
) -> None:
    spec, arrays = checkpoint.load(gone_through / MODEL)
    of_start = TrainingSource(name="lfw", real=2, leftout=2)
    learnt = TrainingData(sources=(of_start,), split_sha256="b" * 64, earlier_splits=("c" * 64,))
    begun = spec.model_copy(update={"training": learnt})
    checkpoint.save(tmp_path / "start.safetensors", arrays, begun)
    network = tiny.network.model_copy(update={"init": tmp_path / "start.safetensors"})
    run_pipeline(tiny.model_copy(update={"network": network, "stages": tiny.stages[:1]}), crops, tmp_path / "run")
    training = checkpoint.load_spec(tmp_path / "run" / MODEL).training
    assert training.split_sha256 == split_sha256()
    assert training.earlier_splits == ("b" * 64, "c" * 64)
    assert of_start in training.sources, "its left-out files are no test of these weights either"


@pytest.mark.timeout(900)  # a process that imports torch may have to wait for a busy machine
def test_a_run_killed_in_the_middle_ends_with_the_same_weights(
    gone_through: Path, crops: Path, tiny: Pipeline, tmp_path: Path
) -> None:
    config, folder = tmp_path / "tiny.yaml", tmp_path / "killed"
    every_step = tiny.hardware.model_copy(update={"save_every_s": 0.0})
    config.write_text(yaml.safe_dump(json.loads(tiny.model_copy(update={"hardware": every_step}).model_dump_json())))
    with subprocess.Popen([sys.executable, "-c", CHILD, config, crops, folder], cwd=ROOT, stdout=subprocess.DEVNULL) as child:
        deadline = time.monotonic() + 800
        try:
            while not (folder / "finetune" / STATE).exists():
                assert child.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
        finally:
            child.send_signal(signal.SIGKILL)
        assert child.wait(30) == -signal.SIGKILL
    state = torch.load(folder / "finetune" / STATE, weights_only=True)
    assert state["counters"]["step"] > 0
    assert not (folder / "evaluate" / RESULTS).exists()
    run_pipeline(tiny, crops, folder)
    for stage in ("finetune", "head", "unfreeze"):
        whole, again = weights(gone_through, stage), weights(folder, stage)
        assert whole.keys() == again.keys()
        assert all(torch.equal(value, again[name]) for name, value in whole.items()), stage
    losses = [(path / "unfreeze" / STATE) for path in (gone_through, folder)]
    histories = [torch.load(path, weights_only=True)["counters"]["history"] for path in losses]
    assert [row["train_loss"] for row in histories[0]] == [row["train_loss"] for row in histories[1]]


def test_a_finished_run_is_left_as_it_is(gone_through: Path, crops: Path, tiny: Pipeline) -> None:
    times = {path: path.stat().st_mtime_ns for path in gone_through.glob(f"*/{BEST}")}
    run_pipeline(tiny, crops, gone_through)
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_another_configuration_does_not_go_on_in_the_folder(gone_through: Path, crops: Path, tiny: Pipeline) -> None:
    with pytest.raises(ConfigError, match="another configuration"):
        run_pipeline(tiny.model_copy(update={"seed": 2}), crops, gone_through)


def test_a_run_does_not_go_on_with_other_crops(gone_through: Path, crops: Path, tiny: Pipeline, tmp_path: Path) -> None:
    """A folder prepared anew under the same settings: the old weights are not given out as trained on it."""
    other, run = tmp_path / "crops", tmp_path / "run"
    shutil.copytree(crops, other)
    index = other / "140k-real.csv"
    index.write_text(index.read_text().replace("140k/real/3", "140k/real/33"))
    (run / "noise").mkdir(parents=True)
    shutil.copy(gone_through / "noise" / PLAN, run / "noise")
    told = json.loads((gone_through / RUN).read_text())
    for before, match in ((told, "other crops than the cache"), (told | {"rows_sha256": None}, "does not say which crops")):
        (run / RUN).write_text(json.dumps(before))
        with pytest.raises(ConfigError, match=f"{match}.*--run, or delete"):
            run_pipeline(tiny, other, run)
    (run / RUN).write_text(json.dumps(told))
    with pytest.raises(ConfigError, match="trained on other crops"):
        export_run(run, other, tmp_path / "out.safetensors", name="mine", version="1")


def test_a_folder_without_a_result_is_claimed_anew(tiny: Pipeline, crops: Path, tmp_path: Path) -> None:
    """A wrong setting that ends the run at its start is put right in the same folder."""
    chosen = read_sets(crops, tiny.sets)
    mended = tiny.model_copy(update={"seed": 2})
    (tmp_path / LOCK).touch()
    claim(tiny, chosen, tmp_path)
    claim(mended, chosen, tmp_path)
    assert read_claim(tmp_path / RUN)["sha256"] == mended.sha256
    (tmp_path / "finetune").mkdir()  # of a process that may be at work there, with no state yet
    claim(mended, chosen, tmp_path)
    with pytest.raises(ConfigError, match="another configuration"):
        claim(tiny, chosen, tmp_path)


@pytest.mark.parametrize("left", ["", "{", "[]", "{}"])
def test_a_claim_that_cannot_be_read_is_named(left: str, tiny: Pipeline, crops: Path, tmp_path: Path) -> None:
    (tmp_path / RUN).write_text(left)
    with pytest.raises(ConfigError, match=r"run\.json does not say"):
        claim(tiny, read_sets(crops, tiny.sets), tmp_path)


@pytest.mark.parametrize(
    ("key", "part", "told"),
    [
        ("hardware", "hardware", {"accelerator": "gpux"}),
        ("hardware", "hardware", {"devices": 0}),
        ("hardware", "hardware", {"devices": "two"}),
        ("hardware", "hardware", {"strategy": "foo"}),
        ("optimiser.opt", "optimiser", {"opt": "adamww"}),
        ("optimiser.sched", "optimiser", {"sched": "cosin"}),
        ("optimiser.sched", "optimiser", {"sched": "none"}),
        ("augmentation.augmix", "augmentation", {"augmix": "foo-m3"}),
    ],
)
def test_a_word_that_nobody_takes_is_named_and_no_folder_is_made(
    key: str, part: str, told: dict[str, object], crops: Path, tiny: Pipeline, tmp_path: Path
) -> None:
    settings = tiny.model_dump(mode="json")
    changed = settings if part == "hardware" else settings["stages"][0]
    changed[part] |= told
    with pytest.raises(ConfigError, match=re.escape(key)):
        run_pipeline(Pipeline.model_validate(settings), crops, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("told", [{"seed": -1}, {"network": {"num_steps": 0}}, {"network": {"hidden_dim": 0}}])
def test_a_number_out_of_its_range_is_refused(told: dict[str, object], tiny: Pipeline) -> None:
    with pytest.raises(ValueError, match="greater than or equal to"):
        Pipeline.model_validate(tiny.model_dump(mode="json") | told)


def test_an_empty_cache_is_told(tiny: Pipeline, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="veriframe data prepare"):
        run_pipeline(tiny, tmp_path, tmp_path / "run")
