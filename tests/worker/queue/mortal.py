"""A process that a supervisor keeps and that does not last: it notes its start, gives one beat and waits to be killed.

python -m tests.worker.queue.mortal FD SUPERVISOR_PID

Told to end it dies at once; but with ``last_beats`` in its order, (how many, what), it gives those, waits for the file ``leave``
and notes that it has left.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    order = json.loads(sys.stdin.buffer.readline())
    starts, beats = Path(order["starts"]), int(sys.argv[1])

    def note(line: str) -> None:
        with starts.open("a") as log:
            log.write(f"{line}\n")

    def beat(facts: dict[str, Any]) -> None:
        os.write(beats, json.dumps(facts).encode() + b"\n")

    def end(*signalled: object) -> None:
        number, facts = order["last_beats"]
        for _ in range(number):
            beat(facts)
        while not Path(order["leave"]).exists() and os.getppid() == int(sys.argv[2]):
            time.sleep(0.01)
        note("left")
        sys.exit()

    if "last_beats" in order:
        signal.signal(signal.SIGTERM, end)
    note(str(os.getpid()))
    beat(order["beat"])
    sys.stdin.buffer.read(1)
