"""Adaptations end to end at tiny size: a harmless checkpoint passes, a spoilt one does not, a killed run goes on."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from rich.progress import Progress
from typer.testing import CliRunner

from tests.training.adaptation.conftest import SIZE, alarms, held, teach
from tests.training.conftest import crop, picture
from training import provenance
from training.adaptation.feedback import FeedbackSampler
from training.adaptation.run import Adaptation, Plan, Train, adapt, held_groups, start, train
from training.commands.adapt import app
from training.data import Batch, CropStore
from training.folder_lock import alone_in
from training.loop import Run
from training.prepare import write_shard
from training.splits import read_split, split_sha256
from worker.errors import ConfigError
from worker.model import checkpoint
from worker.model.checkpoint import load_spec, sha256
from worker.model.restore import load_network
from worker.model.spec import CropSpec, ModelSpec, TrainingData, TrainingSource

QUICK = Adaptation.model_validate(
    {"steps": 4, "pairs": 2, "lr": 1e-3, "save_every_steps": 2, "threads": 1, "regression": {"draws": 100}}
)


def taught(*, old: Path, wrong: Path, spoilt: bool) -> Train:
    """In place of training: the feedback is put right; ``spoilt``: and everything else turned around."""

    def instead(run: Run, sampler: FeedbackSampler, settings: Adaptation, progress: Progress) -> None:
        known = [(store, row, fake != spoilt) for store, row, fake in held(old)]
        teach(run.ema, [*known, *alarms(wrong, fake=False)])

    return instead


def plan(parent: Path, old: Path, wrong: Path, folder: Path, out: Path) -> Plan:
    return Plan(feedback=wrong / "feedback.csv", model=parent, cache=old, out=out, folder=folder, settings=QUICK)


def test_a_harmless_checkpoint_is_written_and_says_what_it_is(
    parent: Path, old: Path, wrong: Path, run_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new.safetensors"
    found = adapt(plan(parent, old, wrong, run_folder, out), Console(quiet=True), taught(old=old, wrong=wrong, spoilt=False))
    assert found.gate.refusals == ()
    assert found.gate.feedback_right == (0, 3)
    spec = load_spec(out)
    assert (spec.version, spec.calibration_is_inherited) == ("1-adapted", True)
    assert (spec.training.parent_sha256, found.sha256) == (sha256(parent), sha256(out))
    assert (spec.thresholds, spec.calibrations) == (load_spec(parent).thresholds, load_spec(parent).calibrations)
    trained = {source.name: (source.real, source.fake) for source in spec.training.sources}
    assert (trained["ffpp"], trained["feedback mine"]) == ((9, 9), (3, 0))
    report = (run_folder / "report.md").read_text()
    assert "accepted" in report
    assert all(f"| alarm-{n}.png | mine | real |" in report for n in range(3))
    assert "| 140k | 8 | 8 | 8 | AUC | 1.000 | 1.000 |" in report


def test_a_spoilt_checkpoint_is_refused_and_only_the_report_written(
    parent: Path, old: Path, wrong: Path, run_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new.safetensors"
    alone = replace(plan(parent, old, wrong, run_folder, out), settings=QUICK.model_copy(update={"shares": (1.0,)}))
    found = adapt(alone, Console(quiet=True), taught(old=old, wrong=wrong, spoilt=True))
    assert not found.gate.is_accepted
    assert "140k: AUC 1.000 -> 0.000" in found.gate.refusals[0]
    assert not out.exists()
    assert not list(run_folder.glob("*.safetensors"))
    told = json.loads((run_folder / "report.json").read_text())
    assert told["sha256"] is None
    assert len(told["gate"]["regression_flips"]) >= 16


def test_what_forgot_too_much_is_averaged_with_its_parent(
    parent: Path, old: Path, wrong: Path, run_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new.safetensors"
    shares = replace(plan(parent, old, wrong, run_folder, out), settings=QUICK.model_copy(update={"shares": (1.0, 0.05)}))
    found = adapt(shares, Console(quiet=True), taught(old=old, wrong=wrong, spoilt=True))
    assert [(one.share, bool(one.refusals)) for one in found.tried] == [(1.0, True), (0.05, False)]
    assert found.gate.is_accepted
    before, after = (load_network(path)[1].state_dict() for path in (parent, out))
    assert any(not torch.equal(before[name], after[name]) for name in before)
    report = (run_folder / "report.md").read_text()
    assert "- the end of training: refused" in report
    assert "- 0.05 of the end of training, the rest the parent's weights: accepted" in report


def test_feedback_is_as_large_as_the_caches_crops_and_the_parents(
    parent: Path, old: Path, wrong: Path, run_folder: Path, tmp_path: Path
) -> None:
    cache, model = tmp_path / "cache", tmp_path / "large.safetensors"
    shutil.copytree(old, cache)
    provenance.begin(cache, provenance.Provenance(root=wrong, layout="plain", items=(), crop_px=400))
    spec, arrays = checkpoint.load(parent)
    checkpoint.save(model, arrays, spec.model_copy(update={"crop": CropSpec(size=320)}), np.float32)

    def instead(run: Run, sampler: FeedbackSampler, settings: Adaptation, progress: Progress) -> None:
        at_320 = FeedbackSampler(CropStore(wrong / "crops"), CropStore(cache), settings, spec.families, 320)
        assert np.array_equal(sampler.batch(0, 320).crops_FHWC, at_320.batch(0, 320).crops_FHWC)
        raise InterruptedError("seen")

    with pytest.raises(InterruptedError, match="seen"):
        adapt(plan(model, cache, wrong, run_folder, tmp_path / "new.safetensors"), Console(quiet=True), instead)
    made_of = provenance.read(run_folder / "feedback")
    assert made_of is not None
    assert made_of.crop_px == 400


def test_left_out_files_that_the_parent_was_trained_on_are_no_judges(
    parent: Path, old: Path, wrong: Path, run_folder: Path, tmp_path: Path
) -> None:
    """The paper's stages learn from a source that the split leaves out; of another split, it may know more of them."""
    cache, model = tmp_path / "cache", tmp_path / "staged.safetensors"
    shutil.copytree(old, cache)
    write_shard(cache, "roeishc-fake", [(picture(500), crop("roeishc-fake", 0, "fake", "roeishc", split="leftout"))])
    spec, arrays = checkpoint.load(parent)
    training = TrainingData(sources=(TrainingSource(name="roeishc", fake=1),), split_sha256="0" * 64)
    checkpoint.save(model, arrays, spec.model_copy(update={"training": training}), np.float32)
    planned = plan(model, cache, wrong, run_folder, tmp_path / "new.safetensors")
    found = adapt(planned, Console(quiet=True), taught(old=old, wrong=wrong, spoilt=False))
    assert not any("roeishc" in change.source for change in found.gate.sources)
    assert found.is_other_split
    assert "trained by another split" in (run_folder / "report.md").read_text()


