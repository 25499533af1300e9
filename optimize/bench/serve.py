"""Videos a second through the real queue on an embedded Redis, one worker on one core against two on two; how long scans take.

Every worker is a supervisor's, as ``veriframe worker`` runs it, pinned to a core of its own, with one thread. Times are Redis's.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
from redis import Redis

from optimize.bench.cpu import tree_cpu_s
from optimize.bench.document import Chart, Figure
from optimize.bench.queue import stop
from optimize.bench.ratio import ratio
from optimize.bench.rivals.scanner import scan_settings
from worker.backends.candidates import is_of
from worker.backends.choose import opening_of
from worker.errors import ConfigError, QueueError
from worker.queue import ScanClient
from worker.queue.assemble import SCANNER, told_settings
from worker.queue.embedded import EmbeddedRedis
from worker.queue.front import build_records
from worker.queue.supervisor import Program, Supervisor
from worker.service_settings import QueueSettings, RedisSettings, TelemetrySettings
from worker.settings import Settings
from worker.types import Json

COPIED = frozenset({".mp4", ".mov", ".m4v"})
PERCENTILES = (50, 90, 99)
END_S = 1800.0
LOOK_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One round. ``took_s`` from the first scan's start to the last one's end; of each scan: its own time, and with waiting.

    ``backends``: those that the scans ran on.
    """

    workers: int
    videos: int
    took_s: float
    cpu_s: float
    scan_s: tuple[float, ...]
    with_waiting_s: tuple[float, ...]
    backends: tuple[str, ...]


def copies(clips: Sequence[Path], count: int, folder: Path) -> list[Path]:
    """``count`` files of the clips in turn, each of other bytes (a free box at the end), so that no result is taken over.

    Raises ConfigError where the clips' format does not allow that and they are too few, or two of them are the same.
    """
    made: list[Path] = []
    known: dict[str, Path] = {}
    for number in range(count):
        clip = clips[number % len(clips)]
        if number >= len(clips) and clip.suffix.lower() not in COPIED:
            raise ConfigError(f"{clip.name} cannot be copied with other bytes: give {count} clips, or .mp4 files")
        made.append(folder / f"{number:04d}{clip.suffix}")
        shutil.copyfile(clip, made[-1])
        if clip.suffix.lower() in COPIED:
            told = f"{number:08d}".encode()
            with made[-1].open("ab") as file:
                file.write((8 + len(told)).to_bytes(4, "big") + b"free" + told)
        with made[-1].open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest in known:
            raise ConfigError(f"{known[digest]} and {clip} are the same: the second would not be scanned")
        known[digest] = clip
    return made


def serve(
    clips: Sequence[Path],
    *,
    videos: int,
    workers: Sequence[int],
    rounds: int,
    flags: Json,
    on_round: Callable[[Served], None] = lambda _: None,
) -> list[Served]:
    """``rounds`` of ``videos`` scans for each number of workers, in turns. ``flags``: settings by section, over the environment.

    Raises RedisDown, ModelError, ConfigError where there are fewer cores than workers, a clip cannot be scanned or another
    backend than the one named would run, QueueError where a scan does not end.
    """
    cores = sorted(os.sched_getaffinity(0))
    if max(workers) > len(cores):
        raise ConfigError(f"{max(workers)} workers need as many cores: here are {len(cores)}")
    served = []
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="veriframe-bench-")))
        server = stack.enter_context(EmbeddedRedis(scratch / "redis"))
        redis = stack.enter_context(Redis.from_url(server.url))
        media = scratch / "media"
        media.mkdir()
        paths = copies(clips, videos, media)
        settings = serve_settings(server.url, media, flags)
        opening_of(settings.model.checkpoint, cache_dir=settings.model.cache_dir)  # raises where no worker could
        for number in range(rounds):
            for count in workers if number % 2 == 0 else reversed(workers):
                redis.flushall()
                served.append(_round(settings, redis, clips, paths, cores[:count]))
                on_round(served[-1])
    return served


def serve_settings(url: str, media: Path, flags: Json) -> Settings:
    """``flags`` over what the environment says of scans, on one thread; of its queue, Redis and stores nothing is taken.

    Raises ConfigError.
    """
    told: Json = {name: dict(keys) for name, keys in flags.items()}
    told["decode"] = told.get("decode", {}) | {"threads": 1}
    of_scans = scan_settings(told, threads=1)
    return Settings(
        decode=of_scans.decode,
        sampling=of_scans.sampling,
        faces=of_scans.faces,
        model=of_scans.model,
        verdict=of_scans.verdict,
        calibration=of_scans.calibration,
        redis=RedisSettings(url=url),
        queue=QueueSettings(media_roots=(media,), scans_per_child=0, child_growth_mib=0),
        telemetry=TelemetrySettings(log_level="warning"),
    )


def as_named(ran: Iterable[str], named: str) -> tuple[str, ...]:
    """Each of the backends that ran once. Raises ConfigError where one is not the backend ``named``, unless this is ``auto``."""
    backends = tuple(sorted(set(ran)))
    if named != "auto" and (others := [one for one in backends if not is_of(one, named)]):
        raise ConfigError(f"{', '.join(others)} ran in the place of {named}")
    return backends


