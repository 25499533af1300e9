"""A process that a supervisor keeps and that does not last: it notes its start, gives one beat and waits to be killed.

python -m tests.worker.queue.mortal FD SUPERVISOR_PID
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    order = json.loads(sys.stdin.buffer.readline())
    with Path(order["starts"]).open("a") as log:
        log.write(f"{os.getpid()}\n")
    os.write(int(sys.argv[1]), json.dumps(order["beat"]).encode() + b"\n")
    sys.stdin.buffer.read(1)
