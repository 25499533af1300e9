"""Scores crops with an exported graph on OpenVINO; imports no torch. In bfloat16, the fastest on CPUs that have it."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from threading import Semaphore
from typing import Any, Literal

import numpy as np

from worker.backends.crops import BatchedClassifier
from worker.backends.kept import find_kept, forget_oldest, keep_bytes, map_kept
from worker.backends.openvino_bf16 import PARTS_VERSION, ready_for_bfloat16
from worker.backends.openvino_parts import cut, cut_points, where_to_cut
from worker.errors import ConfigError, ModelError
from worker.model.checkpoint import sha256
from worker.model.graph import CHECKPOINT_KEY, DRAWS, EXPORT_KEY, EXPORT_VERSION, LOGIT
from worker.openvino_runtime import first_line, load_runtime, open_core
from worker.types import Float32, Scores, UInt8

Precision = Literal["fp32", "bf16"]
NAMES: dict[Precision, str] = {"fp32": "openvino", "bf16": "openvino-bf16"}
HINTS: dict[Precision, tuple[tuple[str, ...], ...]] = {"fp32": (("f32",),), "bf16": (("f32", "bf16", "f32"), ("bf16", "f32"))}
"""Precisions of the parts of a graph: stem, trunk and head, or without a stem."""
IN_CACHE = 1
"""Most crops that the stem takes at once: more of what it writes then stays in the processor's cache (docs/backends.md)."""
MOST_KEPT = 64
"""Compiled graphs in a cache; some 20 MB each. A scan of the bundled checkpoint uses up to three."""
Lane = list[Any]
"""A network's compiled parts in order, as requests, for one call at a time. Two calls of one graph, in two streams of its own,
wait for each other a sixth of their time (docs/backends.md)."""
log = logging.getLogger(__name__)


