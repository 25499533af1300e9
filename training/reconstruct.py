"""Fakes of whole pictures: real ones through small autoencoders (TAESD, TAESDXL, TAESD3), at the original's own JPEG quality.

They carry the traces that the decoders of Stable Diffusion 1, XL and 3 leave, and nothing else tells them from their originals:
same content, same box, same quantisation tables and chroma subsampling (DDA, NeurIPS 2025). Weights: Ollin Boer Bohan, MIT;
training material only. Axes: N pictures, H rows, W columns, C channels.
"""

from __future__ import annotations

import io
import itertools
from collections import defaultdict
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
from training.prepare import RECONSTRUCTED, SIZE, WIDE_MARGIN, Crop, Finder, cut, read_index, write_shard
from worker.errors import ConfigError, CorruptMedia
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


def encode_like(rgb_HWC: UInt8, original: Path) -> bytes:
    """A JPEG of ``rgb_HWC`` with the quantisation tables, chroma subsampling and grayness of ``original``.

    Raises CorruptMedia where the original is no gray or YCbCr JPEG of a known subsampling.
    """
    with Image.open(original) as picture:
        if not isinstance(picture, JpegImagePlugin.JpegImageFile) or picture.mode not in ("RGB", "L"):
            raise CorruptMedia(f"{original}: {picture.format} {picture.mode}, needs a gray or YCbCr JPEG")
        tables, mode = picture.quantization, picture.mode
        sampling = JpegImagePlugin.get_sampling(picture)
    if mode == "RGB" and sampling < 0:
        raise CorruptMedia(f"{original}: an unusual chroma subsampling")
    file = io.BytesIO()
    Image.fromarray(rgb_HWC).convert(mode).save(file, "JPEG", qtables=tables, subsampling=max(sampling, 0))
    return file.getvalue()


def recompressed(rgb_HWC: UInt8, original: Path) -> UInt8:
    """``rgb_HWC`` after the original's own compression, decoded; see ``encode_like``."""
    with Image.open(io.BytesIO(encode_like(rgb_HWC, original))) as picture:
        return np.array(picture.convert("RGB"))


def add_reconstructions(
    cache: Path,
    data: Path,
    init: Path,
    per_source: Mapping[str, int],
    nets: Sequence[str] = NETS,
    *,
    seed: int = 0,
    threads: int = 2,
) -> int:
    """Shards ``taesd-<source>-<start>`` until each source has that many pictures, nets taking turns; returns the crops written.

    Parents are training reals of the cache, in an order that follows from ``seed``, so a second call only adds what is missing.
    A fake's ``target`` is its parent's path, its box the parent's. ``init`` holds ``<net>_encoder.safetensors`` and
    ``<net>_decoder.safetensors``. Parents whose cached crop cannot be cut again, bit for bit (another box), are left out.
    """
    torch.set_num_threads(threads)
    plan = _plan(read_index(cache), per_source, seed)
    autoencoders = [Autoencoder(init, net) for net in nets]
    written = 0
    with MtcnnDetector(threads=threads) as detector, Progress() as progress:
        finder = Finder(detector)
        bar = progress.add_task("reconstructions", total=sum(len(parents) for _, parents in plan))
        for shard, parents in plan:
            pairs: list[tuple[UInt8, Crop]] = []
            for turn, autoencoder in enumerate(autoencoders):
                for pair in _pairs(parents[turn :: len(autoencoders)], shard, cache, data, finder, autoencoder):
                    pairs.append(pair)
                    progress.advance(bar)
            if pairs:
                write_shard(cache, shard, pairs)
            written += len(pairs)
    return written


def _plan(rows: Sequence[Crop], per_source: Mapping[str, int], seed: int) -> list[tuple[str, list[Crop]]]:
    """Names of the shards that are missing and their parents, the sources taking turns."""
    taken = {row.shard for row in rows}
    done = {row.target for row in rows if row.source == RECONSTRUCTED}
    shards: list[tuple[int, str, list[Crop]]] = []
    for source, count in per_source.items():
        reals = [row for row in rows if (row.source, row.label, row.split) == (source, "real", "train")]
        order = np.random.default_rng(seed).permutation(len(reals))[:count]
        todo = [reals[n] for n in order if reals[n].path not in done]
        names = (name for n in itertools.count() if (name := f"{RECONSTRUCTED}-{source}-{n * IN_SHARD:05d}") not in taken)
        starts = range(0, len(todo), IN_SHARD)
        shards += [(start, name, todo[start : start + IN_SHARD]) for start, name in zip(starts, names, strict=False)]
    return [(name, parents) for _, name, parents in sorted(shards, key=lambda shard: shard[0])]


def _pairs(
    parents: Sequence[Crop], shard: str, cache: Path, data: Path, finder: Finder, autoencoder: Autoencoder
) -> Iterator[tuple[UInt8, Crop]]:
    by_size: dict[tuple[int, ...], list[_Parent]] = defaultdict(list)
    for row in parents:
        rgb_HWC = read_picture(data / row.path)
        face = finder.find([rgb_HWC])[0]
        if face is None:
            continue
        parent = _Parent(row=row, rgb_HWC=rgb_HWC, box_4=face.box_4, landmarks_K2=face.landmarks_K2)
        cached_HWC = np.load(cache / f"{row.shard}.npy", mmap_mode="r")[row.row]
        if np.array_equal(parent.cut(rgb_HWC), cached_HWC):
            by_size[rgb_HWC.shape].append(parent)
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

    def cut(self, rgb_HWC: UInt8) -> UInt8:
        return cut(rgb_HWC, self.box_4, self.landmarks_K2, margin=WIDE_MARGIN, size=SIZE)[0]


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
