"""Exports a checkpoint and MTCNN's networks for one runtime: an artefact that says what it is, and how far from eager fp32.

What can be run on this machine is run on real crops before the artefact is put in place, and refused beyond the gates; what
cannot be run carries the reason instead of figures.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
from safetensors.numpy import save as serialise_tensors

from optimize.artefacts.folder import is_sound, key_of, write_artefact
from optimize.artefacts.makers import MAKERS, NET_PROFILES, Array, Made, Source, onnx_runner
from optimize.artefacts.needs import NEEDS, need
from optimize.artefacts.pictures import Pictures, demo_pictures
from optimize.engines.build import Profile, supported_targets
from optimize.engines.cast import cast_graph
from worker import __version__
from worker.backends import tensorrt
from worker.backends.artefact import (
    CLASSIFIER,
    GATES,
    KEPT,
    PROBE,
    Gpu,
    Kind,
    Manifest,
    Network,
    Parity,
    Precision,
    compare,
    kept_prefix,
    probabilities,
    read_manifest,
)
from worker.backends.choose import cached_export, ready_export
from worker.backends.face_nets import NETS
from worker.backends.kept import private_cache, user_cache
from worker.backends.torch import TorchClassifier
from worker.backends.torch_tensorrt import LEAST, open_torch_tensorrt
from worker.errors import ConfigError, ModelError
from worker.extras import version_of
from worker.model.checkpoint import load_spec, sha256
from worker.model.graph import EXPORT_VERSION, LOGIT
from worker.model.mtcnn import FILE_NAMES
from worker.model.packaged import default_checkpoint, weights_folder
from worker.model.spec import ModelSpec
from worker.types import Float32

ON_THE_CARD: tuple[Kind, ...] = ("tensorrt", "torch-tensorrt")
"""Made for the card at hand, which must be there."""
Opener = Callable[[Path, str], object]
"""Opens an artefact for the checkpoint of a hash. Raises ConfigError or ModelError."""
OPENERS: Mapping[Kind, Opener] = {
    "tensorrt": lambda folder, digest: tensorrt.open_tensorrt(folder, checkpoint_sha256=digest),
    "torch-tensorrt": lambda folder, digest: open_torch_tensorrt(folder, checkpoint_sha256=digest),
}
"""How a scan opens what was made for the card at hand, the gate included."""
RTX_TARGETS = ("SM80", "SM89", "SM120")
REFERENCES = {CLASSIFIER: "eager fp32", **dict.fromkeys(NETS, "onnxruntime fp32")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """checkpoint: the bundled one when None. out: a folder; when None the artefact is kept in the cache, by key.

    batch: least, usual and greatest number of crops. targets: architectures for tensorrt-rtx.
    """

    kind: Kind
    checkpoint: Path | None = None
    precision: Precision = "fp32"
    batch: tuple[int, int, int] = (1, 8, 16)
    targets: tuple[str, ...] = ()
    out: Path | None = None
    cache_dir: Path | None = None
    rebuild: bool = False
    tell: Callable[[str], None] = field(default=lambda _: None)
    """Is told what is being done."""

    def __post_init__(self) -> None:
        if not 1 <= self.batch[0] <= self.batch[1] <= self.batch[2]:
            raise ConfigError(f"batch {self.batch}: three numbers from 1 upwards, rising: least, usual, greatest")
        if self.kind == "torch-tensorrt" and self.batch[2] < LEAST:
            raise ConfigError(
                f"batch {self.batch}: torch-tensorrt runs {LEAST} crops at least: the greatest must be {LEAST} or more"
            )
        if self.targets and self.kind != "tensorrt-rtx":
            raise ConfigError(f"{self.kind} takes no target: it is made for the machine at hand")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """``fresh`` is False where the kept artefact of the same key was still good."""

    folder: Path
    manifest: Manifest
    fresh: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A request, and everything that makes its artefact another than the next one."""

    request: Request
    checkpoint: Path
    spec: ModelSpec
    digest: str
    toolchain: Mapping[str, str]
    gpu: Gpu | None
    targets: tuple[str, ...]

    @property
    def key(self) -> str:
        return key_of(
            {
                "veriframe": __version__,
                "checkpoint": self.digest,
                "export": EXPORT_VERSION,
                "toolchain": dict(self.toolchain),
                "gpu": None if self.gpu is None else self.gpu.model_dump(),
                "targets": self.targets,
                "precision": self.request.precision,
                "batch": self.request.batch,
            }
        )


def run_export(request: Request, openers: Mapping[Kind, Opener] = OPENERS) -> Exported:
    """Make the artefact, or find the kept one of the same key.

    Raises ConfigError for what is missing here, ModelError where a runtime refuses or parity fails.
    """
    need(request.kind)
    checkpoint = (request.checkpoint or default_checkpoint()).absolute()
    plan = Plan(
        request=request,
        checkpoint=checkpoint,
        spec=load_spec(checkpoint),
        digest=sha256(checkpoint),
        toolchain=versions(request.kind),
        gpu=tensorrt.this_gpu(f"an export to {request.kind}") if request.kind in ON_THE_CARD else None,
        targets=check_targets(request),
    )
    out = request.out
    if out is None:
        folder = private_cache((request.cache_dir or user_cache()) / KEPT)
        out = folder / f"{kept_prefix(request.kind, plan.digest)}{plan.key}"
        if not request.rebuild and is_sound(out) and _opens(openers.get(request.kind), out, plan.digest):
            return Exported(folder=out, manifest=read_manifest(out), fresh=False)
    write_artefact(out, partial(_fill, plan))
    return Exported(folder=out, manifest=read_manifest(out), fresh=True)


