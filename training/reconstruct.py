"""Fakes of whole pictures: real ones through small autoencoders (TAESD, TAESDXL, TAESD3), at the original's own JPEG quality.

They carry the traces that the decoders of Stable Diffusion 1, XL and 3 leave, and nothing else tells them from their originals:
same content, same box, same quantisation tables and chroma subsampling (DDA, NeurIPS 2025). Weights: Ollin Boer Bohan, MIT;
training material only. Axes: N pictures, H rows, W columns, C channels.
"""

from __future__ import annotations

import io
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, JpegImagePlugin
from rich.progress import Progress
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from training.clips import read_picture
from training.prepare import RECONSTRUCTED, WIDE_MARGIN, Crop, Finder, cut, read_index, write_shard
from training.splits import is_clip
from worker.errors import ConfigError, CorruptMedia, VeriframeError
from worker.faces.detect import MtcnnDetector
from worker.types import Float32, UInt8

NETS = ("taesd", "taesdxl", "taesd3")
IN_SHARD = 30
_WIDTH, _DOWN = 64, 8


class _Residual(nn.Module):
    """``relu(x + three 3x3 convolutions of x)``; shape kept."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(_conv(), nn.ReLU(), _conv(), nn.ReLU(), _conv())

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return torch.relu(x_NCHW + self.conv(x_NCHW))


class _Bound(nn.Module):
    """Latents softly held to (-3, 3)."""

    def forward(self, latent_NCHW: Tensor) -> Tensor:
        return 3 * torch.tanh(latent_NCHW / 3)


def _conv(inputs: int = _WIDTH, outputs: int = _WIDTH, *, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=bias)


def encoder(latents: int) -> nn.Sequential:
    """RGB in [0, 1] -> latents, 8x smaller: three halvings, three residual blocks after each."""
    layers: list[nn.Module] = [_conv(3), _Residual()]
    for _ in range(3):
        layers += [_conv(stride=2, bias=False), *(_Residual() for _ in range(3))]
    return nn.Sequential(*layers, _conv(outputs=latents))


def decoder(latents: int) -> nn.Sequential:
    """Latents -> RGB about [0, 1], 8x larger: three doublings by nearest neighbour, three residual blocks before each."""
    layers: list[nn.Module] = [_Bound(), _conv(latents), nn.ReLU()]
    for _ in range(3):
        layers += [*(_Residual() for _ in range(3)), nn.Upsample(scale_factor=2), _conv(bias=False)]
    return nn.Sequential(*layers, _Residual(), _conv(outputs=3))


class Autoencoder:
    """One encoder and its decoder, float32, CPU. Raises ConfigError where the files are absent or do not fit."""

    def __init__(self, init: Path, net: str) -> None:
        self.net = net
        weights_in, weights_out = (_weights(init / f"{net}_{part}.safetensors") for part in ("encoder", "decoder"))
        latents = weights_out["1.weight"].shape[1]
        self._encoder, self._decoder = encoder(latents).eval(), decoder(latents).eval()
        try:
            self._encoder.load_state_dict(weights_in)
            self._decoder.load_state_dict(weights_out)
        except RuntimeError as exc:
            raise ConfigError(f"{init}: {net} is of another architecture: {exc}") from exc

    @torch.inference_mode()
    def reconstruct(self, rgb_NHWC: UInt8) -> UInt8:
        """uint8 [N, H, W, 3] of any size -> the same shape, encoded and decoded; padded to multiples of 8 by the edge."""
        height, width = rgb_NHWC.shape[1:3]
        unit_NCHW = torch.from_numpy(rgb_NHWC).permute(0, 3, 1, 2).float() / 255
        padded = nn.functional.pad(unit_NCHW, (0, -width % _DOWN, 0, -height % _DOWN), mode="replicate")
        out_NCHW = self._decoder(self._encoder(padded))[..., :height, :width]
        levels_NHWC = (out_NCHW.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
        return np.ascontiguousarray(levels_NHWC.numpy())


def _weights(path: Path) -> dict[str, Tensor]:
    try:
        return {name: value.float() for name, value in load_file(path).items()}
    except (OSError, SafetensorError) as exc:
        raise ConfigError(f"{path}: no weights of a small autoencoder: {exc}") from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class Compression:
    """How a JPEG was compressed: quantisation tables, Pillow's number of the chroma subsampling, and RGB or L (gray)."""

    tables: Mapping[int, list[int]]
    sampling: int
    mode: str