def test_what_the_parents_run_held_out_judges_and_is_not_replayed(parent: Path, old: Path, wrong: Path, tmp_path: Path) -> None:
    """Batches are the same whatever its crops look like."""
    model, other = tmp_path / "fold.safetensors", tmp_path / "other"
    spec, arrays = checkpoint.load(parent)
    training = spec.training.model_copy(update={"held_out": ("ffpp/1", "elsewhere/9")})
    checkpoint.save(model, arrays, spec.model_copy(update={"training": training}), np.float32)
    shutil.copytree(old, other)
    store = CropStore(old)
    for label in ("real", "fake"):
        rows = [row for row in store.rows if row.shard == f"ffpp-{label}"]
        write_shard(
            other, f"ffpp-{label}", [(picture(600) if row.group == "ffpp/1" else store.picture(row), row) for row in rows]
        )
    drawn: list[list[np.ndarray]] = []

    def watched(run: Run, sampler: FeedbackSampler, settings: Adaptation, progress: Progress) -> None:
        drawn.append([sampler.batch(step, SIZE).crops_FHWC for step in range(8)])
        taught(old=old, wrong=wrong, spoilt=False)(run, sampler, settings, progress)

    for cache in (old, other):
        folder, out = tmp_path / f"run-{cache.name}", tmp_path / f"{cache.name}.safetensors"
        shutil.copytree(wrong / "crops", folder / "feedback")
        found = adapt(plan(model, cache, wrong, folder, out), Console(quiet=True), watched)
        assert found.regression_files == 20
    np.testing.assert_array_equal(*drawn)
    assert found.training.held_out == ("elsewhere/9", "ffpp/1")


def test_what_the_parents_split_held_out_and_the_caches_does_not_is_not_replayed() -> None:
    item = next(item for item in read_split() if item.split == "heldout")
    rows = [crop("a", 0, item.label, item.source, path=item.path, group="a"), crop("b", 1, "real", "lfw")]
    assert held_groups(rows, TrainingData(sources=(), split_sha256=split_sha256())) == {"a"}
    assert held_groups(rows, TrainingData(sources=())) == set()


