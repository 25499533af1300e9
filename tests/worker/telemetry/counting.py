"""A process that counts: ``python -m tests.worker.telemetry.counting FOLDER``, then a word on each line of standard input.

``count``, ``observe``, ``model``, ``begin`` or ``threads``; each is answered by a line. It is quick to start.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from worker.telemetry.catalogue import BATCH, DECODER_RESTARTS, MODEL, SCANS
from worker.telemetry.shared import SharedTelemetry


def main(folder: str) -> None:
    telemetry = SharedTelemetry(Path(folder))
    print("here", flush=True)
    for line in sys.stdin:
        word = line.strip()
        if word == "count":
            telemetry.count(SCANS, "fake", "none")
            telemetry.count(DECODER_RESTARTS, "never heard of", by=2)
        elif word == "observe":
            telemetry.observe(BATCH, 8)
        elif word == "model":
            telemetry.set(MODEL, 1, "m", "1", "ab", "onnxruntime")
        elif word == "begin":
            telemetry.begin()
        elif word == "threads":
            threads = [threading.Thread(target=count_often, args=(telemetry,)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        print(word, flush=True)


def count_often(telemetry: SharedTelemetry) -> None:
    for _ in range(500):
        telemetry.count(SCANS, "real", "none")


if __name__ == "__main__":
    main(sys.argv[1])
