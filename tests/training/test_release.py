"""From a run to a checkpoint: the averaged weights, the split's hash, and honest sources."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.training.conftest import crop, picture
from training.identity import rows_sha256
from training.labelled import refuse_known
from training.loop import Run, fit_network
from training.prepare import read_index, write_shard
from training.provenance import Provenance, begin, split_file
from training.release import export_checkpoint, read_run, training_sources
from training.settings import TERMS, Fit, Mixture, Network, Stage
from training.splits import Item, read_split, split_sha256
from training.terms import BUNDLED, of_training
from worker.errors import ConfigError
from worker.model import checkpoint
from worker.model.spec import Licence, TrainingData, TrainingSource

TINY = Fit(network=Network(backbone="test_efficientnet", hidden_dim=16, num_steps=2), stages=(Stage(until=1, size=32, pairs=2),))


def test_a_checkpoint_holds_the_average_and_names_its_data(cache: Path, tmp_path: Path) -> None:
    run = Run.start(TINY, tmp_path / "run", rows_sha256=rows_sha256(read_index(cache)))
    run.ema.head.classifier.bias.fill_(0.25)
    run.save()
    export_checkpoint(tmp_path / "run", cache, tmp_path / "out.safetensors", name="tiny", version="0")
    spec, weights = checkpoint.load(tmp_path / "out.safetensors")
    assert (weights["head.classifier.bias"] == 0.25).all()
    assert spec.training.split_sha256 == split_sha256()
    assert (spec.backbone, spec.head.num_steps, spec.crop.size) == ("test_efficientnet", 2, 32)
    assert {source.name: (source.real, source.fake) for source in spec.training.sources}["ffpp"] == (2, 2)
    staged = TrainingSource(name="lfw", real=3, leftout=3)
    data = spec.training.model_copy(update={"sources": (staged, TrainingSource(name="dfd", fake=1))})
    checkpoint.save(tmp_path / "staged.safetensors", weights, spec.model_copy(update={"training": data}))
    start, out = tmp_path / "staged.safetensors", tmp_path / "averaged.safetensors"
    after = export_checkpoint(tmp_path / "run", cache, out, name="tiny", version="1", start=start)
    assert {*after.training.sources} == {*spec.training.sources, staged}


def test_what_a_run_held_out_is_none_of_what_its_checkpoint_learnt_from(cache: Path, tmp_path: Path) -> None:
    fit = TINY.model_copy(update={"hold_out": ("ffpp/1",)})
    Run.start(fit, tmp_path / "run", rows_sha256=rows_sha256(read_index(cache))).save()
    spec = export_checkpoint(tmp_path / "run", cache, tmp_path / "out.safetensors", name="tiny", version="0")
    assert {source.name: (source.real, source.fake) for source in spec.training.sources}["ffpp"] == (1, 1)


def test_a_run_holds_out_nothing_that_its_start_has_learnt_from(cache: Path, tmp_path: Path) -> None:
    own = of_own_data(cache, tmp_path / "own")
    held = TINY.model_copy(update={"hold_out": ("ffpp/1",), "steps": 1, "threads": 1})

    def begun(start: Path) -> Fit:
        return held.model_copy(update={"network": held.network.model_copy(update={"start": start})})

    exported(TINY, own, tmp_path / "knows")
    knows = tmp_path / "knows" / "model.safetensors"
    with pytest.raises(ConfigError, match="has learnt from ffpp/1"):
        fit_network(begun(knows), own, tmp_path / "run")
    with pytest.raises(ConfigError, match="has learnt from ffpp/1"):
        exported(held, own, tmp_path / "averaged", knows)
    pictures = Mixture(aligned=0, blend=0, composite=0, synthetic=1)
    exported(TINY.model_copy(update={"network": begun(knows).network, "mixture": pictures}), own, tmp_path / "after")
    after = tmp_path / "after" / "model.safetensors"
    assert [source.name for source in checkpoint.load_spec(after).training.sources] == ["140k"]
    with pytest.raises(ConfigError, match="has learnt from ffpp/1"):
        exported(held, own, tmp_path / "averaged", after)
    exported(held, own, tmp_path / "fold")
    fold = tmp_path / "fold" / "model.safetensors"
    exported(begun(fold), own, tmp_path / "from-fold")
    assert checkpoint.load_spec(tmp_path / "from-fold" / "model.safetensors").training.held_out == ("ffpp/1",)


def test_what_a_start_learnt_from_by_an_earlier_split_is_not_held_out(cache: Path, tmp_path: Path) -> None:
    """The start's own split, of other media, is one that nobody knows here."""
    learnt = next(item for item in read_split() if item.split == "train")
    (tmp_path / "cache").mkdir()
    write_shard(tmp_path / "cache", "x", [(picture(1), crop("x", 1, learnt.label, learnt.source, path=learnt.path))])
    (group,) = {row.group for row in read_index(tmp_path / "cache")}
    exported(TINY, cache, tmp_path / "begun")
    spec, arrays = checkpoint.load(tmp_path / "begun" / "model.safetensors")
    own = of_own_data(tmp_path / "cache", tmp_path / "own")
    committed, its = split_sha256(), split_sha256(split_file(own))
    for earlier, held, known in (((committed,), (), True), ((its,), (), True), ((committed,), (group,), False), ((), (), False)):
        training = TrainingData(sources=(), split_sha256="b" * 64, earlier_splits=earlier, held_out=held)
        checkpoint.save(tmp_path / "start.safetensors", arrays, spec.model_copy(update={"training": training}))
        with pytest.raises(ConfigError, match=f"has learnt from {group}") if known else nullcontext():
            refuse_known(tmp_path / "start.safetensors", [group], own)


