"""What a worker's parent process tells its supervisor."""

from __future__ import annotations

import json
import os

from worker.queue.parent import beat, open_beats


def test_a_beat_that_nobody_hears_is_lost_and_waits_for_nobody() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as heard, open_beats(writing) as out:
        for number in range(10_000):
            beat(out, {"number": number})
        out.close()
        told = [json.loads(line)["number"] for line in heard]
    assert told == list(range(len(told))), "whole lines, the first ones"
    assert 0 < len(told) < 10_000