def test_a_folder_begun_before_a_setting_existed_goes_on(
    parent: Path, old: Path, wrong: Path, run_folder: Path, tmp_path: Path
) -> None:
    """It was claimed for the setting's default, without its name."""
    planned = plan(parent, old, wrong, run_folder, tmp_path / "new.safetensors")
    put_right = taught(old=old, wrong=wrong, spoilt=False)
    adapt(planned, Console(quiet=True), put_right)
    identity = run_folder / "adaptation.json"
    told = json.loads(identity.read_text())
    del told["settings"]["noise_share"]
    identity.write_text(json.dumps(told))
    assert adapt(planned, Console(quiet=True), put_right).gate.is_accepted
    told["settings"]["steps"] = 5
    identity.write_text(json.dumps(told))
    with pytest.raises(ConfigError, match="name another --run"):
        adapt(planned, Console(quiet=True), put_right)


def test_a_killed_run_goes_on_to_the_weights_of_an_uncut_one(parent: Path, old: Path, wrong: Path, tmp_path: Path) -> None:
    class Dying(FeedbackSampler):
        def batch(self, step: int, size: int) -> Batch:
            if step == 3:
                raise KeyboardInterrupt
            return super().batch(step, size)

    spec, network = load_network(parent)
    stores = CropStore(wrong / "crops"), CropStore(old)

    def trained(folder: str, kind: type[FeedbackSampler]) -> Run:
        run = start(QUICK.fit(spec), network, tmp_path / folder, rows_sha256="rows")
        with Progress(console=Console(quiet=True)) as progress:
            train(run, kind(*stores, QUICK, spec.families), QUICK, progress)
        return run

    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole = trained("whole", FeedbackSampler)
    with pytest.raises(KeyboardInterrupt):
        trained("cut", Dying)
    cut = trained("cut", FeedbackSampler)
    assert (whole.step, cut.step, cut.crops) == (4, 4, 16)
    for name, value in whole.ema.state_dict().items():
        assert torch.equal(value, cut.ema.state_dict()[name]), name
    before = network.state_dict()
    assert any(not torch.equal(value, before[name]) for name, value in whole.network.state_dict().items())


def test_the_command_keeps_its_word_by_exit_code(parent: Path, old: Path, wrong: Path, run_folder: Path, tmp_path: Path) -> None:
    out, config = tmp_path / "new.safetensors", tmp_path / "quick.yaml"
    config.write_text("{steps: 2, pairs: 2, threads: 1, regression: {draws: 100}}")
    options = {"--model": parent, "--cache": old, "--out": out, "--run": run_folder, "--config": config}
    arguments = [str(wrong / "feedback.csv"), *(str(word) for pair in options.items() for word in pair)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code in (0, 1), result.output
    assert out.exists() == (result.exit_code == 0)
    assert ("accepted" if out.exists() else "refused") in (run_folder / "report.md").read_text().splitlines()[0]
    config.write_text("{steps: 3, pairs: 2, threads: 1}")
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 2
    assert "name another --run" in " ".join(again.stderr.split())


def test_a_card_head_is_refused(parent: Path) -> None:
    spec: ModelSpec = load_spec(parent)
    card = spec.model_copy(update={"head": spec.head.model_copy(update={"kind": "card"})})
    with pytest.raises(ConfigError, match="CARD"):
        QUICK.fit(card)


def test_the_shipped_settings_are_the_defaults() -> None:
    from training.adaptation.settings import read_adaptation

    assert read_adaptation(Path(__file__).parents[3] / "configs" / "train" / "adapt.yaml") == Adaptation()
    assert np.isclose(Adaptation().feedback_crops / Adaptation().pairs, 0.5)
    assert [Adaptation(pairs=pairs, replay=share).feedback_crops for pairs, share in ((10, 0.8), (9, 0.8), (4, 0.9))] == [2, 1, 1]


def test_a_folder_in_the_checkpoints_place_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    with pytest.raises(ConfigError, match="is a folder: name a file"):
        adapt(plan(nowhere, nowhere, nowhere, tmp_path / "run", out=tmp_path), Console(quiet=True))
    assert not (tmp_path / "run").exists()


def test_the_model_itself_is_not_written_over(tmp_path: Path) -> None:
    model, alias, nowhere = tmp_path / "model.safetensors", tmp_path / "alias.safetensors", tmp_path / "nowhere"
    model.touch()
    alias.symlink_to(model)
    for out in (model, alias):
        with pytest.raises(ConfigError, match="is --model itself"):
            adapt(plan(model, nowhere, nowhere, tmp_path / "run", out=out), Console(quiet=True))
    assert not (tmp_path / "run").exists()


def test_a_folder_where_another_process_adapts_is_refused_by_name(tmp_path: Path) -> None:
    words = ["wrong.csv", "--model", "m.safetensors", "--out", str(tmp_path / "out.safetensors"), "--run", str(tmp_path / "run")]
    with alone_in(tmp_path / "run", print):
        result = CliRunner().invoke(app, words)
    assert result.exit_code == 2, result.output
    assert f"{tmp_path / 'run'}: another process is at work there" in result.stderr