def test_sources_that_a_mixture_leaves_alone_are_not_named(cache: Path) -> None:
    mixture = Mixture(aligned=1, blend=0, composite=0, synthetic=0)
    assert [source.name for source in training_sources(read_index(cache), mixture)] == ["ffpp"]


def test_sources_of_any_name_are_named_by_what_they_serve_for(cache: Path) -> None:
    rows = [
        replace(row, source="mine", target="", family="synthetic" if row.label == "fake" else "") for row in read_index(cache)
    ]
    none = {"aligned": 0, "blend": 0, "composite": 0, "synthetic": 0}
    anyone = {"parents": {}, "composites": (), "synthetics": ()}

    def named(**shares: float) -> tuple[bool, bool]:
        found = training_sources(rows, Mixture(**(none | shares), **anyone))
        return (found[0].real > 0, found[0].fake > 0) if found else (False, False)

    assert named(blend=1) == (True, False)
    assert named(synthetic=1) == (True, True)
    assert named(aligned=1) == (False, False)


def test_fakes_of_a_source_without_real_files_are_in_no_pair_and_not_named() -> None:
    rows = [crop("a", 0, "real", "mine"), crop("b", 1, "fake", "mine", family="synthetic"), crop("c", 2, "fake", "theirs")]
    mixture = Mixture(aligned=0, blend=0.5, composite=0.25, synthetic=0.25, parents={}, composites=(), synthetics=())
    assert training_sources(rows, mixture) == (TrainingSource(name="mine", real=1, fake=1),)


def test_a_reconstruction_is_named_with_its_original() -> None:
    rows = [crop("lfw", n, "real", "lfw", path=f"{n}.jpg") for n in range(3)]
    rows.append(crop("taesd", 3, "fake", "taesd", target="0.jpg"))

    def named(**shares: float) -> list[tuple[str, int, int]]:
        none = {"aligned": 0, "blend": 0, "composite": 0, "synthetic": 0}
        found = training_sources(rows, Mixture(**(none | shares), parents={"ffpp": 1}))
        return [(source.name, source.real, source.fake) for source in found]

    assert named(reconstruction=1) == [("lfw", 1, 0), ("taesd", 0, 1)]
    assert named(blend=1, remade_donor=0.1) == [("lfw", 1, 0), ("taesd", 0, 1)]
    assert named(blend=1) == []


def test_weights_are_averaged_with_those_the_run_started_from(cache: Path, tmp_path: Path) -> None:
    begun = Run.start(TINY, tmp_path / "begun", rows_sha256=rows_sha256(read_index(cache)))
    begun.ema.head.classifier.bias.fill_(1.0)
    begun.save()
    export_checkpoint(tmp_path / "begun", cache, tmp_path / "start.safetensors", name="tiny", version="0")
    run = Run.start(TINY, tmp_path / "run", rows_sha256=rows_sha256(read_index(cache)))
    run.ema.head.classifier.bias.fill_(0.0)
    run.ema.backbone.bn1.running_var.fill_(3.0)
    run.save()
    start, out = tmp_path / "start.safetensors", tmp_path / "out.safetensors"
    export_checkpoint(tmp_path / "run", cache, out, name="tiny", version="1", start=start, share=0.25)
    _, weights = checkpoint.load(out)
    assert (weights["head.classifier.bias"] == 0.75).all()
    assert (weights["backbone.bn1.running_var"] == 1.5).all()