def compression_of(original: Path) -> Compression:
    """Raises CorruptMedia where the original is no gray or YCbCr JPEG of a known subsampling."""
    try:
        with Image.open(original) as picture:
            if not isinstance(picture, JpegImagePlugin.JpegImageFile) or picture.mode not in ("RGB", "L"):
                raise CorruptMedia(f"{original}: {picture.format} {picture.mode}, needs a gray or YCbCr JPEG")
            found = Compression(tables=picture.quantization, sampling=JpegImagePlugin.get_sampling(picture), mode=picture.mode)
    except OSError as exc:  # also formats that Pillow does not know
        raise CorruptMedia(f"{original}: needs a gray or YCbCr JPEG: {exc}") from exc
    if found.mode == "RGB" and found.sampling < 0:
        raise CorruptMedia(f"{original}: an unusual chroma subsampling")
    return found


def encode_like(rgb_HWC: UInt8, original: Path) -> bytes:
    """A JPEG of ``rgb_HWC`` with the quantisation tables, chroma subsampling and grayness of ``original``.

    Raises CorruptMedia where it has none (``compression_of``).
    """
    how = compression_of(original)
    file = io.BytesIO()
    Image.fromarray(rgb_HWC).convert(how.mode).save(file, "JPEG", qtables=how.tables, subsampling=max(how.sampling, 0))
    return file.getvalue()


