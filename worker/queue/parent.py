"""A worker's process as the supervisor starts it.

    python -m worker.queue.parent FD SUPERVISOR_PID

The first line of standard input holds settings, queues, and by name what scans and what watches; beats go to FD as lines of JSON.
Exit codes: 0 stopped as asked, 2 a setting or model that cannot be used (starting again would not help), 4 anything else.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
from functools import partial
from io import FileIO
from typing import Any

from worker.errors import ConfigError, ModelError, VeriframeError
from worker.interrupts import stop_on_signals
from worker.queue.assemble import STREAMS, brisk_redis, build_worker, hearing_redis, read_settings
from worker.queue.lifeline import end_with_parent
from worker.scratch import sweep
from worker.telemetry.logs import begin_logging
from worker.telemetry.shared import open_telemetry

log = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    beats, supervisor = int(arguments[0]), int(arguments[1])
    end_with_parent(supervisor, signal.SIGTERM)
    begin_logging()
    order = json.loads(sys.stdin.buffer.readline())
    try:
        settings = read_settings(order["settings"])
        begin_logging(settings.telemetry.log_format, settings.telemetry.log_level)
        folder = order.get("telemetry")
        telemetry = open_telemetry(folder)
        with open_beats(beats) as out, contextlib.ExitStack() as stack:
            clients = (hearing_redis(settings), brisk_redis(settings), brisk_redis(settings))
            redis, brisk, face = (stack.enter_context(contextlib.closing(client)) for client in clients)
            told = partial(beat, out)
            names = {"build": order["build"], "streams": order.get("streams", STREAMS), "telemetry_folder": folder}
            worker = build_worker(settings, redis, brisk, face, order["queues"], on_beat=told, telemetry=telemetry, **names)
            stop_on_signals(worker.stop)
            try:
                worker.run()
            finally:
                sweep(settings.source.temp_dir)  # its scanning process was ended by force
    except (ConfigError, ModelError) as exc:
        log.error("%s", exc)
        return 2
    except VeriframeError as exc:
        log.error("%s: %s", exc.code, exc)
        return 4
    return 0


def open_beats(fd: int) -> FileIO:
    """Where ``beat`` writes. It never waits: what a supervisor that does not listen would have no room for is lost."""
    os.set_blocking(fd, False)
    return os.fdopen(fd, "wb", buffering=0)


def beat(out: FileIO, facts: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):
        out.write(json.dumps(facts).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
