"""Reconstructions: the nets fit the published weights, the JPEG's tables stay, and a fake lies on its parent's box."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, JpegImagePlugin
from safetensors.torch import save_file

from tests.training.conftest import crop, picture
from training.clips import open_frames, read_clip, read_picture
from training.prepare import prepare, read_index, write_shard
from training.reconstruct import NETS, Autoencoder, add_reconstructions, decoder, encode_like, encoder, recompressed
from training.splits import Item
from worker.demo import FOLDER
from worker.errors import ConfigError, CorruptMedia
from worker.types import UInt8


@pytest.fixture(scope="session")
def published(shared_data: Path) -> Path:
    folder = shared_data.parent / "init" / "taesd"
    if not folder.is_dir():
        pytest.skip("needs the autoencoders of ../shared/init/taesd, which are not on this machine")
    return folder


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two nets of the right architecture and random weights."""
    folder = tmp_path_factory.mktemp("init")
    torch.manual_seed(0)
    for net, latents in (("taesd", 4), ("taesd3", 16)):
        save_file(encoder(latents).bfloat16().state_dict(), folder / f"{net}_encoder.safetensors")
        save_file(decoder(latents).bfloat16().state_dict(), folder / f"{net}_decoder.safetensors")
    return folder


@pytest.fixture
def real_cache(tmp_path: Path) -> tuple[Path, Path]:
    """(cache, data): three training reals and a held-out one, cached as ``veriframe data prepare --crop-px 320`` does."""
    with open_frames() as source:
        frame = read_clip(source, FOLDER / "untouched.mp4", 1).popitem()[1]
    items = []
    for number, quality in enumerate((60, 75, 90, 90)):
        item = Item(
            path=f"faces/lfw/real/{number}.jpg",
            label="real",
            source="lfw",
            manipulation="",
            group=f"lfw/{number}",
            split="heldout" if number == 3 else "train",
        )
        (tmp_path / item.path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame).resize((160, 120)).save(tmp_path / item.path, quality=quality)
        items.append(item)
    cache = tmp_path / "cache"
    prepare(items, tmp_path, cache, threads=1, crop_px=320)
    return cache, tmp_path


@pytest.mark.parametrize("net", NETS)
def test_a_face_comes_back_much_as_it_was(net: str, published: Path, shared_data: Path) -> None:
    face = read_picture(shared_data / "faces/lfw/real/00000.jpg")[73:177, 73:177]
    made = Autoencoder(published, net).reconstruct(face[None])[0].astype(float)
    psnr_db = 10 * np.log10(255**2 / ((made - face) ** 2).mean())
    assert 24 < psnr_db < 40


@pytest.mark.parametrize("shape", [(2, 24, 40), (1, 27, 17)])
def test_any_size_keeps_its_shape(shape: tuple[int, int, int], untrained: Path) -> None:
    rgb_NHWC = np.random.default_rng(0).integers(0, 255, (*shape, 3)).astype(np.uint8)
    made = Autoencoder(untrained, "taesd").reconstruct(rgb_NHWC)
    assert made.shape == rgb_NHWC.shape
    assert made.dtype == np.uint8


def test_a_picture_does_not_depend_on_its_batch(untrained: Path) -> None:
    net = Autoencoder(untrained, "taesd3")
    both = np.stack([picture(0, 32), picture(1, 32)])
    assert np.abs(net.reconstruct(both)[1].astype(int) - net.reconstruct(both[1:])[0]).max() <= 1


def test_weights_that_are_absent_or_do_not_fit_are_refused(untrained: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="taesdxl"):
        Autoencoder(untrained, "taesdxl")
    save_file({"1.weight": torch.zeros(64, 4, 3, 3)}, tmp_path / "taesd_decoder.safetensors")
    (tmp_path / "taesd_encoder.safetensors").write_bytes((untrained / "taesd_encoder.safetensors").read_bytes())
    with pytest.raises(ConfigError, match="another architecture"):
        Autoencoder(tmp_path, "taesd")


