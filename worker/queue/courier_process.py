"""The courier as the supervisor starts it: ``python -m worker.queue.courier_process FD SUPERVISOR_PID``; see ``parent``."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import threading

from worker.errors import ConfigError
from worker.interrupts import stop_on_signals
from worker.queue.assemble import build_courier, read_settings
from worker.queue.front import build_redis
from worker.queue.lifeline import end_with_parent
from worker.queue.parent import beat, open_beats
from worker.telemetry.logs import begin_logging
from worker.telemetry.shared import open_telemetry

BEAT_S = 5.0


def main(arguments: list[str]) -> int:
    beats, supervisor = int(arguments[0]), int(arguments[1])
    end_with_parent(supervisor, signal.SIGTERM)
    begin_logging()
    stop = threading.Event()
    stop_on_signals(stop.set)
    order = json.loads(sys.stdin.buffer.readline())
    try:
        settings = read_settings(order["settings"])
        begin_logging(settings.telemetry.log_format, settings.telemetry.log_level)
        telemetry = open_telemetry(order.get("telemetry"))
        with open_beats(beats) as out, contextlib.ExitStack() as stack:
            redis = stack.enter_context(contextlib.closing(build_redis(settings)))
            courier = stack.enter_context(build_courier(settings, redis, telemetry))
            thread = threading.Thread(target=courier.run, args=(stop,), name="courier")
            thread.start()
            while thread.is_alive():
                beat(out, {"courier": os.getpid()})
                thread.join(BEAT_S)
    except ConfigError as exc:
        logging.getLogger(__name__).error("%s", exc)
        return 2
    return 0 if stop.is_set() else 4


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
