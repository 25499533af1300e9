"""``veriframe data``, from a folder to a cache and its checks; media are the package's demo clips and pictures cut from them."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from training.clips import open_frames, read_clip
from training.commands.data import app
from training.data import CropStore, PairSampler
from training.leaks import by_name
from training.prepare import WIDE_MARGIN, read_index
from training.provenance import crop_px_of, read, read_skipped
from training.settings import read_fit
from worker.demo import FOLDER


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain folder: a clip and a fake of its name, a picture of each, a broken file and a picture without a face."""
    root = tmp_path_factory.mktemp("media") / "mine"
    for label, clip in (("real", "untouched.mp4"), ("fake", "swapped.mp4")):
        (root / label).mkdir(parents=True)
        shutil.copy(FOLDER / clip, root / label / "clip.mp4")
        with open_frames() as source:
            (rgb_HWC,) = read_clip(source, FOLDER / clip, 1).values()
        Image.fromarray(rgb_HWC[60:420, 100:540]).save(root / label / "clip.png")
    (root / "fake" / "broken.mp4").write_bytes((FOLDER / "untouched.mp4").read_bytes()[:2000])
    Image.new("RGB", (80, 80), "green").save(root / "real" / "empty.png")
    return root


@pytest.fixture(scope="module")
def prepared(media: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    cache = tmp_path_factory.mktemp("prepared") / "cache"
    return cache, prepare(media, cache)


def prepare(media: Path, cache: Path, *options: str) -> Result:
    told = ["--train-frames", 2, "--test-frames", 2, "--threads", 1, "--held-out", 0.3]
    return run("prepare", media, "--cache", cache, *told, *options)


def test_prepare_tells_what_it_recognised_and_what_it_skipped(prepared: tuple[Path, Result], media: Path) -> None:
    cache, result = prepared
    assert result.exit_code == 0, result.output
    assert "layout plain, 6 files" in result.stderr
    made_of = read(cache)
    assert made_of is not None
    sides = Counter((item.split, item.label) for item in made_of.items)
    for side in ("train", "heldout"):
        assert f"{side}: {sides[side, 'real']} real, {sides[side, 'fake']} fake" in result.stderr
    assert "6 files, skipped: 1 x corrupt, 1 x no_face" in result.stdout
    assert {(one.code, one.path) for one in read_skipped(cache)} == {
        ("corrupt", "fake/broken.mp4"),
        ("no_face", "real/empty.png"),
    }
    assert (made_of.root, len(made_of.items)) == (media.resolve(), 6)


def test_a_fake_is_cut_where_its_original_is(prepared: tuple[Path, Result]) -> None:
    rows = read_index(prepared[0])
    for name, frames in (("clip.mp4", 2), ("clip.png", 1)):
        real, fake = ({row.frame: row for row in rows if row.path == f"{label}/{name}"} for label in ("real", "fake"))
        assert len(real) == frames
        assert {frame: row.box for frame, row in real.items()} == {frame: row.box for frame, row in fake.items()}
        assert {row.target for row in (*real.values(), *fake.values())} == {real[min(real)].target} != {""}
    assert {row.its_family for row in rows} == {"real", "manipulation"}


def test_splits_keep_groups_and_both_sides_have_files(prepared: tuple[Path, Result]) -> None:
    made_of = read(prepared[0])
    assert made_of is not None
    assert by_name(made_of.items) == []
    assert {item.split for item in made_of.items} == {"train", "heldout"}


def test_a_cut_run_goes_on_where_it_was(prepared: tuple[Path, Result], media: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(prepared[0], cache)
    kept, *lost = sorted(cache.glob("*.csv"))
    for path in lost:
        path.unlink()
    before = kept.stat().st_mtime_ns
    assert prepare(media, cache).exit_code == 0
    assert kept.stat().st_mtime_ns == before
    assert read_index(cache) == read_index(prepared[0])
    assert read_skipped(cache) == read_skipped(prepared[0])


def test_crops_are_cached_as_large_as_is_wanted(media: Path, tmp_path: Path) -> None:
    assert prepare(media, tmp_path, "--crop-px", "400").exit_code == 0
    store = CropStore(tmp_path)
    assert {store.picture(row).shape for row in store.rows} == {(400, 400, 3)}
    assert all(max(row.box[2:]) <= 400 for row in store.rows)
    assert max(row.box[2] - row.box[0] for row in store.rows) > 288 / WIDE_MARGIN
    assert crop_px_of(tmp_path) == 400


def test_shards_that_a_version_without_crop_px_has_added_are_named(
    prepared: tuple[Path, Result], media: Path, tmp_path: Path
) -> None:
    shutil.copytree(prepared[0], tmp_path / "cache")
    shard = next((tmp_path / "cache").glob("*.npy"))
    np.save(shard, np.zeros((2, 200, 200, 3), np.uint8))
    result = prepare(media, tmp_path / "cache")
    assert (result.exit_code, f"not of 288 px ({shard.name})" in " ".join(result.stderr.split())) == (2, True)


@pytest.mark.parametrize("kept", [0, 200])
def test_a_damaged_shard_is_named_where_a_cache_is_gone_on_with(
    prepared: tuple[Path, Result], media: Path, tmp_path: Path, kept: int
) -> None:
    shutil.copytree(prepared[0], tmp_path / "cache")
    shard = next((tmp_path / "cache").glob("*.npy"))
    shard.write_bytes(shard.read_bytes()[:kept])
    result = prepare(media, tmp_path / "cache")
    assert (result.exit_code, f"{shard.name} is damaged" in " ".join(result.stderr.split())) == (2, True)


def test_a_cache_of_other_files_is_not_mixed_up(prepared: tuple[Path, Result], media: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    shutil.copy(media / "real" / "clip.png", tmp_path / "real")
    result = prepare(tmp_path, prepared[0])
    assert result.exit_code == 2
    assert "made of other files" in result.stderr


@pytest.mark.parametrize("option", [["--train-frames", "3"], ["--test-frames", "3"], ["--recompress"], ["--crop-px", "400"]])
def test_other_options_are_not_passed_over(prepared: tuple[Path, Result], media: Path, option: list[str]) -> None:
    result = prepare(media, prepared[0], *option)
    assert result.exit_code == 2
    assert f"made with {option[0][2:]}" in result.stderr


def test_files_elsewhere_are_not_taken_for_those_that_were_cut(
    prepared: tuple[Path, Result], media: Path, tmp_path: Path
) -> None:
    shutil.copytree(media, tmp_path / media.name)
    result = prepare(tmp_path / media.name, prepared[0])
    assert result.exit_code == 2
    assert "made with files of" in result.stderr


def test_a_file_that_was_replaced_is_named_and_an_old_cache_still_goes_on(
    prepared: tuple[Path, Result], media: Path, tmp_path: Path
) -> None:
    cache, moved, picture = tmp_path / "cache", tmp_path / "kept.png", media / "real" / "clip.png"
    shutil.copytree(prepared[0], cache)
    shutil.copy2(picture, moved)
    try:
        shutil.copy(media / "real" / "empty.png", picture)
        result = prepare(media, cache)
        assert result.exit_code == 2
        assert "1 files have changed" in result.stderr
        assert "real/clip.png" in result.stderr
        (cache / "about" / "cut.csv").unlink()
        about = cache / "about" / "source.json"
        told = {name: value for name, value in json.loads(about.read_text()).items() if name in ("root", "layout", "files")}
        about.write_text(json.dumps(told))
        assert prepare(media, cache, "--train-frames", "3").exit_code == 0, "what was not noted down is not compared"
        refused = prepare(media, cache, "--crop-px", "400")
        assert (refused.exit_code, "crop-px 288, not 400" in " ".join(refused.stderr.split())) == (2, True)
    finally:
        shutil.copy2(moved, picture)


def test_check_passes_without_leaks_and_finds_those_made(prepared: tuple[Path, Result], tmp_path: Path) -> None:
    assert run("check", "--cache", prepared[0]).exit_code == 0
    cache = tmp_path / "cache"
    shutil.copytree(prepared[0], cache)
    index = next(cache.glob("mine-clip*.csv"))
    with index.open(newline="") as file:
        rows = list(csv.DictReader(file))
    other = {"train": "heldout", "heldout": "train"}[rows[0]["split"]]
    with index.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(row | ({"split": other} if row["label"] == "fake" else {}) for row in rows)
    result = run("check", "--cache", cache)
    assert result.exit_code == 1
    assert "1 x group, 1 x original" in result.stdout
    assert "fake/clip.mp4" in result.stdout


def test_the_same_bytes_on_both_sides_are_refused_before_anything_is_cut(media: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    shutil.copy(media / "real" / "clip.png", tmp_path / "copy.png")
    manifest.write_text(f"path,label,source,part\n{media}/real/clip.png,real,s,train\ncopy.png,real,s,test\n")
    result = run("check", manifest)
    assert result.exit_code == 1
    assert "same bytes" in result.stdout


def test_a_split_that_parts_a_group_is_refused(media: Path, tmp_path: Path) -> None:
    split = tmp_path / "split.csv"
    names = sorted(path.relative_to(media).as_posix() for path in media.rglob("*.*"))
    split.write_text("path,split\n" + "".join(f"{name},{'train' if 'real' in name else 'heldout'}\n" for name in names))
    result = run("prepare", media, "--cache", tmp_path / "cache", "--split", split)
    assert result.exit_code == 1
    assert "group mine/clip" in result.stderr
    assert not (tmp_path / "cache").exists()


def test_list_writes_a_manifest_that_prepare_takes(media: Path, tmp_path: Path) -> None:
    listed = run("list", media)
    assert listed.exit_code == 0
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(listed.stdout)
    again = run("list", manifest)
    assert again.stdout == listed.stdout
    assert "layout manifest, 6 files" in again.stderr


def test_the_recipe_for_own_media_can_train_on_it(prepared: tuple[Path, Result]) -> None:
    mixture = read_fit(Path(__file__).parents[2] / "configs" / "train" / "own-pairs.yaml").mixture
    sampler = PairSampler(CropStore(prepared[0]), mixture, seed=1)
    assert sampler.left_out == ["composite", "synthetic"]
    assert len(set(sampler.batch(0, 8, 32).family_F.tolist())) >= 3


def test_files_of_a_part(prepared: tuple[Path, Result]) -> None:
    made_of = read(prepared[0])
    assert made_of is not None
    result = run("files", "heldout", "--cache", prepared[0])
    expected = [str(made_of.root / item.path) for item in made_of.items if item.split == "heldout"]
    assert result.stdout.splitlines() == expected != []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["files", "everything"], "no such part of the split"),
        (["files", "train", "--cache", "nowhere"], "has no split of its own"),
        (["prepare", "nowhere"], "no such file or folder"),
        (["list", "nowhere"], "no such file or folder"),
        (["check", "--cache", "nowhere"], "holds no crops"),
    ],
)
def test_mistakes_are_told_without_a_traceback(arguments: list[str], told: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert told in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