class OpenVinoClassifier(BatchedClassifier):
    """A ``worker.ports.Classifier`` over a file made by ``worker.model.export``. ``scores`` may be called from several threads.

    ``parallel`` calls run at once, each on ``threads`` threads; further ones wait. With ``precision`` bf16 the stem and the head
    compute in float32 all the same, as graphs of their own, and so do batch norms. Batches are cut to ``max_batch`` crops,
    which bounds memory; each of the calls that run at once has graphs of its own, which the first one that needs them reads.
    Compiled graphs are kept in the private folder ``cache``, if one is given: a later start is faster.

    Raises ConfigError without OpenVINO, or for bf16 on a CPU that has none; ModelError where the file is missing, damaged, not
    such an export, or the export of another checkpoint than ``checkpoint_sha256``.
    """

    def __init__(
        self,
        onnx_path: Path,
        *,
        threads: int,
        parallel: int = 1,
        precision: Precision = "fp32",
        max_batch: int = 16,
        checkpoint_sha256: str | None = None,
        cache: Path | None = None,
    ) -> None:
        if threads < 1 or max_batch < 1 or parallel < 1:
            raise ValueError(f"threads {threads}, parallel {parallel} and max_batch {max_batch} must be positive")
        self._ov = ov = load_runtime()
        core = open_core()
        if precision == "bf16" and (lacking := bf16_lacking(core)):
            raise ConfigError(lacking)
        told = f"{sha256(onnx_path)} {checkpoint_sha256} {EXPORT_VERSION}"
        self._kept = _Kept(ov, core, cache, told, threads)
        try:
            lane = next(filter(None, map(self._kept.find, HINTS[precision])), None)
            is_new = lane is None
            if lane is None:
                model = core.read_model(onnx_path)
                _check(model, onnx_path, checkpoint_sha256)
                lane = self._kept.make(_parts(ov, model, precision))
            size = lane[0].get_compiled_model().input(0).partial_shape[1].get_length()
            super().__init__(name=NAMES[precision], size=size, max_batch=max_batch)
            self._turns = Semaphore(parallel)
            self._idle = [lane]
            if is_new:
                self._score(np.zeros((1, size, size, 3), np.uint8))
                self._kept.keep()
        except (RuntimeError, ValueError) as exc:  # OpenVINO raises nothing more exact
            raise ModelError(f"cannot load the network {onnx_path} on OpenVINO: {first_line(exc)}") from exc

    def _score(self, crops_FHWC: UInt8) -> Scores:
        with self._turns:
            try:
                lane = self._idle_lane() or self._kept.again()
                *before, last = lane
                carried: Any = crops_FHWC
                for i, request in enumerate(before, start=1):
                    is_stem = i < len(before)  # the trunk comes last of these, with a stem before it or without
                    carried = self._run(request, carried, most=IN_CACHE if is_stem else len(crops_FHWC))
                found = last.infer(self._shared(carried), share_inputs=True).to_dict()
            except RuntimeError as exc:
                raise ModelError(f"{self.name} failed while it scored: {first_line(exc)}") from exc
            self._idle.append(lane)  # one that failed is not used again
        named = {name: value for output, value in found.items() for name in output.names}
        return Scores(logit_F=named[LOGIT], draws_FN=named.get(DRAWS))

    def _idle_lane(self) -> Lane | None:
        """The one used last: its memory may still be in the cache."""
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _run(self, request: Any, given_FX: Any, *, most: int) -> Float32:
        """What a part of the graph makes of all it is given, which it gets ``most`` crops at a time."""
        shape = [dimension.get_length() for dimension in list(request.get_compiled_model().output(0).partial_shape)[1:]]
        made_FX = np.empty((len(given_FX), *shape), np.float32)
        for i in range(0, len(given_FX), most):
            request.set_output_tensor(self._shared(made_FX[i : i + most]))
            request.infer(self._shared(given_FX[i : i + most]), share_inputs=True, share_outputs=True)
        return made_FX

    def _shared(self, array_FX: Any) -> Any:
        """Not copied, unless read-only. A request that is given the array itself would hold it until its next call."""
        return self._ov.Tensor(array_FX, shared_memory=array_FX.flags.writeable)


def bf16_lacking(core: Any | None = None) -> str | None:
    """Why bfloat16 cannot be used on this CPU; None where it can. OpenVINO itself says what the CPU has. Raises ConfigError or
    ModelError where it cannot be asked."""
    capabilities = _cpu_property(core or open_core(), "OPTIMIZATION_CAPABILITIES")
    return None if "BF16" in capabilities else "this CPU does not compute in bfloat16 (AVX512-BF16 or AMX)"


def _cpu_property(core: Any, name: str) -> Any:
    """The first use of the library for CPUs: a damaged one shows here. Raises ModelError."""
    try:
        return core.get_property("CPU", name)
    except RuntimeError as exc:
        raise ModelError(f"openvino is installed but does not work: {first_line(exc)}") from exc


def _parts(ov: Any, model: Any, precision: Precision) -> list[tuple[Any, str]]:
    """The graph's parts in order, each with the precision that it computes in; takes ``model`` apart."""
    ends = where_to_cut(cut_points(ov, model)) if precision == "bf16" else []
    hints = next(hints for hints in HINTS[precision] if len(hints) == len(ends) + 1)
    parts = list(zip(cut(ov, model, ends), hints, strict=True))
    for part, hint in parts:
        if hint == "bf16":
            ready_for_bfloat16(part)
    return parts


