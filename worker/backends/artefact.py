"""What an exported artefact says about itself, and the checks before anything of it is run.

An artefact is a folder that ``veriframe export`` wrote: ``manifest.json``, one file for each network (the classifier and MTCNN's
three), and ``probe.safetensors``, real crops with the scores that eager float32 gives them. Anything that does not fit the
checkpoint, the machine or the installed library is refused with the command that makes it anew.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as parse_tensors

from worker.content import read_content
from worker.errors import ConfigError, MediaError, ModelError, SourceError
from worker.model.graph import EXPORT_VERSION
from worker.model.packaged import is_bundled
from worker.types import Float32, UInt8

FORMAT: Final = 1
MANIFEST = "manifest.json"
PROBE = "probe.safetensors"
CLASSIFIER = "classifier"
KEPT = "artefacts"
"""Folder in the cache."""
MAX_FILE_BYTES = 8 << 30
MAX_MANIFEST_BYTES = 1 << 20

Kind = Literal["onnx", "openvino", "tensorrt", "tensorrt-rtx", "torch-tensorrt"]
Precision = Literal["fp32", "fp16", "bf16"]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]

GATES: Mapping[Precision, tuple[float, float]] = {"fp32": (1e-3, 1e-3), "fp16": (0.03, 0.003), "bf16": (0.03, 0.003)}
"""By precision: the most that any probability, and that their mean, may differ from eager float32."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TensorSpec(_Part):
    """An input or output; -1 stands for a size that may vary."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class Network(_Part):
    """One network: its file, the types it computes in, what goes in and out, and the input shapes it is made for."""

    file: FileName
    precision: Precision
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    profile: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] | None = None
    """Least, usual and greatest shape of the input; None where any batch goes."""


class StoredFile(_Part):
    sha256: Sha256
    size_bytes: int = Field(ge=0)


class Gpu(_Part):
    """A card by the name that its driver gives; ``compute_capability`` as in "8.9"."""

    name: str
    compute_capability: str


class Parity(_Part):
    """How far a network's probabilities lie from the reference on the probe's pictures; figures are null where it was not run."""

    reference: str
    samples: int = Field(ge=0)
    max_dp: float | None = None
    mean_dp: float | None = None
    reason: str | None = None
    """Why there are no figures."""


class Manifest(_Part):
    """``manifest.json``."""

    format: Literal[1] = FORMAT
    veriframe: str
    kind: Kind
    precision: Precision
    """Of the classifier's backbone; its head, and MTCNN, are float32 always."""
    checkpoint_sha256: Sha256
    model: str
    export_version: int
    created: datetime
    toolchain: dict[str, str]
    gpu: Gpu | None = None
    """The card it was built on, and runs on; None for what runs elsewhere too."""
    targets: tuple[str, ...] = ()
    """Architectures that it was built for without a card."""
    batch: tuple[int, int, int]
    """Least, usual and greatest number of crops at once."""
    networks: dict[str, Network]
    files: dict[FileName, StoredFile]
    parity: dict[str, Parity]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What an artefact must fit: version of the runtime's library, and the card if there is one."""

    library: str
    version: str
    gpu: Gpu | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Real crops and the probability that eager float32 gives each."""

    crops_FHWC: UInt8
    p_F: Float32


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """A folder whose files are those of its manifest."""

    folder: Path
    manifest: Manifest

    def path(self, network: str = CLASSIFIER) -> Path:
        """The file of a network. Raises ModelError where the artefact has none of that name."""
        if network not in self.manifest.networks:
            raise ModelError(f"{self.folder}: holds no network {network!r}; {how_to_make(self.manifest)}")
        return self.folder / self.manifest.networks[network].file

    def probe(self) -> Probe:
        """Raises ModelError where the file is not what an export writes."""
        try:
            arrays = parse_tensors((self.folder / PROBE).read_bytes())
            return Probe(crops_FHWC=arrays["crops"], p_F=arrays["p"])
        except (OSError, SafetensorError, KeyError, ValueError) as exc:
            raise ModelError(f"{self.folder / PROBE}: damaged: {exc}") from exc


def read_artefact(folder: Path) -> Artefact:
    """The artefact in a folder, every file's hash checked. Raises ModelError for a missing, damaged or unknown one."""
    manifest = read_manifest(folder)
    for name, stored in manifest.files.items():
        try:
            found = read_content(folder / name, MAX_FILE_BYTES)
        except (SourceError, MediaError) as exc:
            raise ModelError(f"{folder / name}: {exc}; {how_to_make(manifest)}") from exc
        if (found.sha256, found.size_bytes) != (stored.sha256, stored.size_bytes):
            raise ModelError(f"{folder / name}: not the file that was exported; {how_to_make(manifest)}")
    if unlisted := {PROBE, *(network.file for network in manifest.networks.values())} - manifest.files.keys():
        raise ModelError(f"{folder}: no hash of {', '.join(sorted(unlisted))}; {how_to_make(manifest)}")
    return Artefact(folder=folder, manifest=manifest)


def read_manifest(folder: Path) -> Manifest:
    """The manifest alone: no other file is read. Raises ModelError."""
    path = folder / MANIFEST
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise ModelError(f"{path}: larger than any manifest of ours")
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as exc:
        raise ModelError(f"{folder}: no artefact: {exc.strerror}; make one with `veriframe export`") from exc
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "manifest"
        raise ModelError(f"{path}: {where}: {first['msg']}; make the artefact anew with `veriframe export`") from exc


def kept_artefacts(cache_dir: Path, kind: Kind, checkpoint_sha256: str) -> list[Path]:
    """Folders of the artefacts of a checkpoint that ``veriframe export`` keeps in the cache, newest first; none is opened."""
    return [folder for _, folder in _kept(cache_dir, kind, checkpoint_sha256)]


