"""The scanning process: it holds the model, and scans what its parent names, one at a time, until the pipe ends.

    python -m worker.queue.child FD PARENT_PID

Orders come as lines of JSON on standard input, the first with the settings (so that no secret is in an argument); answers go as
lines of JSON to FD. Its parent holds the lease and the clock: a hang here is ended from there. SIGUSR1: a watch is to end its
slice, since the worker is going away.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any, BinaryIO

from worker.errors import FetchRateLimited, LeaseLost, StorageFull, VeriframeError
from worker.exhausted import exhausted, log_failure
from worker.queue.assemble import build_performer, read_settings
from worker.queue.away import AWAY, reason
from worker.queue.lifeline import end_with_parent
from worker.queue.naming import attribute
from worker.queue.perform import Performer
from worker.queue.record import Claim, Ended
from worker.queue.watching import Order
from worker.scratch import claim_folder, sweep
from worker.telemetry.context import about
from worker.telemetry.logs import begin_logging
from worker.telemetry.shared import open_telemetry

log = logging.getLogger(__name__)


def main(arguments: list[str]) -> None:
    answers, parent = int(arguments[0]), int(arguments[1])
    end_with_parent(parent)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    order = Order()
    signal.signal(signal.SIGUSR1, lambda *_: setattr(order, "is_given", True))
    begin_logging()
    with os.fdopen(answers, "wb", buffering=0) as out:
        try:
            serve(sys.stdin.buffer, out, order)
        except VeriframeError as exc:
            lasts = exhausted(exc) is None  # what this machine has no more of now, it may have for the next process
            tell(out, {"refused": exc.code if lasts else "internal", "message": str(exc)})


def serve(orders: BinaryIO, out: BinaryIO, to_stop: Order) -> None:
    """Build the scanner, say so, and do what comes."""
    first = json.loads(orders.readline())
    settings = read_settings(first["settings"])
    begin_logging(settings.telemetry.log_format, settings.telemetry.log_level)
    telemetry = open_telemetry(first.get("telemetry"))
    build = attribute(first["build"])
    for left in sweep(settings.source.temp_dir):
        log.info("removed what a process that is gone has left: %s", left.name)
    with claim_folder(settings.source.temp_dir) as folder, contextlib.ExitStack() as stack:
        scanner = stack.enter_context(build(settings, telemetry))
        warm_up(scanner, folder)
        parts = build_performer(settings, scanner, folder, streams=first["streams"], order=to_stop, telemetry=telemetry)
        performer = stack.enter_context(parts)
        tell(out, {"ready": os.getpid(), "memory_mib": memory_mib()})
        for line in orders:
            order = json.loads(line)
            with about(scan_id=order["scan"], attempt=order["attempt"]):
                tell(out, {**perform(performer, order), "memory_mib": memory_mib()})


def perform(performer: Performer, order: dict[str, Any]) -> dict[str, Any]:
    """The job boundary: whatever goes wrong, the scan gets an end and the parent an answer."""
    claim = Claim(id=order["scan"], attempt=order["attempt"], adopts=order["adopts"])
    done: dict[str, Any] = {"done": claim.id, "attempt": claim.attempt}
    try:
        ended = performer.perform(claim)
    except LeaseLost:
        log.warning("scan %s: attempt %d was overtaken, its result is dropped", claim.id, claim.attempt)
        return {**done, "how": "lost", "ring": []}
    except AWAY as exc:
        log.error("scan %s: Redis did not come back: %s", claim.id, reason(exc))
        return {**done, "how": "redis_down", "ring": []}
    except Exception as exc:  # noqa: BLE001 - logged
        log_failure(log, f"scan {claim.id} failed", exc)
        ended = broken(performer, claim, exc)
    told = {"how": ended.how, "ring": list(ended.ring), "replace": is_poisoned(ended), "rest": is_short_of_room(ended)}
    return {**done, **told, "waits": waits_for_its_turn(ended)}


def broken(performer: Performer, claim: Claim, error: Exception) -> Ended:
    """A bug or an exhausted machine: worth another try, in a process of its own."""
    try:
        return performer.records.fail(claim, code="internal", message=type(error).__name__, retryable=True)
    except (LeaseLost, *AWAY):
        return Ended(how="lost", code="internal")


def is_poisoned(ended: Ended) -> bool:
    """After an error that may have left the process in a bad way (a CUDA error stays, memory may leak) it is replaced; what a
    server, a store or the sandboxed decoder did wrong is outside of it."""
    return ended.how != "cancelled" and ended.code == "internal"


def is_short_of_room(ended: Ended) -> bool:
    """On its disk, and somebody else may do the scan: so it may be for the next one, too. Not where the store is not reached:
    many scans need none, and a rest after each of those that do would keep the worker from them."""
    return ended.how == "queued" and ended.code == StorageFull.code


def waits_for_its_turn(ended: Ended) -> bool:
    """At a site, and there was nothing to do but to ask for that."""
    return ended.how == "queued" and ended.code == FetchRateLimited.code


def warm_up(scanner: Any, folder: Path) -> None:
    """Run everything once, so that the first scan finds it warm."""
    import numpy as np
    from PIL import Image

    path = folder / "warm-up.png"
    Image.fromarray(np.full((64, 64, 3), 127, np.uint8)).save(path)
    scanner.scan(path)
    path.unlink()


def tell(out: BinaryIO, message: dict[str, Any]) -> None:
    out.write(json.dumps(message).encode() + b"\n")


def memory_mib() -> float:
    """Proportional set size of this process (Linux), else its peak."""
    try:
        for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return round(int(line.split()[1]) / 1024, 1)
    except OSError:
        pass
    import resource

    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


if __name__ == "__main__":
    main(sys.argv[1:])