def recompressed(rgb_HWC: UInt8, original: Path) -> UInt8:
    """``rgb_HWC`` after the original's own compression, decoded; see ``encode_like``."""
    with Image.open(io.BytesIO(encode_like(rgb_HWC, original))) as picture:
        return np.array(picture.convert("RGB"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """Crops written, and parents left out by reason."""

    crops: int
    left_out: Counter[str]

    def __str__(self) -> str:
        if not self.left_out:
            return f"{self.crops} crops"
        missing, reasons = self.left_out.total(), ", ".join(f"{count} {why}" for why, count in self.left_out.items())
        return f"{self.crops} crops, {missing} of {self.crops + missing} left out ({reasons})"


def add_reconstructions(
    cache: Path,
    data: Path,
    init: Path,
    per_source: Mapping[str, int],
    nets: Sequence[str] = NETS,
    *,
    threads: int = 2,
) -> Added:
    """Shards ``taesd-<source>-<start>`` until each source has that many pictures, nets taking turns.

    Parents are real training pictures of the cache, in a fixed order, so a second call only adds what is
    missing. A fake's ``target`` is its parent's path, its box the parent's. ``init`` holds ``<net>_encoder.safetensors`` and
    ``<net>_decoder.safetensors``. Left out are parents that cannot be read, are no JPEG, show no face, or whose cached crop
    cannot be cut again, bit for bit (another box). Raises ConfigError for a source without such pictures.
    """
    torch.set_num_threads(threads)
    plan = _plan(read_index(cache), per_source)
    autoencoders = [Autoencoder(init, net) for net in nets]
    written, left_out = 0, Counter[str]()
    with MtcnnDetector(threads=threads) as detector, Progress() as progress:
        finder = Finder(detector)
        bar = progress.add_task("reconstructions", total=sum(len(parents) for _, parents in plan))
        for shard, parents in plan:
            pairs: list[tuple[UInt8, Crop]] = []
            for turn, autoencoder in enumerate(autoencoders):
                mine, without = _parents(parents[turn :: len(autoencoders)], cache, data, finder)
                left_out += without
                progress.advance(bar, without.total())
                for pair in _pairs(mine, shard, data, autoencoder):
                    pairs.append(pair)
                    progress.advance(bar)
            if pairs:
                write_shard(cache, shard, pairs)
            written += len(pairs)
    return Added(crops=written, left_out=left_out)


def _plan(rows: Sequence[Crop], per_source: Mapping[str, int]) -> list[tuple[str, list[Crop]]]:
    """Names of the shards that are missing and their parents, the sources taking turns."""
    taken = {row.shard for row in rows}
    done = {row.target for row in rows if row.source == RECONSTRUCTED}
    shards: list[tuple[int, str, list[Crop]]] = []
    for source, count in per_source.items():
        reals = [row for row in rows if (row.source, row.label, row.split) == (source, "real", "train") and not is_clip(row.path)]
        if not reals:
            raise ConfigError(f"the cache has no real training pictures of {source}")
        order = np.random.default_rng(0).permutation(len(reals))[:count]
        todo = [reals[n] for n in order if reals[n].path not in done]
        names = (name for n in itertools.count() if (name := f"{RECONSTRUCTED}-{source}-{n * IN_SHARD:05d}") not in taken)
        starts = range(0, len(todo), IN_SHARD)
        shards += [(start, name, todo[start : start + IN_SHARD]) for start, name in zip(starts, names, strict=False)]
    return [(name, parents) for _, name, parents in sorted(shards, key=lambda shard: shard[0])]


def _parents(rows: Sequence[Crop], cache: Path, data: Path, finder: Finder) -> tuple[list[_Parent], Counter[str]]:
    """Those of the rows whose picture can be made anew, and how many cannot, by reason."""
    found: list[_Parent] = []
    left_out = Counter[str]()
    for row in rows:
        try:
            rgb_HWC = read_picture(data / row.path)
        except (VeriframeError, OSError):
            left_out["cannot be read"] += 1
            continue
        try:
            compression_of(data / row.path)
        except CorruptMedia:
            left_out["no JPEG"] += 1
            continue
        face = finder.find([rgb_HWC])[0]
        if face is None:
            left_out["no face"] += 1
            continue
        cached_HWC = np.load(cache / f"{row.shard}.npy", mmap_mode="r")[row.row]
        parent = _Parent(row=row, rgb_HWC=rgb_HWC, box_4=face.box_4, landmarks_K2=face.landmarks_K2, crop_px=len(cached_HWC))
        if np.array_equal(parent.cut(rgb_HWC), cached_HWC):
            found.append(parent)
        else:
            left_out["cut otherwise now"] += 1
    return found, left_out


def _pairs(parents: Sequence[_Parent], shard: str, data: Path, autoencoder: Autoencoder) -> Iterator[tuple[UInt8, Crop]]:
    by_size: dict[tuple[int, ...], list[_Parent]] = defaultdict(list)
    for parent in parents:
        by_size[parent.rgb_HWC.shape].append(parent)
    for members in by_size.values():
        for start in range(0, len(members), 5):
            some = members[start : start + 5]
            remade_NHWC = autoencoder.reconstruct(np.stack([parent.rgb_HWC for parent in some]))
            for parent, remade_HWC in zip(some, remade_NHWC, strict=True):
                fake_HWC = recompressed(remade_HWC, data / parent.row.path)
                yield parent.cut(fake_HWC), _fake_row(parent.row, shard, autoencoder.net)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Parent:
    """A whole real picture and its face, in the picture's pixels."""

    row: Crop
    rgb_HWC: UInt8
    box_4: Float32
    landmarks_K2: Float32
    crop_px: int

    def cut(self, rgb_HWC: UInt8) -> UInt8:
        return cut(rgb_HWC, self.box_4, self.landmarks_K2, margin=WIDE_MARGIN, size=self.crop_px)[0]


def _fake_row(parent: Crop, shard: str, net: str) -> Crop:
    return replace(
        parent,
        shard=shard,
        row=-1,
        path=f"{parent.path}#{net}",
        label="fake",
        source=RECONSTRUCTED,
        manipulation=net,
        target=parent.path,
    )
