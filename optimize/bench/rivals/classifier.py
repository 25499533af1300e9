"""Scoring crops: our backends as a scan opens them, eager and compiled PyTorch, and the runtimes alone on the same graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from optimize.bench.side import Answer
from worker.types import Float32, Json, UInt8

MOST_CROPS = 64
"""The largest batch that is measured."""
BY_TORCH = ("eager", "compile")
"""Kinds all of whose memory on the GPU torch allocates."""
Logits = Callable[[UInt8], Float32]


@contextmanager
def build(options: Json, threads: int) -> Iterator[Answer]:
    """``options``: ``kind`` (``eager``, ``compile``, a runtime ``alone``, or a backend of ours), ``device``, ``crops`` (a file).

    A request: ``batch`` and ``count``, crops scored in batches of that size; with ``scores``, their logits are given.
    """
    kind, device = options["kind"], options["device"]
    crops_FHWC: UInt8 = np.load(Path(options["crops"]), allow_pickle=False)
    if kind == "eager":
        lanes = [_eager(threads, device)]
    elif kind == "compile":
        lanes = [_compiled(threads, device)]
    elif kind == "onnxruntime alone":
        lanes = _onnxruntime(threads)
    elif kind.endswith(" alone"):
        lanes = _openvino("bf16" if "bf16" in kind else "f32", threads)
    else:
        lanes = [_backend(kind, threads)] * threads
    with ThreadPoolExecutor(len(lanes), thread_name_prefix="lane") as pool:

        def score(request: Json) -> Json:
            batch, count = request["batch"], request["count"]
            places = np.arange(count) % len(crops_FHWC)
            parts = [np.ascontiguousarray(crops_FHWC[places[at : at + batch]]) for at in range(0, count, batch)]
            work = [parts[lane :: len(lanes)] for lane in range(len(lanes))]
            done = list(pool.map(lambda lane: [lanes[lane](part) for part in work[lane]], range(len(lanes))))
            reply: Json = {"crops": count, "memory_bytes": _torch_memory() if device != "cpu" and kind in BY_TORCH else None}
            if request.get("scores"):
                in_order = [done[n % len(lanes)][n // len(lanes)] for n in range(len(parts))]
                reply["logits"] = np.concatenate(in_order).tolist()
            return reply

        yield score


def _eager(threads: int, device: str) -> Logits:
    from worker.backends.torch import TorchClassifier
    from worker.model.packaged import default_checkpoint

    eager = TorchClassifier(default_checkpoint(), threads=threads, max_batch=MOST_CROPS, device=device)
    return lambda crops_FHWC: eager.scores(crops_FHWC).logit_F


def _compiled(threads: int, device: str) -> Logits:
    """One compilation serves every batch size."""
    import torch

    from worker.model.network import score_logit
    from worker.model.packaged import default_checkpoint
    from worker.model.restore import load_network

    torch.set_num_threads(threads)
    _, network = load_network(default_checkpoint())
    run: Any = torch.compile(network.to(device), dynamic=True)

    def logits(crops_FHWC: UInt8) -> Float32:
        with torch.inference_mode():
            scored: Float32 = score_logit(run(torch.from_numpy(crops_FHWC).to(device))).cpu().numpy()
            return scored

    return logits


def _backend(name: str, threads: int) -> Logits:
    """As a scan opens it: called by ``threads`` callers at once, each on one thread."""
    from worker.backends.candidates import is_of
    from worker.backends.choose import open_from, opening_of

    opened = open_from(opening_of(None, max_batch=MOST_CROPS, parallel=threads), name)
    if not is_of(opened.name, name):
        raise RuntimeError(f"{opened.name} would run in its place")
    return lambda crops_FHWC: opened.scores(crops_FHWC).logit_F


def _onnxruntime(threads: int) -> list[Logits]:
    """A session of one thread for each lane, side by side."""
    import onnxruntime as ort

    from worker.model.graph import INPUT, LOGIT
    from worker.model.packaged import default_onnx

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(default_onnx().read_bytes(), options, providers=["CPUExecutionProvider"])
    return [lambda crops_FHWC: np.asarray(session.run([LOGIT], {INPUT: crops_FHWC})[0], np.float32)] * threads


def _openvino(precision: str, threads: int) -> list[Logits]:
    """A graph of one thread for each lane; the whole network in ``precision``, the head too."""
    from worker.model.graph import LOGIT
    from worker.model.packaged import default_onnx
    from worker.openvino_runtime import load_runtime

    core = load_runtime().Core()
    told = {"INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1}

    def lane() -> Logits:
        request = core.compile_model(core.read_model(default_onnx()), "CPU", told).create_infer_request()
        return lambda crops_FHWC: np.array(request.infer({0: crops_FHWC}, share_inputs=True)[LOGIT], np.float32)

    return [lane() for _ in range(threads)]


def _torch_memory() -> int:
    """The most that torch has held on the GPU; other runtimes' memory is not in it."""
    import torch

    return int(torch.cuda.max_memory_allocated())
