"""Every metric there is: name, type, labels with their closed sets of values, and what it means. docs/metrics.md is for people.

It imports nothing of ours: stages may name a metric without knowing who reads it. A test holds the sets against the enums.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
Values = tuple[str, ...]

OTHER = "other"
NONE = "none"
QUEUES = ("live", "batch", "low", "watch")
VERDICTS = ("fake", "real", "uncertain", "not_applicable", NONE)
ERRORS = (
    "unsupported", "corrupt", "empty", "too_large", "too_long",
    "fetch_refused", "fetch_auth", "fetch_geo", "fetch_gone", "fetch_rate_limited", "fetch_timeout",
    "decode_timeout", "decode_crash", "out_of_memory", "lease_lost", "internal",
)  # fmt: skip
RETRYABLE = ("fetch_rate_limited", "fetch_timeout", "decode_crash", "lease_lost", "internal")
"""Codes that a second attempt is made for."""
LEAVING = ("unreadable_record", "storage_full", "storage_down")
"""Codes that say what another worker may be able to do."""
BACKENDS = (
    "onnxruntime", "onnxruntime-cuda", "openvino", "openvino-bf16", "tensorrt", "tensorrt-rtx", "torch-tensorrt", "torch",
)  # fmt: skip
STAGES = ("fetch", "decode", "detect", "infer", "total")
KINDS = ("video", "picture")
DECODER_ENDS = ("timeout", "crash", "protocol", "out_of_memory", "fork_server")
CHILD_ENDS = ("died", "hung", "timeout", "cancelled", "overtaken", "served", "grown", "poisoned")
OUTCOMES = ("delivered", "retry", "dead")
ACTIONS = ("requeued", "dead", "cancelled", "rung", "swept")

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900)
REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
DELAY_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400)
CROPS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
FACES = (0, 1, 2, 3, 4, 6, 8, 16, 32, 64)
SCORES = tuple(step / 20 for step in range(1, 21))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Metric:
    """``labels``: names with all their values; without values: from few, such as routes or versions. ``is_live``: a gauge that
    goes with the process that said it."""

    name: str
    kind: Kind
    help: str
    labels: tuple[tuple[str, Values | None], ...] = ()
    buckets: tuple[float, ...] = ()
    is_live: bool = False
    first: tuple[Values, ...] | None = None
    """The combinations of values that are there, at 0, before anything has happened; unset: all, where the sets are closed."""

    @property
    def label_names(self) -> Values:
        return tuple(name for name, _ in self.labels)

    def closed(self, values: Values) -> Values:
        """The values as they may be told."""
        pairs = zip(self.labels, values, strict=True)
        return tuple(value if known is None or value in known else OTHER for (_, known), value in pairs)

    def from_the_start(self) -> tuple[Values, ...]:
        if self.first is not None:
            return self.first
        sets = [known for _, known in self.labels if known is not None]
        return tuple(product(*sets)) if len(sets) == len(self.labels) else ()


def _metric(kind: Kind, name: str, help: str, *labels: tuple[str, Values | None], **more: object) -> Metric:
    return Metric(name=f"veriframe_{name}", kind=kind, help=help, labels=labels, **more)  # type: ignore[arg-type]


QUEUE = ("queue", QUEUES)

# Read from Redis when the API is asked.
REDIS_UP = _metric("gauge", "redis_up", "Whether Redis answers and takes writes")
WAITING = _metric("gauge", "scans_waiting", "Scans that no worker has begun, or that wait for another try", QUEUE)
DUE = _metric("gauge", "scans_due", "Waiting scans that a worker may begin now", QUEUE)
OLDEST = _metric("gauge", "scans_oldest_waiting_seconds", "How long the scan that has been due longest has waited", QUEUE)
RUNNING = _metric("gauge", "scans_running", "Scans that a worker holds", QUEUE)
DEAD = _metric("gauge", "scans_dead", "Scans in the dead letter state")
ENDED = _metric(
    "counter", "scans_ended_total", "Scans by the state they ended in", ("status", ("completed", "failed", "cancelled"))
)
CALLBACKS_OWED = _metric("gauge", "callbacks_owed", "Callbacks that are not delivered yet")
CALLBACKS_OLDEST = _metric(
    "gauge", "callbacks_oldest_due_seconds", "How long the callback that has been due longest has waited for a courier"
)
CALLBACKS_DEAD = _metric("gauge", "callbacks_dead", "Callbacks given up, still kept for a replay")
WORKERS = _metric(
    "gauge",
    "workers",
    "Live workers by whether their model has run, and by what they serve",
    ("state", ("ready", "starting")),
    ("serves", ("scans", "streams")),
)
QUEUE_WORKERS = _metric("gauge", "queue_workers", "Live workers whose model has run, in every queue that they serve", QUEUE)
# The API's own.
REQUESTS = _metric("counter", "http_requests_total", "Requests answered", ("method", None), ("route", None), ("status", None))
REQUEST = _metric(
    "histogram",
    "http_request_seconds",
    "From the first byte of a request to the last of its answer",
    ("method", None),
    ("route", None),
    buckets=REQUEST_SECONDS,
)

# Of a worker or courier: one supervisor and all its processes.
SCANS = _metric(
    "counter",
    "scans_total",
    "Scans that ended here",
    ("verdict", VERDICTS),
    ("code", (NONE, *ERRORS)),
    first=(*((verdict, NONE) for verdict in VERDICTS), *((NONE, code) for code in ERRORS)),
)
STAGE = _metric("histogram", "stage_seconds", "Time of a stage of one scan", ("stage", STAGES), buckets=SECONDS)
BATCH = _metric("histogram", "batch_crops", "Face crops in one call of the classifier", buckets=CROPS)
FACES_SEEN = _metric("histogram", "faces_per_frame", "Faces found in one looked-at frame", buckets=FACES)
DECODER_RESTARTS = _metric(
    "counter", "decoder_restarts_total", "Decoding processes that ended before their work did", ("reason", DECODER_ENDS)
)
CHILD_RESTARTS = _metric(
    "counter", "child_restarts_total", "Processes of the worker that had to be started again", ("reason", CHILD_ENDS)
)
RETRIES = _metric("counter", "scan_retries_total", "Attempts that failed and are made again", ("code", RETRYABLE))
DEAD_LETTERS = _metric("counter", "dead_letters_total", "Scans whose attempts were used up", ("code", RETRYABLE))
LEFT = _metric("counter", "scans_left_total", "Times that a scan was left to another worker", ("code", LEAVING))
CALLBACK_DELAY = _metric(
    "histogram", "callback_delay_seconds", "From the end of a scan to its accepted callback", buckets=DELAY_SECONDS
)
DELIVERIES = _metric("counter", "callback_deliveries_total", "Tries of callbacks by what came of them", ("outcome", OUTCOMES))
ACTIONS_TAKEN = _metric("counter", "reconciler_actions_total", "What the reconciler put right", ("action", ACTIONS))
LAST_PASS = _metric(
    "gauge", "reconciler_last_pass_timestamp_seconds", "When this worker's reconciler last ended a pass, by Redis's clock"
)
MODEL = _metric(
    "gauge",
    "model_info",
    "1 for each model that is loaded",
    ("name", None),
    ("version", None),
    ("sha256", None),
    ("backend", None),
    is_live=True,
)
SCORE = _metric("histogram", "score", "Calibrated p(fake) of scans with a score", ("kind", KINDS), buckets=SCORES)
FALLBACKS = _metric(
    "counter",
    "backend_fallbacks_total",
    "Models opened on another backend than the wanted one; nvdec: videos decoded in software",
    ("backend", (*BACKENDS, "nvdec")),
)
UNAVAILABLE = _metric(
    "gauge",
    "backend_unavailable",
    "1 while a model is open on another backend than this one, which was wanted",
    ("backend", BACKENDS),
    is_live=True,
)
GPU_MEMORY = _metric("gauge", "gpu_memory_bytes", "Memory of a GPU", ("gpu", None), ("state", ("used", "total")))
GPU_USE = _metric("gauge", "gpu_utilisation_ratio", "Share of the last moment in which a GPU was at work", ("gpu", None))
BUILD = _metric("gauge", "build_info", "1 for this version of veriframe", ("version", None))
STARTED = _metric("gauge", "start_timestamp_seconds", "When this supervisor or API server was started")

OF_THE_API = (
    REDIS_UP, WAITING, DUE, OLDEST, RUNNING, DEAD, ENDED, CALLBACKS_OWED, CALLBACKS_OLDEST, CALLBACKS_DEAD,
    WORKERS, QUEUE_WORKERS, REQUESTS, REQUEST,
)  # fmt: skip
OF_A_WORKER = (
    SCANS, STAGE, BATCH, FACES_SEEN, DECODER_RESTARTS, CHILD_RESTARTS, RETRIES, DEAD_LETTERS, LEFT, CALLBACK_DELAY, DELIVERIES,
    ACTIONS_TAKEN, LAST_PASS, MODEL, SCORE, FALLBACKS, UNAVAILABLE, BUILD, STARTED,
)  # fmt: skip
"""What its processes say; the GPUs are asked when the worker itself is."""
OF_A_GPU = (GPU_MEMORY, GPU_USE)
