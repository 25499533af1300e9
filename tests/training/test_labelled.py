"""What calibrates a checkpoint of one's own: the files that its cache holds out, wherever they lie."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.training.conftest import crop
from tests.training.test_scans import report, write
from training.commands.data import app as data_app
from training.commands.release import app
from training.evaluation.cases import Case
from training.labelled import DATA, as_learnt, earlier_splits, judges, labelled_files, tell_of_another_split, with_left_out
from training.paper.release import trained_on
from training.paper.sets import choose_sets
from training.paper.settings import Selection, Sets
from training.provenance import Provenance, begin, split_file
from training.splits import COMMITTED, Item, read_split, split_sha256
from worker.errors import ConfigError
from worker.model import checkpoint
from worker.model.checkpoint import sha256
from worker.model.spec import TrainingData, TrainingSource
from worker.report import Report


def item(path: str, label: str, group: str, split: str = "heldout", source: str = "mine") -> Item:
    return Item(path=path, label=label, source=source, manipulation="", group=group, split=split)


def learn_from(path: Path, *sources: str) -> None:
    """Note in the checkpoint that its weights were trained on these."""
    spec, arrays = checkpoint.load(path)
    training = TrainingData(sources=tuple(TrainingSource(name=name, real=1, fake=1) for name in sources))
    checkpoint.save(path, arrays, spec.model_copy(update={"training": training}))


def test_without_a_cache_they_are_the_committed_splits() -> None:
    items, root = labelled_files(None, None)
    assert (list(items.values()), root) == (read_split(), DATA)
    assert labelled_files(None, Path("media"))[1] == Path("media")


def test_files_outside_the_manifests_folder_are_named_below_one_that_holds_all(tmp_path: Path) -> None:
    items = (item(str(tmp_path / "a/real/1.mp4"), "real", "1"), item("../b/2.mp4", "fake", "2"), item("3.mp4", "fake", "3"))
    begin(tmp_path / "cache", Provenance(root=tmp_path / "lists", layout="manifest", items=items))
    found, root = labelled_files(tmp_path / "cache", None)
    assert (list(found), root) == (["a/real/1.mp4", "b/2.mp4", "lists/3.mp4"], tmp_path)


def test_media_may_have_moved_since_the_cache_was_made(tmp_path: Path) -> None:
    begin(tmp_path / "cache", Provenance(root=tmp_path / "before", layout="plain", items=(item("real/1.mp4", "real", "1"),)))
    assert labelled_files(tmp_path / "cache", None)[1] == tmp_path / "before"
    assert labelled_files(tmp_path / "cache", tmp_path / "now")[1] == tmp_path / "now"
    with pytest.raises(ConfigError, match="no split of its own"):
        labelled_files(tmp_path / "another", None)


def test_a_checkpoint_is_calibrated_on_its_own_cache(tmp_path: Path, uncalibrated: Path) -> None:
    media, cache, model = tmp_path / "media", tmp_path / "cache", uncalibrated
    rng = np.random.default_rng(0)
    items = tuple(item(f"{label}/{n}.mp4", label, f"mine/{n}") for n in range(12) for label in ("real", "fake"))
    begin(cache, Provenance(root=media, layout="plain", items=items))
    reports = [_with_sha(report(media / it.path, _logits(rng, it.label)), sha256(model)) for it in items]
    scans = write(tmp_path / "scans.jsonl", reports)
    result = CliRunner().invoke(app, ["calibrate", str(model), str(scans), "--cache", str(cache)])
    assert result.exit_code == 0, result.output
    assert checkpoint.load_spec(model).calibrations
    assert "on 24 files" in result.output


def cross_fitted(folder: Path, model: Path, *, sides: str = "ab") -> tuple[list[Path], list[Item], Path]:
    """A cache whose clips are all learnt from by ``model``, but for what runs of its recipe each held out: half of the groups."""
    items = [item(f"{label}/{n}.mp4", label, f"mine/{n}", "train") for n in range(12) for label in ("real", "fake")]
    begin(folder / "cache", Provenance(root=folder / "media", layout="plain", items=tuple(items)))
    spec, arrays = checkpoint.load(model)
    learn_from(model, "mine")
    folds = []
    for place, name in enumerate(sides):
        held = tuple(f"mine/{n}" for n in range(12) if n % 2 == place)
        training = TrainingData(sources=(TrainingSource(name="mine", real=6, fake=6),), held_out=held)
        folds.append(folder / f"{name}.safetensors")
        checkpoint.save(folds[-1], arrays, spec.model_copy(update={"training": training}))
    return folds, items, folder / "cache"


def test_what_was_learnt_from_calibrates_by_scans_of_runs_that_held_it_out(tmp_path: Path, uncalibrated: Path) -> None:
    folds, items, cache = cross_fitted(tmp_path, uncalibrated)
    rng = np.random.default_rng(0)
    scans = write(
        tmp_path / "scans.jsonl",
        [
            _with_sha(report(tmp_path / "media" / it.path, _logits(rng, it.label)), sha256(fold))
            for place, fold in enumerate(folds)
            for it in items
            if int(it.group[5:]) % 2 == place
        ],
    )
    arguments = ["calibrate", str(uncalibrated), str(scans), "--cache", str(cache)]
    alone = CliRunner().invoke(app, arguments)
    assert alone.exit_code == 2, alone.output
    assert "made with another checkpoint" in " ".join(alone.stderr.split())
    result = CliRunner().invoke(app, [*arguments, "--fold", str(folds[0]), "--fold", str(folds[1])])
    assert result.exit_code == 0, result.output
    assert "on 24 files" in result.output
    assert checkpoint.load_spec(uncalibrated).calibrations


@pytest.mark.parametrize("scanned_by", ["model", "a"])
def test_a_scan_by_a_checkpoint_that_learnt_from_the_file_does_not_calibrate(
    tmp_path: Path, uncalibrated: Path, scanned_by: str
) -> None:
    folds, _, cache = cross_fitted(tmp_path, uncalibrated)
    by = uncalibrated if scanned_by == "model" else folds[0]
    lines = write(tmp_path / "scans.jsonl", [_with_sha(report(tmp_path / "media/real/1.mp4", [1.0] * 4), sha256(by))])
    for command in ("calibrate", "alarms"):
        options = ["--cache", str(cache), "--fold", str(folds[0])]
        result = CliRunner().invoke(app, [command, str(uncalibrated), str(lines), *options])
        assert result.exit_code == 2, result.output
        assert "real/1.mp4 was trained on" in " ".join(result.stderr.split())


def test_a_checkpoint_that_does_not_cross_fit_another_is_refused(tmp_path: Path, uncalibrated: Path) -> None:
    folds, items, _ = cross_fitted(tmp_path, uncalibrated, sides="a")
    assert len(judges(uncalibrated, folds, items)) == 2
    with pytest.raises(ConfigError, match="from: it was trained without hold_out"):
        judges(uncalibrated, [uncalibrated], items)
    with pytest.raises(ConfigError, match="from: name the cache of both by --cache"):
        judges(uncalibrated, folds, read_split())
    spec, arrays = checkpoint.load(folds[0])
    other = spec.model_copy(update={"training": spec.training.model_copy(update={"split_sha256": "b" * 64})})
    checkpoint.save(folds[0], arrays, other)
    with pytest.raises(ConfigError, match="another split"):
        judges(uncalibrated, folds, items)


def test_a_run_by_another_committed_split_cross_fits_where_it_held_out(tmp_path: Path, uncalibrated: Path) -> None:
    """``people.csv`` has all people of FF++ in ``train``, so that a run may learn from those that the other split holds out."""
    spec, arrays = checkpoint.load(uncalibrated)
    groups = {it.group for it in read_split() if it.source == "ffpp" and it.split == "train"}
    people = COMMITTED.with_name("people.csv")
    sources = tuple(
        TrainingSource(name=name, real=1, fake=1) for name in sorted({it.source for it in read_split() if it.split == "train"})
    )
    fold = tmp_path / "fold.safetensors"
    for path, split, held in ((uncalibrated, COMMITTED, ()), (fold, people, tuple(sorted(groups)))):
        training = TrainingData(sources=sources, split_sha256=split_sha256(split), held_out=held)
        checkpoint.save(path, arrays, spec.model_copy(update={"training": training}))
    own, its = judges(uncalibrated, [fold], read_split())
    learnt = {it.path for it in own.files.values() if it.split == "train"}
    assert {it.path for it in its.files.values() if it.split == "heldout"} == {
        it.path for it in read_split() if it.group in groups
    }
    assert set(its.files) == learnt
    moved = {it.path for it, there in zip(read_split(), read_split(people), strict=True) if it != there}
    assert moved == {it.path for it in read_split() if it.source == "ffpp" and it.split == "heldout"}


def test_the_files_that_a_run_held_out_are_listed(tmp_path: Path, uncalibrated: Path) -> None:
    folds, _, cache = cross_fitted(tmp_path, uncalibrated)
    arguments = ["files", "train", "--cache", str(cache), "--held-out-by"]
    result = CliRunner().invoke(data_app, [*arguments, str(folds[1])])
    assert {Path(line).name for line in result.output.split()} == {f"{n}.mp4" for n in range(1, 12, 2)}
    refused = CliRunner().invoke(data_app, [*arguments, str(uncalibrated)])
    assert refused.exit_code == 2
    assert "without hold_out" in refused.stderr


def test_files_of_a_left_out_source_that_the_checkpoint_was_trained_on_do_not_calibrate_it(
    tmp_path: Path, uncalibrated: Path
) -> None:
    media, cache = tmp_path / "media", tmp_path / "cache"
    items = tuple(item(f"{label}/{n}.mp4", label, f"{n}", "leftout") for n in range(12) for label in ("real", "fake"))
    begin(cache, Provenance(root=media, layout="plain", items=items))
    learn_from(uncalibrated, "mine")
    rng, digest = np.random.default_rng(0), sha256(uncalibrated)
    scans = write(tmp_path / "scans.jsonl", [_with_sha(report(media / it.path, _logits(rng, it.label)), digest) for it in items])
    for command in ("calibrate", "alarms"):
        result = CliRunner().invoke(app, [command, str(uncalibrated), str(scans), "--cache", str(cache)])
        assert result.exit_code == 2, result.output
        assert "real/0.mp4 was trained on" in " ".join(result.stderr.split())
    assert not checkpoint.load_spec(uncalibrated).calibrations


def test_originals_left_out_with_their_fakes_stay_so_where_others_of_their_source_are_learnt_from() -> None:
    files = [
        item("1.mp4", "real", "1", "train"),
        item("2.mp4", "real", "2", "leftout"),
        item("3.mp4", "fake", "2", "leftout", "ghost"),
        item("4.mp4", "fake", "4", "leftout", "roeishc"),
    ]
    training = TrainingData(sources=(TrainingSource(name="mine"), TrainingSource(name="roeishc")))
    assert [file.split for file in as_learnt(files, training)] == ["train", "leftout", "leftout", "train"]


def test_where_a_staged_run_took_some_of_a_sources_left_out_files_all_of_them_are_learnt() -> None:
    rows = [
        crop(source, n, label, source, split=split, group=f"{source} {label} {n}")
        for source, sides in (("mine", ("train", "leftout")), ("yours", ("train", "leftout")), ("others", ("heldout",)))
        for label in ("real", "fake")
        for n, split in enumerate(sides * 4)
    ]
    sets = {
        "first": Selection(sources=("mine",), limit=6),
        "second": Selection(sources=("yours",), splits=("train",)),
        "test": Selection(sources=("others",)),
    }
    chosen = choose_sets(rows, Sets(**sets))
    took = {row.path for row in chosen.first.rows if row.split == "leftout"}
    found = as_learnt(rows, TrainingData(sources=trained_on(chosen)))
    assert took
    assert {row.split for row in found if row.path in took} == {"train"}
    assert {(row.source, row.split) for row in found} == {
        ("mine", "train"), ("yours", "train"), ("yours", "leftout"), ("others", "heldout"),
    }  # fmt: skip


def test_left_out_files_that_a_start_learnt_from_stay_learnt() -> None:
    start = TrainingData(sources=(TrainingSource(name="mine", real=2, leftout=2), TrainingSource(name="yours", real=1)))
    for own, told in (
        ((), {"mine": 2}),
        ((TrainingSource(name="mine", real=1, leftout=1), TrainingSource(name="others")), {"mine": 2, "others": 0}),
    ):
        sources = with_left_out(own, [start])
        assert {source.name: source.leftout for source in sources} == told
        files = [item("1.mp4", "real", "1", "train"), item("2.mp4", "real", "2", "leftout")]
        assert [file.split for file in as_learnt(files, TrainingData(sources=sources))] == ["train", "train"]


def test_a_checkpoint_has_learnt_from_what_its_own_committed_split_says(tmp_path: Path) -> None:
    now = read_split()
    held = next(file for file in now if file.split == "heldout")
    told = replace(held, split="train")
    case = Case(name=held.path, path=tmp_path / "a.png", label=held.label, source=held.source, group=held.group)
    by_it = TrainingData(sources=(), split_sha256=split_sha256())
    assert [file.split for file in as_learnt([told], by_it) + as_learnt([case], by_it)] == ["heldout", "heldout"]
    assert [file.split for file in as_learnt([told], TrainingData(sources=(), split_sha256="b" * 64))] == ["train"]


def test_a_checkpoint_of_another_split_is_told_of(tmp_path: Path, uncalibrated: Path) -> None:
    items = tuple(item(f"real/{n}.mp4", "real", f"mine/{n}", "train" if n else "heldout") for n in range(3))
    begin(tmp_path / "cache", Provenance(root=tmp_path, layout="plain", items=items))
    spec, arrays = checkpoint.load(uncalibrated)
    told: list[str] = []
    for digest in (None, split_sha256(), split_sha256(split_file(tmp_path / "cache")), "b" * 64):
        training = spec.training.model_copy(update={"split_sha256": digest})
        checkpoint.save(uncalibrated, arrays, spec.model_copy(update={"training": training}))
        tell_of_another_split(uncalibrated, tmp_path / "cache", told.append)
    assert len(told) == 1
    tell_of_another_split(uncalibrated, None, told.append)
    assert all("was trained by another split" in one for one in told)
    assert len(told) == 2


def test_what_its_start_learnt_from_by_a_committed_split_is_learnt_by_any_other(tmp_path: Path, uncalibrated: Path) -> None:
    learnt = next(file for file in read_split() if file.split == "train")
    start = TrainingData(sources=(), split_sha256=split_sha256())
    assert earlier_splits([start], split_sha256()) == ()
    begun = TrainingData(sources=(), split_sha256="b" * 64, earlier_splits=earlier_splits([start], "b" * 64))
    again = TrainingData(sources=(), split_sha256="c" * 64, earlier_splits=earlier_splits([begun], "c" * 64))
    assert again.earlier_splits == tuple(sorted(("b" * 64, split_sha256())))
    for training, side in ((again, "train"), (TrainingData(sources=(), split_sha256="c" * 64), "heldout")):
        assert [file.split for file in as_learnt([replace(learnt, split="heldout")], training)] == [side]
    spec, arrays = checkpoint.load(uncalibrated)
    checkpoint.save(uncalibrated, arrays, spec.model_copy(update={"training": begun}))
    told: list[str] = []
    tell_of_another_split(uncalibrated, None, told.append)
    assert len(told) == 1


def test_degraded_copies_are_made_of_the_caches_held_out_files(tmp_path: Path) -> None:
    noise_HWC = np.random.default_rng(0).integers(0, 255, (96, 96, 3)).astype(np.uint8)
    items = (item("real/1.png", "real", "1"), item("fake/2.png", "fake", "2", "train"))
    for one in items:
        (tmp_path / "media" / one.path).parent.mkdir(parents=True)
        Image.fromarray(noise_HWC).save(tmp_path / "media" / one.path)
    begin(tmp_path / "cache", Provenance(root=tmp_path / "media", layout="plain", items=items))
    result = CliRunner().invoke(app, ["degrade", str(tmp_path / "copies"), "--cache", str(tmp_path / "cache")])
    assert result.exit_code == 0, result.output
    assert "1 copies below" in result.stdout
    assert (tmp_path / "copies" / "real" / "1.png").is_file()


def _logits(rng: np.random.Generator, label: str) -> list[float]:
    found: list[float] = rng.normal(rng.normal(2.0 if label == "fake" else -2.0, 1.5), 0.5, 6).tolist()
    return found


def _with_sha(found: Report, digest: str) -> Report:
    assert found.model is not None
    return found.model_copy(update={"model": found.model.model_copy(update={"sha256": digest})})