@pytest.mark.parametrize(("mode", "quality", "subsampling"), [("RGB", 35, 0), ("RGB", 71, 1), ("RGB", 95, 2), ("L", 80, 0)])
def test_the_originals_compression_is_kept(mode: str, quality: int, subsampling: int, tmp_path: Path) -> None:
    original = tmp_path / "original.jpg"
    Image.fromarray(picture(0, 48)).convert(mode).save(original, quality=quality, subsampling=subsampling)
    encoded = encode_like(picture(1, 48), original)
    with Image.open(original) as real, Image.open(io.BytesIO(encoded)) as fake:
        assert isinstance(real, JpegImagePlugin.JpegImageFile)
        assert isinstance(fake, JpegImagePlugin.JpegImageFile)
        assert fake.quantization == real.quantization
        assert JpegImagePlugin.get_sampling(fake) == JpegImagePlugin.get_sampling(real)
        assert (fake.mode, fake.size) == (real.mode, real.size)
    assert recompressed(picture(1, 48), original).shape == (48, 48, 3)


def test_other_formats_have_no_jpeg_quality_to_copy(tmp_path: Path) -> None:
    Image.fromarray(picture(0, 32)).save(tmp_path / "original.png")
    with pytest.raises(CorruptMedia, match=r"original\.png"):
        encode_like(picture(1, 32), tmp_path / "original.png")


def _cached(cache: Path, shard: str, row: int) -> UInt8:
    return np.asarray(np.load(cache / f"{shard}.npy")[row], np.uint8)


def test_fakes_are_added_once_on_their_parents_boxes(real_cache: tuple[Path, Path], untrained: Path) -> None:
    cache, data = real_cache
    nets = ("taesd", "taesd3")
    assert add_reconstructions(cache, data, untrained, {"lfw": 2}, nets, threads=1).crops == 2
    assert add_reconstructions(cache, data, untrained, {"lfw": 9}, nets, threads=1).crops == 1
    assert add_reconstructions(cache, data, untrained, {"lfw": 9}, nets, threads=1).crops == 0
    rows = read_index(cache)
    reals = {row.path: row for row in rows if row.label == "real"}
    fakes = [row for row in rows if row.source == "taesd"]
    assert {row.shard for row in fakes} == {"taesd-lfw-00000", "taesd-lfw-00030"}
    assert sorted(row.target for row in fakes) == sorted(path for path, row in reals.items() if row.split == "train")
    for fake in fakes:
        parent = reals[fake.target]
        same = replace(
            parent, shard=fake.shard, row=fake.row, label="fake", source="taesd", path=f"{parent.path}#{fake.manipulation}"
        )
        assert fake == replace(same, manipulation=fake.manipulation, target=parent.path)
        crop = _cached(cache, fake.shard, fake.row)
        assert crop.shape == (320, 320, 3)
        assert not np.array_equal(crop, _cached(cache, parent.shard, parent.row))


def test_a_parent_that_is_cut_otherwise_now_is_left_out(real_cache: tuple[Path, Path], untrained: Path) -> None:
    cache, data = real_cache
    crops = np.load(cache / "lfw-real-00000.npy")
    crops[:, 0, 0] ^= 255
    np.save(cache / "lfw-real-00000.npy", crops)
    assert add_reconstructions(cache, data, untrained, {"lfw": 9}, ("taesd",), threads=1).crops == 0
    assert not list(cache.glob("taesd*"))


def test_pictures_that_are_no_jpeg_are_left_out_and_counted(real_cache: tuple[Path, Path], untrained: Path) -> None:
    cache, data = real_cache
    path = data / "faces/lfw/real/1.jpg"
    Image.fromarray(read_picture(path)).save(path, "PNG")
    added = add_reconstructions(cache, data, untrained, {"lfw": 9}, ("taesd",), threads=1)
    assert str(added) == "2 crops, 1 of 3 left out (1 no JPEG)"
    assert {row.target for row in read_index(cache) if row.source == "taesd"} == {f"faces/lfw/real/{n}.jpg" for n in (0, 2)}


def test_frames_of_clips_are_no_pictures(tmp_path: Path, untrained: Path) -> None:
    write_shard(tmp_path, "clip", [(picture(0), crop("clip", 0, "real", "mine", path="real/a.mp4"))])
    with pytest.raises(ConfigError, match="no real training pictures of mine"):
        add_reconstructions(tmp_path, tmp_path, untrained, {"mine": 1}, ("taesd",), threads=1)
