"""From a run to a checkpoint: the averaged weights, the split's hash, and honest sources."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from training.identity import rows_sha256
from training.loop import Run
from training.prepare import read_index
from training.release import export_checkpoint, read_run, training_sources
from training.settings import Fit, Mixture, Network, Stage
from training.splits import split_sha256
from worker.errors import ConfigError
from worker.model import checkpoint

TINY = Fit(network=Network(backbone="test_efficientnet", hidden_dim=16, num_steps=2), stages=(Stage(until=1, size=32, pairs=2),))


def test_a_checkpoint_holds_the_average_and_names_its_data(cache: Path, tmp_path: Path) -> None:
    run = Run.start(TINY, tmp_path / "run", rows_sha256=rows_sha256(read_index(cache)))
    run.ema.head.classifier.bias.fill_(0.25)
    run.save()
    export_checkpoint(tmp_path / "run", cache, tmp_path / "out.safetensors", name="tiny", version="0")
    spec, weights = checkpoint.load(tmp_path / "out.safetensors")
    assert (weights["head.classifier.bias"] == 0.25).all()
    assert spec.training.split_sha256 == split_sha256()
    assert (spec.backbone, spec.head.num_steps) == ("test_efficientnet", 2)
    assert {source.name: (source.real, source.fake) for source in spec.training.sources}["ffpp"] == (2, 2)


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


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run"):
        read_run(tmp_path)