class _Kept:
    """Compiled graphs by what they were made from, so that a later start need not even read the network.

    OpenVINO's own cache does not notice damaged weights; names with hashes do.
    """

    def __init__(self, ov: Any, core: Any, folder: Path | None, told: str, threads: int) -> None:
        self._core = core
        self._folder = folder
        self._threads = threads
        cpu = (str(_cpu_property(core, name)) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES"))
        self._told = " ".join([told, str(PARTS_VERSION), ov.__version__, *cpu])
        self._ov = ov
        self._hints: tuple[str, ...] = ()
        self._blobs: list[UInt8] = []
        """Of each part; graphs that were read compute with these very bytes."""

    def find(self, hints: tuple[str, ...]) -> Lane | None:
        """The kept graphs of a network in parts of these precisions; None unless all are there and sound."""
        found: Lane = []
        blobs: list[UInt8] = []
        for i in range(len(hints)):
            kept = self._folder and map_kept(self._folder, self._prefix(hints, i), ".blob")
            if not kept:
                return None
            path, data = kept
            blobs.append(data)
            try:
                found.append(self._read(data, hints[i]))
            except RuntimeError:  # made by a build that only looks the same
                with contextlib.suppress(OSError):  # removed by another process, or in a folder that may not be written to
                    path.unlink()
                return None
        self._hints, self._blobs = hints, blobs
        return found

    def make(self, parts: Sequence[tuple[Any, str]]) -> Lane:
        """Compile the parts, each at its precision. Raises RuntimeError."""
        made = [self._core.compile_model(part, "CPU", self._properties(hint)) for part, hint in parts]
        self._hints = tuple(hint for _, hint in parts)
        self._blobs = [np.frombuffer(bytearray(graph.export_model().getbuffer()), np.uint8) for graph in made]
        return [graph.create_infer_request() for graph in made]

    def again(self) -> Lane:
        """The same graphs once more, with memory of their own to compute in. Raises RuntimeError."""
        return [self._read(data, hint) for data, hint in zip(self._blobs, self._hints, strict=True)]

    def keep(self) -> None:
        """Keep the graphs of a network that was just compiled and has scored."""
        if self._folder is None:
            return
        try:
            for i, data in enumerate(self._blobs):
                if kept := find_kept(self._folder, self._prefix(self._hints, i), ".blob"):
                    os.utime(kept)  # it counts as used, and is not the first to go
                else:
                    keep_bytes(self._folder, self._prefix(self._hints, i), ".blob", data.tobytes())
            forget_oldest(self._folder, ".blob", most=MOST_KEPT)
        except OSError as exc:  # a full disk costs each start some time, and no scan
            log.warning("compiled graphs are not kept in %s: %s", self._folder, exc.strerror)

    def _read(self, data: UInt8, hint: str) -> Any:
        source = self._ov.Tensor(data, shared_memory=True)
        return self._core.import_model(source, "CPU", self._properties(hint)).create_infer_request()

    def _prefix(self, hints: tuple[str, ...], part: int) -> str:
        told = f"{self._told} {hints} {part} {sorted(self._properties(hints[part]).items())}"
        return f"{hashlib.sha256(told.encode()).hexdigest()[:32]}-"

    def _properties(self, hint: str) -> dict[str, Any]:
        return {
            "INFERENCE_PRECISION_HINT": hint,
            "INFERENCE_NUM_THREADS": self._threads,
            "NUM_STREAMS": 1,
            # Pinned threads of two processes would meet on the same core.
            "ENABLE_CPU_PINNING": False,
        }


def _check(model: Any, onnx_path: Path, checkpoint_sha256: str | None) -> None:
    """That the file is an export of this version, and of this checkpoint. Raises ModelError."""
    if _metadata(model, EXPORT_KEY) != str(EXPORT_VERSION):
        raise ModelError(f"{onnx_path}: not an export of this version; export the checkpoint again")
    if checkpoint_sha256 is not None and _metadata(model, CHECKPOINT_KEY) != checkpoint_sha256:
        raise ModelError(f"{onnx_path}: is the export of another checkpoint")


def _metadata(model: Any, key: str) -> str | None:
    """A value of the ONNX file's metadata, where OpenVINO's reader puts it."""
    try:
        return str(model.get_rt_info(["framework", key]).astype(str))
    except RuntimeError:
        return None