def kept_marks(cache_dir: Path, kind: Kind, checkpoint_sha256: str) -> list[str]:
    """Name and time of each kept artefact: another one after a new export."""
    return [f"{folder.name}@{made_ns}" for made_ns, folder in _kept(cache_dir, kind, checkpoint_sha256)]


def _kept(cache_dir: Path, kind: Kind, checkpoint_sha256: str) -> list[tuple[int, Path]]:
    found: list[tuple[int, Path]] = []
    for path in (cache_dir / KEPT).glob(f"{kept_prefix(kind, checkpoint_sha256)}*/{MANIFEST}"):
        with contextlib.suppress(OSError):  # just replaced by another export
            found.append((path.stat().st_mtime_ns, path.parent))
    return sorted(found, reverse=True)


def kept_prefix(kind: Kind, checkpoint_sha256: str) -> str:
    """How the name of a kept artefact's folder begins."""
    return f"{kind}-{checkpoint_sha256[:16]}-"


def check_fits(artefact: Artefact, *, checkpoint_sha256: str, machine: Machine) -> None:
    """Raises ModelError unless the artefact is of this checkpoint, and was built by this library for this card."""
    manifest = artefact.manifest
    built_with = manifest.toolchain.get(machine.library)
    for what, theirs, ours in (
        ("checkpoint", manifest.checkpoint_sha256, checkpoint_sha256),
        ("graph version", manifest.export_version, EXPORT_VERSION),
        (machine.library, built_with, machine.version),
    ):
        if theirs != ours:
            remedy = how_to_make(manifest.model_copy(update={"checkpoint_sha256": checkpoint_sha256}))
            raise ModelError(f"{artefact.folder}: made for {what} {theirs}, but here it is {ours}; {remedy}")
    if manifest.gpu is not None and manifest.gpu != machine.gpu:
        raise ModelError(
            f"{artefact.folder}: built on {_told(manifest.gpu)}, but here is {_told(machine.gpu)}; {how_to_make(manifest)}"
        )
    if manifest.targets and machine.gpu is not None and target_of(machine.gpu) not in manifest.targets:
        own = target_of(machine.gpu)
        remedy = how_to_make(manifest.model_copy(update={"targets": (own,)}))
        raise ModelError(
            f"{artefact.folder}: built for {', '.join(manifest.targets)}, but {_told(machine.gpu)} is {own}; {remedy}"
        )


def check_parity(artefact: Artefact, p_F: Float32) -> Parity:
    """Compare the probe's crops as scored here with the reference: the gate. Raises ModelError beyond it."""
    probe = artefact.probe()
    most, mean = GATES[artefact.manifest.precision]
    parity = compare(p_F, probe.p_F)
    if parity.max_dp is None or parity.mean_dp is None or not (parity.max_dp <= most and parity.mean_dp <= mean):
        raise ModelError(
            f"{artefact.folder}: scores differ from eager float32 by up to {parity.max_dp} (mean {parity.mean_dp}), allowed "
            f"{most} (mean {mean}) on {parity.samples} crops; {how_to_make(artefact.manifest)}, or use another backend"
        )
    return parity


def probabilities(logits_F: Float32) -> Float32:
    """p(fake) of each logit, exact at the extremes."""
    return np.asarray(0.5 * (1 + np.tanh(logits_F.astype(np.float64) / 2)), np.float32)


def compare(p_F: Float32, reference_F: Float32, reference: str = "eager fp32") -> Parity:
    """Figures of two rows of probabilities; none where a probability is no number."""
    if p_F.shape != reference_F.shape or not len(p_F) or not np.isfinite(p_F - reference_F).all():
        return Parity(reference=reference, samples=len(reference_F), reason="some of the scores are missing or no numbers")
    dp = np.abs(p_F.astype(np.float64) - reference_F)
    return Parity(reference=reference, samples=len(dp), max_dp=float(dp.max()), mean_dp=float(dp.mean()))


def check_owned(folder: Path) -> None:
    """Raises ConfigError for a link, or a folder that another user owns or may write to."""
    try:
        state = folder.lstat()
    except OSError as exc:
        raise ConfigError(f"cannot use the folder {folder}: {exc.strerror}") from exc
    if folder.is_symlink():
        raise ConfigError(f"the folder {folder} is a link")
    if hasattr(os, "geteuid") and (state.st_uid != os.geteuid() or state.st_mode & 0o022):
        raise ConfigError(f"the folder {folder} belongs to another user, or others may write to it")


def told_as(manifest: Manifest) -> str:
    """What the classifier of an artefact is called: its scores at another precision are others, so a resumed run must see it."""
    return manifest.kind if manifest.precision == "fp32" else f"{manifest.kind}-{manifest.precision}"


def target_of(gpu: Gpu) -> str:
    """ "8.9" -> "SM89"."""
    return "SM" + gpu.compute_capability.replace(".", "")


def how_to_make(manifest: Manifest) -> str:
    """The command that replaces an artefact on this machine, for the checkpoint that its manifest names; ``--rebuild``, since one
    of the same key may be kept and whole."""
    batch = ",".join(str(crops) for crops in manifest.batch)
    target = f" --target {','.join(manifest.targets)}" if manifest.targets else ""
    own, told = ("", "") if is_bundled(manifest.checkpoint_sha256) else (" CHECKPOINT", " with the checkpoint that scans use")
    command = f"veriframe export{own} --to {manifest.kind} --precision {manifest.precision} --batch {batch}{target} --rebuild"
    return f"export it anew on this machine: `{command}`{told}"


def _told(gpu: Gpu | None) -> str:
    return "no GPU" if gpu is None else f"{gpu.name} ({gpu.compute_capability})"
