"""Scores crops with an exported graph on ONNX Runtime; imports no torch. The default on a CPU."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort

from worker.backends.crops import BatchedClassifier
from worker.errors import ConfigError, ModelError
from worker.model.graph import CHECKPOINT_KEY, DRAWS, EXPORT_KEY, EXPORT_VERSION, INPUT, LOGIT
from worker.onnx_errors import LOAD_ERRORS
from worker.types import Scores, UInt8

CUDA = "CUDAExecutionProvider"
IN_CACHE = 4
"""Most crops in one run on a CPU: more of what the first layers write then stays in its cache (decision 9)."""


class OnnxClassifier(BatchedClassifier):
    """A ``worker.ports.Classifier`` over a file made by ``worker.model.export``; ``scores`` may be called from several threads.

    Batches are cut to at most ``max_batch`` crops, and on a CPU to ``IN_CACHE``. With ``checkpoint_sha256`` the file must be the
    export of that very checkpoint. With ``cuda`` it runs on the first NVIDIA card, in float32 without TF32 (not verified on
    hardware).

    Raises ConfigError where CUDA is wanted and missing, ModelError where the file is missing, damaged, or not such an export.
    """

    def __init__(
        self,
        onnx_path: Path,
        *,
        threads: int,
        max_batch: int = 16,
        checkpoint_sha256: str | None = None,
        cuda: bool = False,
    ) -> None:
        if threads < 1 or max_batch < 1:
            raise ValueError(f"threads {threads} and max_batch {max_batch} must be positive")
        if cuda and not has_cuda():
            raise ConfigError("onnxruntime-cuda needs onnxruntime-gpu in the place of onnxruntime")
        try:
            graph, options = onnx_path.read_bytes(), _options(threads)
            if cuda:
                self._session = open_on_card(graph, {"use_tf32": "0"}, options)
            else:
                self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except LOAD_ERRORS as exc:
            raise ModelError(f"cannot load the network {onnx_path}: {exc}") from exc
        about = self._session.get_modelmeta().custom_metadata_map
        if about.get(EXPORT_KEY) != str(EXPORT_VERSION):
            raise ModelError(f"{onnx_path}: not an export of this version; export the checkpoint again")
        if checkpoint_sha256 is not None and about.get(CHECKPOINT_KEY) != checkpoint_sha256:
            raise ModelError(f"{onnx_path}: is the export of another checkpoint")
        size = int(self._session.get_inputs()[0].shape[1])
        name, most = ("onnxruntime-cuda", max_batch) if cuda else ("onnxruntime", min(max_batch, IN_CACHE))
        super().__init__(name=name, size=size, max_batch=most)
        self._outputs = [output.name for output in self._session.get_outputs() if output.name in (LOGIT, DRAWS)]

    def _score(self, crops_FHWC: UInt8) -> Scores:
        try:
            found = dict(zip(self._outputs, self._session.run(self._outputs, {INPUT: crops_FHWC}), strict=True))
        except LOAD_ERRORS as exc:
            raise ModelError(f"{self.name} failed while it scored: {exc}") from exc
        return Scores(logit_F=found[LOGIT], draws_FN=found.get(DRAWS))


def open_on_card(graph: bytes, cuda: dict[str, str], options: ort.SessionOptions | None = None) -> ort.InferenceSession:
    """A session on the first NVIDIA card, and nowhere else; ``cuda``: the provider's options.

    Left to itself ONNX Runtime goes on with the CPU where the card fails, then or later, and says so on standard output. Raises
    ConfigError where no card can be used, ``LOAD_ERRORS``.
    """
    try:
        session = ort.InferenceSession(graph, options, providers=[(CUDA, cuda)], enable_fallback=0)
    except (RuntimeError, ValueError) as exc:  # CUDA's own errors
        raise ConfigError(f"onnxruntime-cuda: the card cannot be used: {exc}") from exc
    if CUDA not in session.get_providers():
        raise ConfigError("onnxruntime-cuda: no NVIDIA card answers, or CUDA's libraries are missing")
    return session


def has_cuda() -> bool:
    """Whether the installed ONNX Runtime was built with CUDA."""
    return CUDA in ort.get_available_providers()


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    # Spinning threads would take the core that the decoding child works on.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