def _round(settings: Settings, redis: Redis, clips: Sequence[Path], paths: Sequence[Path], cores: Sequence[int]) -> Served:
    """``paths``: copies of ``clips`` in turn."""
    records = build_records(settings, redis)
    with ScanClient.from_settings(settings) as client, _workers(settings, cores):
        cpu_s = tree_cpu_s()
        ids = [answer.id for answer in client.enqueue_many(paths)]
        states = client.wait(ids, END_S)
        cpu_s = tree_cpu_s() - cpu_s
        reports = [client.report(scan_id) for scan_id in ids]
    for clip, report in zip(cycle(clips), reports, strict=False):
        if report.error is not None:
            raise ConfigError(f"{clip} was not scanned: {report.error.message}")
    if set(states.values()) != {"completed"}:
        raise QueueError(f"not all scans were completed: {sorted({str(state) for state in states.values()})}")
    found = records.get_many(ids)
    started = [one.started_ms or 0 for one in found]
    finished = [one.finished_ms or 0 for one in found]
    return Served(
        workers=len(cores),
        videos=len(paths),
        took_s=(max(finished) - min(started)) / 1000,
        cpu_s=cpu_s,
        scan_s=tuple((end - start) / 1000 for start, end in zip(started, finished, strict=True)),
        with_waiting_s=tuple((one.finished_ms or 0) / 1000 - one.created_ms / 1000 for one in found),
        backends=as_named((report.model.backend for report in reports if report.model is not None), settings.model.backend),
    )


@contextmanager
def _workers(settings: Settings, cores: Sequence[int]) -> Iterator[None]:
    """A supervised worker on each of the cores, all with a warm model; raises QueueError where one does not get there."""
    order = {"settings": told_settings(settings), "queues": ["live", "batch", "low"], "build": SCANNER}
    supervisors = [
        Supervisor(
            programs=[Program(name=f"worker on core {core}", module="worker.queue.parent", order=order)],
            grace_s=10.0,
            silent_s=180.0,
        )
        for core in cores
    ]

    def run(supervisor: Supervisor, core: int) -> None:
        os.sched_setaffinity(0, {core})  # of this thread, and of the processes that it starts
        supervisor.run()

    with ThreadPoolExecutor(len(cores), thread_name_prefix="supervisor") as pool:
        running = [pool.submit(run, *pair) for pair in zip(supervisors, cores, strict=True)]
        try:
            deadline_s = time.monotonic() + settings.queue.boot_timeout_s
            while not all(supervisor.is_ready() for supervisor in supervisors):
                if time.monotonic() > deadline_s or any(one.done() for one in running):
                    raise QueueError("a worker does not get ready")
                time.sleep(LOOK_S)
            yield
        finally:
            stop(supervisors, running)


def serve_figures(served: Sequence[Served]) -> list[Figure]:
    figures: list[Figure] = []
    by_workers = _by_workers(served)
    for count, rounds in by_workers.items():
        name = "1 worker" if count == 1 else f"{count} workers"
        speed = float(np.median([one.videos / one.took_s for one in rounds]))
        cpu_s = float(np.median([one.cpu_s / one.videos for one in rounds]))
        ran = ", ".join(sorted({backend for one in rounds for backend in one.backends}))
        note = f"{rounds[0].videos} videos, {len(rounds)} rounds; {ran}"
        figures += [
            Figure(name=f"{name}: videos", value=speed, unit="a second", note=note),
            Figure(name=f"{name}: CPU time", value=cpu_s, unit="s a video"),
        ]
        for what, times in (
            ("scan", _all(rounds, "scan_s")),
            ("with waiting, all enqueued at once", _all(rounds, "with_waiting_s")),
        ):
            figures += [
                Figure(name=f"{name}: {what}, {share} % within", value=float(np.percentile(times, share)), unit="s")
                for share in PERCENTILES
            ]
    if 1 in by_workers:
        alone = [[one.took_s for one in by_workers[1]]]
        for count, rounds in by_workers.items():
            if count > 1:
                together = [[one.took_s for one in rounds]]
                figures.append(Figure.of(f"{count} workers on {count} cores: times as fast as 1 on 1", ratio(alone, together)))
    return figures


def serve_charts(served: Sequence[Served]) -> list[Chart]:
    """How many scans end within how long."""

    def shares(times: Sequence[float]) -> list[tuple[float, float]]:
        return [(time_s, (place + 1) / len(times)) for place, time_s in enumerate(sorted(times))]

    by_workers = _by_workers(served)
    speeds = [
        (float(n), float(np.median([one.videos / one.took_s for one in rounds]))) for n, rounds in enumerate(by_workers.values())
    ]
    return [
        Chart(
            title="Throughput",
            kind="bars",
            x="workers",
            y="videos/s",
            series={"": speeds},
            labels=[str(count) for count in by_workers],
        ),
        Chart(
            title="Time of a scan",
            kind="lines",
            x="seconds",
            y="share of scans",
            series={f"workers: {count}": shares(_all(rounds, "scan_s")) for count, rounds in by_workers.items()},
        ),
    ]


def _by_workers(served: Sequence[Served]) -> dict[int, list[Served]]:
    return {count: [one for one in served if one.workers == count] for count in sorted({one.workers for one in served})}


def _all(rounds: Sequence[Served], key: str) -> list[float]:
    return [time_s for one in rounds for time_s in getattr(one, key)]