def test_another_network_cannot_be_averaged_in(cache: Path, tmp_path: Path) -> None:
    Run.start(TINY, tmp_path / "run", rows_sha256=rows_sha256(read_index(cache))).save()
    other = TINY.model_copy(update={"network": Network(backbone="test_efficientnet", hidden_dim=8, num_steps=2)})
    Run.start(other, tmp_path / "other", rows_sha256=rows_sha256(read_index(cache))).save()
    export_checkpoint(tmp_path / "other", cache, tmp_path / "other.safetensors", name="tiny", version="0")
    with pytest.raises(ConfigError, match="not the network of the run"):
        export_checkpoint(
            tmp_path / "run", cache, tmp_path / "out.safetensors", name="tiny", version="1", start=tmp_path / "other.safetensors"
        )
    assert not (tmp_path / "out.safetensors").exists()


def test_a_run_is_not_exported_as_of_another_cache(cache: Path, tmp_path: Path) -> None:
    Run.start(TINY, tmp_path / "run", rows_sha256="of before").save()
    with pytest.raises(ConfigError, match="trained on other crops"):
        export_checkpoint(tmp_path / "run", cache, tmp_path / "out.safetensors", name="tiny", version="0")
    assert not (tmp_path / "out.safetensors").exists()


def of_own_data(cache: Path, folder: Path) -> Path:
    """The cache as one that was prepared of one's own folder."""
    shutil.copytree(cache, folder)
    item = Item(path="real/a.png", label="real", source="mine", manipulation="", group="mine/a", split="train")
    begin(folder, Provenance(root=folder, layout="plain", items=(item,)))
    return folder


def exported(fit: Fit, cache: Path, folder: Path, start: Path | None = None) -> Licence:
    Run.start(fit, folder, rows_sha256=rows_sha256(read_index(cache))).save()
    return export_checkpoint(folder, cache, folder / "model.safetensors", name="tiny", version="0", start=start).licence


def test_the_bundled_terms_are_those_of_the_committed_split_alone(cache: Path, tmp_path: Path) -> None:
    assert exported(TINY, cache, tmp_path / "committed") == BUNDLED
    own = of_own_data(cache, tmp_path / "own")
    licence = exported(TINY, own, tmp_path / "mine")
    assert (licence.name, licence.file) == (TERMS, "none")
    assert licence.notice == "Trained on: 140k, ciplab, ffpp"
    assert exported(TINY.model_copy(update={"terms": "ours"}), own, tmp_path / "told").name == "ours"


def test_the_terms_of_what_a_run_started_from_stay(cache: Path, tmp_path: Path) -> None:
    exported(TINY, cache, tmp_path / "bundled")
    own, start = of_own_data(cache, tmp_path / "own"), tmp_path / "bundled" / "model.safetensors"
    network = TINY.network.model_copy(update={"start": start})
    begun = TINY.model_copy(update={"network": network, "terms": "ours"})
    for licence in (
        exported(begun, own, tmp_path / "begun"),
        exported(TINY.model_copy(update={"terms": "ours"}), own, tmp_path / "averaged", start),
    ):
        assert (licence.name, licence.file) == (f"{BUNDLED.name}; ours", BUNDLED.file)
        assert licence.notice == f"{BUNDLED.notice} Trained on: 140k, ciplab, ffpp"
    start.unlink()
    with pytest.raises(ConfigError, match="its terms hold"):
        export_checkpoint(tmp_path / "begun", own, tmp_path / "out.safetensors", name="tiny", version="0")


def test_a_backbone_that_tells_no_terms_is_named(tmp_path: Path) -> None:
    save_file({"weight": np.zeros(2, np.float32)}, tmp_path / "backbone.safetensors")
    init = tmp_path / "backbone.safetensors"
    licence = of_training("ours", [TrainingSource(name="mine")], starts=[init], init=init)
    assert (licence.name, licence.notice) == (
        "ours",
        "Trained on: mine; started from backbone.safetensors, whose terms hold too",
    )


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run"):
        read_run(tmp_path)
