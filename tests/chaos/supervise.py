"""``veriframe worker`` with the drill's scanner: worker processes and a courier under a supervisor, until SIGTERM."""

from __future__ import annotations

import json
import logging
import signal
import sys

from worker.queue.assemble import read_settings
from worker.queue.board import open_board
from worker.queue.lifeline import end_with_parent
from worker.queue.supervisor import Program, Supervisor

BUILD = "tests.chaos.scanner:build"


def supervise() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    order = json.loads(sys.stdin.readline())
    end_with_parent(order["driver"], signal.SIGTERM)
    settings = read_settings(order["settings"])
    with open_board(settings.telemetry, settings.source.temp_dir) as board:
        told = {"settings": order["settings"], "telemetry": board.folder}
        working = {**told, "queues": ["live", "batch", "low"], "build": BUILD}
        programs = [Program(name=f"worker {n + 1}", module="worker.queue.parent", order=working) for n in range(order["workers"])]
        programs.append(Program(name="courier", module="worker.queue.courier_process", order=told))
        supervisor = Supervisor(
            programs=programs,
            grace_s=settings.queue.grace_s + 10,
            silent_s=settings.queue.boot_timeout_s + 60,
            telemetry=board.telemetry,
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: supervisor.stop())
        with board.serve({"/livez": supervisor.is_live}):
            return supervisor.run()
