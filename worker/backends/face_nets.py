"""MTCNN's three networks on the runtime that ``faces.backend`` names, each held against the packaged one before it is used.

A network that cannot be opened, or that answers otherwise, is replaced by the packaged one on ONNX Runtime, as a classifier is:
logged, counted, told. On a card (TensorRT's engines, ``onnxruntime-cuda``) not verified on hardware.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from worker.backends.artefact import kept_artefacts
from worker.backends.onnx import has_cuda, open_on_card
from worker.backends.tensorrt import RtKind, TensorRtNet, Why, engine_of, fallbacks, open_artefact
from worker.backends.trial import probe_crops
from worker.errors import ConfigError, ModelError
from worker.onnx_errors import LOAD_ERRORS
from worker.openvino_runtime import open_core
from worker.ports import FaceNet, FaceNets
from worker.types import Float32

NETS = ("pnet", "rnet", "onet")
PACKAGED = "onnxruntime"
BACKENDS = (PACKAGED, "onnxruntime-cuda", "openvino", "tensorrt", "tensorrt-rtx")
ENGINES: dict[str, RtKind] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt-rtx"}
GATE = 1e-3
"""The most that an output may differ from the packaged network's: probabilities, and offsets in shares of a box."""
SIDES = (96, 24, 48)
"""Of the faces that P-Net, R-Net and O-Net are tried on."""
CUDA_OPTIONS = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
"""Float32 as such; and no search over all of cuDNN's ways for each shape, of which P-Net sees many."""
Shape = tuple[int, ...]
ANY: tuple[Shape, Shape] = ((1, 12, 12, 3), (1, 1 << 15, 1 << 15, 3))
"""Least and greatest shape of what takes all; the number of pictures does not count in the greatest."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """``folder`` holds the packaged networks; engines are among the kept artefacts of the checkpoint with hash ``digest``."""

    backend: str
    folder: Path
    cache_dir: Path
    digest: str
    parallel: int
    """So many threads call a network at once."""


class Within:
    """A network made for inputs between two shapes; the packaged one takes all others (a very large picture's, for P-Net)."""

    def __init__(self, net: FaceNet, packaged: FaceNet, *, least: Shape, greatest: Shape) -> None:
        self._net, self._packaged, self._least, self._greatest = net, packaged, least, greatest

    def __call__(self, pictures_NHWC: Float32) -> list[Float32]:
        sizes = zip(self._least[1:], pictures_NHWC.shape[1:], self._greatest[1:], strict=True)
        fits = len(pictures_NHWC) and all(least <= size <= greatest for least, size, greatest in sizes)
        return (self._net if fits else self._packaged)(pictures_NHWC)


class OpenVinoNet:
    """A packaged network on OpenVINO, in float32."""

    def __init__(self, core: Any, path: Path, parallel: int) -> None:
        properties = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": parallel, "NUM_STREAMS": parallel}
        try:
            self._compiled = core.compile_model(core.read_model(path), "CPU", properties | {"ENABLE_CPU_PINNING": False})
        except (RuntimeError, ValueError) as exc:
            raise ModelError(f"cannot load the network {path} on OpenVINO: {exc}") from exc

    def __call__(self, pictures_NHWC: Float32) -> list[Float32]:
        try:
            answer = self._compiled.create_infer_request().infer({0: pictures_NHWC}, share_inputs=True, share_outputs=True)
        except RuntimeError as exc:
            raise ModelError(f"openvino failed while it looked for faces: {exc}") from exc
        return [np.array(output) for output in answer.values()]


class CudaNet:
    """A packaged network on ONNX Runtime's CUDA provider, in float32 without TF32."""

    def __init__(self, path: Path) -> None:
        try:
            self._session = open_on_card(path.read_bytes(), CUDA_OPTIONS)
        except LOAD_ERRORS as exc:
            raise ModelError(f"cannot load MTCNN's network {path}: {exc}") from exc

    def __call__(self, pictures_NHWC: Float32) -> list[Float32]:
        try:
            outputs: list[Float32] = self._session.run(None, {"pictures": pictures_NHWC})
        except LOAD_ERRORS as exc:
            raise ModelError(f"onnxruntime-cuda failed while it looked for faces: {exc}") from exc
        return outputs


def open_face_nets(
    wanted: Wanted, packaged: FaceNets, on_fallback: Callable[[str], None] = lambda wanted: None
) -> tuple[str, FaceNets]:
    """The networks, and the name of what runs them. Raises ConfigError for an unknown backend alone."""
    if wanted.backend not in BACKENDS:
        raise ConfigError(f"faces.backend {wanted.backend!r}: one of {', '.join(BACKENDS)}")
    if wanted.backend == PACKAGED:
        return PACKAGED, packaged
    try:
        nets = _opened(wanted, packaged)
    except (ConfigError, ModelError) as exc:
        why = Why.MISSING if isinstance(exc, ConfigError) else Why.REFUSED
        fallbacks[why] += 1
        on_fallback(wanted.backend)
        log.warning("faces are looked for on %s instead of %s (%s): %s", PACKAGED, wanted.backend, why, exc)
        return PACKAGED, packaged
    return wanted.backend, nets


def _opened(wanted: Wanted, packaged: FaceNets) -> FaceNets:
    paths = [wanted.folder / f"mtcnn_{name}.onnx" for name in NETS]
    if wanted.backend == "openvino":
        core = open_core()
        return _beside([OpenVinoNet(core, path, wanted.parallel) for path in paths], packaged, [ANY] * len(NETS))
    if wanted.backend == "onnxruntime-cuda":
        if not has_cuda():
            raise ConfigError("onnxruntime-cuda needs onnxruntime-gpu in the place of onnxruntime")
        return _beside([CudaNet(path) for path in paths], packaged, [ANY] * len(NETS))
    return _engines(wanted, ENGINES[wanted.backend], packaged)


def _engines(wanted: Wanted, kind: RtKind, packaged: FaceNets) -> FaceNets:
    """Of the newest kept artefact that fits this machine. Raises the last one's reason where none does."""
    failed: ConfigError | ModelError = ConfigError(
        f"faces on {kind} need an artefact of this checkpoint, built on this machine: veriframe export --to {kind}"
    )
    for folder in kept_artefacts(wanted.cache_dir, kind, wanted.digest):
        try:
            trt, artefact = open_artefact(folder, kind=kind, checkpoint_sha256=wanted.digest)
            engines = {name: engine_of(trt, artefact, name) for name in NETS}
        except (ConfigError, ModelError) as exc:
            failed = exc
        else:
            networks = artefact.manifest.networks
            profiles = [networks[name].profile or ANY for name in NETS]
            nets = [TensorRtNet(engines[name], [output.name for output in networks[name].outputs]) for name in NETS]
            return _beside(nets, packaged, [(profile[0], profile[-1]) for profile in profiles])
    raise failed


def check_agreement(nets: Sequence[FaceNet], packaged: FaceNets) -> None:
    """Raises ModelError where a network gives other answers on real faces than the packaged one, or takes none."""
    faces_FHWC = probe_crops(max(SIDES))
    for name, side, net, reference in zip(NETS, SIDES, nets, packaged, strict=True):
        small = [cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA) for face in faces_FHWC]
        pictures_NHWC = np.stack(small).astype(np.float32)
        try:
            ours, theirs = net(pictures_NHWC), reference(pictures_NHWC)
        except ValueError as exc:  # an engine that was built for other shapes
            raise ModelError(f"{name} takes no faces of {side} px: {exc}") from exc
        if [output.shape for output in ours] != [output.shape for output in theirs]:
            raise ModelError(f"{name} gives outputs of other shapes than the packaged network")
        # NumPy's max keeps what is no number, whichever output it is in; Python's may not
        apart = float(np.max([np.abs(a - b).max() for a, b in zip(ours, theirs, strict=True)]))
        if not apart <= GATE:
            raise ModelError(f"{name} differs from the packaged network by up to {apart:.2g}, allowed {GATE:g}")


def _beside(nets: Sequence[FaceNet], packaged: FaceNets, shapes: Sequence[tuple[Shape, Shape]]) -> FaceNets:
    """Networks that were found to agree, each with the packaged one for what it is not made for. Raises ModelError."""
    check_agreement(nets, packaged)
    pnet, rnet, onet = (
        Within(net, beside, least=least, greatest=greatest)
        for net, beside, (least, greatest) in zip(nets, packaged, shapes, strict=True)
    )
    return pnet, rnet, onet