def _opens(opener: Opener | None, folder: Path, digest: str) -> bool:
    """Whether a kept artefact can still be used here: a driver, which is in no key, may refuse it or compute otherwise."""
    if opener is None:
        return True
    try:
        opener(folder, digest)
    except (ConfigError, ModelError):
        return False
    return True


def _fill(plan: Plan, folder: Path) -> Manifest:
    """Write the networks and the probe into the folder, and compare them."""
    request, spec = plan.request, plan.spec
    request.tell("reading the crops of the demo clips")
    pictures = demo_pictures(margin=spec.crop.margin, size=spec.crop.size)
    request.tell("scoring them with PyTorch in float32")
    reference_F = probabilities(TorchClassifier(plan.checkpoint, threads=2).scores(pictures.crops_FHWC).logit_F)
    (folder / PROBE).write_bytes(serialise_tensors({"crops": pictures.crops_FHWC, "p": reference_F}))
    networks: dict[str, Network] = {}
    parity: dict[str, Parity] = {}
    for source in sources(plan.checkpoint, spec, plan.digest, request):
        request.tell(f"making {source.name}")
        made = MAKERS[request.kind](source, folder, plan.targets)
        networks[source.name] = _network(source, made)
        request.tell(f"comparing {source.name}")
        parity[source.name] = measured(source, made, pictures, reference_F)
    return Manifest(
        veriframe=__version__,
        kind=request.kind,
        precision=request.precision,
        checkpoint_sha256=plan.digest,
        model=f"{spec.name} {spec.version}",
        export_version=EXPORT_VERSION,
        created=datetime.now(UTC).replace(microsecond=0),
        toolchain=dict(plan.toolchain),
        gpu=plan.gpu,
        targets=plan.targets,
        batch=request.batch,
        networks=networks,
        files={},  # hashed when all of them are written
        parity=parity,
    )


def check_targets(request: Request) -> tuple[str, ...]:
    """The architectures to build for; none but for tensorrt-rtx. Raises ConfigError for one that the library does not know."""
    if request.kind != "tensorrt-rtx":
        return ()
    known = supported_targets(tensorrt.load_library("tensorrt-rtx"))
    chosen = request.targets or RTX_TARGETS
    if unknown := [target for target in chosen if target not in known]:
        raise ConfigError(f"tensorrt-rtx does not build for {', '.join(unknown)}: one or more of {', '.join(known)}")
    return tuple(sorted(set(chosen), key=known.index))


def versions(kind: Kind) -> dict[str, str]:
    """Versions of everything between the checkpoint and the artefact, by module."""
    modules = ("torch", "timm", "onnx", "onnxscript", "onnxruntime", *NEEDS[kind][1])
    found = {module: version_of(module) for module in modules}
    return {"python": platform.python_version()} | found


def sources(checkpoint: Path, spec: ModelSpec, digest: str, request: Request) -> list[Source]:
    """The classifier, its backbone cast, and MTCNN's networks, which stay in float32."""
    cache = request.cache_dir
    onnx_path = ready_export(digest, cache) or cached_export(checkpoint, digest, cache or user_cache())
    size = spec.crop.size
    shapes = [(n, size, size, 3) for n in request.batch]
    classifier = Source(
        name=CLASSIFIER,
        graph=cast_graph(onnx_path.read_bytes(), request.precision),
        profile=Profile(least=shapes[0], usual=shapes[1], greatest=shapes[2]),
        precision=request.precision,
        checkpoint=checkpoint,
    )
    nets = [
        Source(name=net, graph=(weights_folder() / FILE_NAMES[net]).read_bytes(), profile=NET_PROFILES[net], precision="fp32")
        for net in NETS
    ]
    return [classifier, *nets]


def measured(source: Source, made: Made, pictures: Pictures, reference_F: Float32) -> Parity:
    """Figures on the pictures, or why there are none. Raises ModelError beyond the gate."""
    reference = REFERENCES[source.name]
    inputs = pictures.crops_FHWC if source.name == CLASSIFIER else pictures.nets_NHWC[source.name]
    if made.run is None:
        return Parity(reference=reference, samples=0, reason=made.reason)
    if source.name == CLASSIFIER:
        got, wanted = probabilities(made.run(inputs)[LOGIT]), reference_F
    else:
        got = np.asarray(made.run(inputs)["prob"], np.float32).reshape(-1)
        wanted = _reference_of(source.name, inputs)
    parity = compare(got, wanted, reference)
    most, mean = GATES[source.precision]
    if parity.max_dp is None or parity.mean_dp is None or parity.max_dp > most or parity.mean_dp > mean:
        raise ModelError(
            f"{source.name} in {source.precision} differs from {reference} by up to {parity.max_dp} (mean {parity.mean_dp}) in "
            f"probability, allowed {most} (mean {mean}): {parity.reason or 'try --precision fp32'}"
        )
    return parity


def _reference_of(net: str, inputs: Array) -> Float32:
    return np.asarray(onnx_runner(weights_folder() / FILE_NAMES[net])(inputs)["prob"], np.float32).reshape(-1)


def _network(source: Source, made: Made) -> Network:
    profile = source.profile
    return Network(
        file=made.file,
        precision=source.precision,
        inputs=made.inputs,
        outputs=made.outputs,
        profile=(profile.least, profile.usual, profile.greatest) if made.has_profile else None,
    )
