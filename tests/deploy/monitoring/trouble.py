"""The scenario's script: what goes wrong with the service, one thing after another, and which alerts that is to raise."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import psutil

from tests.deploy.monitoring.props import OTHER_WORKER, Answer, answering
from tests.deploy.monitoring.stand import Running, Stand, until

LOST = "a worker that nobody has heard of since"
KILL_S = 0.02


def play(stand: Stand) -> None:
    """Trouble after trouble, and peace at last."""
    stand.await_firing("VeriframeApiDown")
    stand.sign_in(stand.start("api", "serve", "--port", "0"))
    waiting = nobody_works(stand)
    worker = receivers_refuse(stand)
    processes_die(stand, worker, waiting)
    scores_move(stand)
    redis_goes(stand)
    assert stand.client.post(f"/v1/scans/{waiting}/cancel").status_code == 200
    stand.card.tell(used_mib=20_000, busy_percent=70)
    worker.end()
    stand.change("model", backend="onnxruntime")
    work(stand)
    stand.await_calm()


def work(stand: Stand) -> Running:
    """A worker for all but scans of low priority, and watches."""
    return stand.start("worker", "worker", "--queue", "live", "--queue", "batch")


def nobody_works(stand: Stand) -> str:
    """Scans are posted and there is no worker, until no more may wait. The one that is returned is for a queue without any."""
    waiting = stand.clip("untouched", priority="low")
    made = [
        waiting,
        stand.clip("no_face"),
        stand.picture(),
        *(stand.clip("untouched", callback_url=stand.hook(n)) for n in range(2)),
    ]
    assert [answer.status_code for answer in made] == [202] * 5
    stand.await_firing(
        "VeriframeNoReadyWorkers",
        "VeriframeQueueTooOld",
        "VeriframeQueueFarTooOld",
        "VeriframeQueueNotServed",
        "VeriframeBacklogNearLimit",
        "VeriframeApiRefuses",
        meanwhile=stand.gone,
    )
    return str(waiting.json()["id"])


def receivers_refuse(stand: Stand) -> Running:
    """A worker comes: without the backend it wants, on a card that is full and idle. It does what waits, but the
    receiver of callbacks answers 500, and later that it is gone for good. Beside it one of another version is started again."""
    stand.card.tell(used_mib=39_500, busy_percent=0)
    worker = work(stand)
    with answering(Answer(200, OTHER_WORKER)) as other:
        stand.target("worker-of-another-version", other.port)
        stand.await_firing(
            "VeriframeBackendFallback",
            "VeriframeModelsMixed",
            "VeriframeVersionsMixed",
            "VeriframeGpuMemory",
            "VeriframeGpuIdle",
            "VeriframeCallbacksNotDelivered",
            "VeriframeCallbacksRefused",
            "VeriframeScansSlow",
            # What waited may be done before Prometheus has looked at the worker for the first time: then nothing increases.
            meanwhile=stand.one_at_a_time("untouched"),
        )
        other.body = OTHER_WORKER.replace(b"_seconds 1", b"_seconds 2")
        stand.await_firing("VeriframeCrashLoop")
    with standing_still(worker):
        odd = f"vf:scan:{stand.clip('untouched').json()['id']}"
        stand.await_firing("VeriframeTargetDown", "VeriframeNothingEnds", "VeriframeCallbacksNotTried")
        request = stand.redis.hget(odd, "request")
        stand.redis.hset(odd, "request", '{"schema_version": 9}')
    stand.await_firing("VeriframeScansLeft")
    stand.redis.hset(odd, "request", request)
    stand.target("worker-of-another-version")
    stand.receiver.status = 200
    stand.await_firing("VeriframeCallbackDelay")
    stand.receiver.status = 410
    stand.clip("no_face", callback_url=stand.hook("gone"))
    stand.await_firing("VeriframeCallbacksDead", "VeriframeFailureRatio", meanwhile=stand.gone)
    return worker


@contextlib.contextmanager
def standing_still(worker: Running) -> Iterator[None]:
    """Its processes that take scans are stopped, and its courier: for half a minute they still count as ready."""
    parents = [*worker.below("worker.queue.parent"), *worker.below("worker.queue.courier_process")]
    for parent in parents:
        parent.suspend()
    try:
        yield
    finally:
        for parent in parents:
            parent.resume()


def processes_die(stand: Stand, worker: Running, waiting: str) -> None:
    """The courier is killed, every decoder is, and one scan belongs to a worker that is not there any more."""
    (courier,) = worker.below("worker.queue.courier_process")
    courier.kill()
    stand.records.claim(waiting, LOST)
    with decoders_killed(worker):
        stand.await_firing(
            "VeriframeChildRestarts",
            "VeriframeLeasesExpire",
            "VeriframeDecoderRestarts",
            "VeriframeRetries",
            "VeriframeDeadLetters",
            "VeriframeInternalFailures",
            meanwhile=stand.one_at_a_time("untouched"),
        )


@contextlib.contextmanager
def decoders_killed(worker: Running) -> Iterator[None]:
    """Every process that decodes a file is killed as soon as it is seen: they are what the fork server has started."""
    stop = threading.Event()
    server = min(worker.below("worker.frames.zygote"), key=psutil.Process.create_time)

    def hunt() -> None:
        while not stop.wait(KILL_S):
            with contextlib.suppress(psutil.Error):
                for decoder in server.children():
                    decoder.kill()

    hunter = threading.Thread(target=hunt)
    hunter.start()
    try:
        yield
    finally:
        stop.set()
        hunter.join()


def scores_move(stand: Stand) -> None:
    """From now on scans are of two people, of whom the model is less certain than of the one before; one is of a swapped face."""
    stand.receiver.status = 200
    stand.clip("swapped", callback_url=stand.hook("swapped"))
    stand.picture()
    stand.await_firing("VeriframeScoreDrift", "VeriframeUncertainVerdicts", meanwhile=stand.one_at_a_time("two_people"))


def redis_goes(stand: Stand) -> None:
    """It is killed, comes back with what it had, and scans go on."""
    stand.redis_server.kill()
    alerts = ("VeriframeRedisDown", "VeriframeApiErrors", "VeriframeApiSlow", "VeriframeReconcilerSilent")
    stand.await_firing(*alerts, meanwhile=stand.gone)
    stand.redis_server.start()
    until(lambda: stand.clip("untouched").status_code == 202, "scans are taken in again")
