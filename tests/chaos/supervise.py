"""``veriframe worker`` with the drill's scanner: worker processes and a courier under a supervisor, until SIGTERM."""

from __future__ import annotations

import json
import logging
import signal
import sys

from worker.queue.lifeline import end_with_parent
from worker.queue.supervisor import Program, Supervisor

BUILD = "tests.chaos.scanner:build"


def supervise() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    order = json.loads(sys.stdin.readline())
    end_with_parent(order["driver"], signal.SIGTERM)
    settings = order["settings"]
    told = {"settings": settings, "queues": ["live", "batch", "low"], "build": BUILD}
    programs = [Program(name=f"worker {n + 1}", module="worker.queue.parent", order=told) for n in range(order["workers"])]
    programs.append(Program(name="courier", module="worker.queue.courier_process", order={"settings": settings}))
    supervisor = Supervisor(
        programs=programs, grace_s=settings["queue"]["grace_s"] + 10, silent_s=settings["queue"]["boot_timeout_s"] + 60
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.stop())
    return supervisor.run()
