"""The floor of the networks: what one scan gave to them, run again by their runtime alone, as fast as it can on these threads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue

from optimize.bench.cpu import tree_cpu_s
from optimize.bench.rivals.recording import Network, Run, Tape, record
from optimize.bench.rivals.scanner import scan_settings
from optimize.bench.side import Answer
from optimize.bench.variants import can_replay
from worker.types import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    wall_s: float
    cpu_s: float


@contextmanager
def build(options: Json, threads: int) -> Iterator[Answer]:
    """``options``: ``flags``. A request names a ``path``; the scan that shows what its networks see is made once, and not timed.

    Each network runs its calls in every arrangement (one after the other on all threads; side by side on one thread each); the
    quickest counts. Raises RuntimeError where a network runs on a runtime that cannot be replayed.
    """
    settings = scan_settings(options.get("flags", {}), threads)
    tape = Tape()
    record(tape)
    from worker.compose import build_scanner

    recorded = ""
    with ExitStack() as stack:
        scanner = stack.enter_context(build_scanner(settings))
        if not can_replay(scanner.model.backend, settings.faces.backend):
            raise RuntimeError(f"not to be replayed: {scanner.model.backend}, faces by {settings.faces.backend}")
        pool = stack.enter_context(ThreadPoolExecutor(threads, thread_name_prefix="nets"))
        networks = list(tape.networks)
        arrangements = [[network.open(streams, threads) for streams in sorted({1, threads})] for network in networks]

        def replay(request: Json) -> Json:
            nonlocal recorded
            if recorded != request["path"]:
                tape.clear()
                tape.recording = True
                frames = scanner.scan(Path(request["path"])).frames
                tape.recording = False
                is_scored = any(face.score is not None for frame in frames for face in frame.faces)
                if is_scored and not any(network.calls for network in networks if network.stage == "infer"):
                    raise RuntimeError("faces were scored, and nothing was heard of the classifier")
                recorded = request["path"]
            reply: Json = {}
            for stage in ("detect", "infer"):
                quickest = [
                    min((_run_all(network, runs, pool) for runs in ways), key=lambda spent: spent.wall_s)
                    for network, ways in zip(networks, arrangements, strict=True)
                    if network.stage == stage
                ]
                reply[f"{stage}_calls"] = sum(len(network.calls) for network in networks if network.stage == stage)
                reply[f"{stage}_s"] = sum(spent.wall_s for spent in quickest)
                reply[f"{stage}_cpu_s"] = sum(spent.cpu_s for spent in quickest)
            return reply

        yield replay


def _run_all(network: Network, runs: list[Run], pool: ThreadPoolExecutor) -> Spent:
    """All calls of a network once, shared out to as many threads as there are ways to run it."""
    waiting: SimpleQueue[object] = SimpleQueue()
    for feeds in network.calls:
        waiting.put(feeds)

    def work(run: Run) -> None:
        while True:
            try:
                feeds = waiting.get_nowait()
            except Empty:
                return
            run(feeds)

    cpu_s, started = tree_cpu_s(), time.perf_counter()
    for done in [pool.submit(work, run) for run in runs]:
        done.result()
    return Spent(wall_s=time.perf_counter() - started, cpu_s=tree_cpu_s() - cpu_s)
