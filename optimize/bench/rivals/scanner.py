"""Whole scans by veriframe, as ``veriframe scan`` makes them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optimize.bench.cpu import tree_cpu_s
from optimize.bench.side import Answer
from worker import report as wire
from worker.backends.candidates import is_of
from worker.compose import DETECTS_BY_DEFAULT, build_scanner, fingerprint
from worker.flight import Flight, most_in_flight
from worker.settings import Settings, load_settings
from worker.types import Json


def scan_settings(flags: Json, threads: int) -> Settings:
    """``flags`` over what the environment says, with the side's threads."""
    told = {section: dict(keys) for section, keys in flags.items()}
    told.setdefault("model", {})["threads"] = threads
    return load_settings(flags=told)


@contextmanager
def build(options: Json, threads: int) -> Iterator[Answer]:
    """``options``: ``flags``, settings by section. A request names a ``path``, and may set ``max_frames``; or it names ``paths``,
    which are scanned as a list is (or so many ``in_flight``), and gets their ``verdicts``.

    Stages run side by side, each on one thread: the reply's times of stages are sums over threads, of decoding the CPU time of
    the processes that do it. Raises RuntimeError where another backend than the one asked for would run.
    """
    settings = scan_settings(options.get("flags", {}), threads)
    with build_scanner(settings) as scanner:
        if settings.model.backend != "auto" and not is_of(scanner.model.backend, settings.model.backend):
            raise RuntimeError(f"{scanner.model.backend} would run in the place of {settings.model.backend}")
        as_set = fingerprint(settings, scanner.model.sha256, scanner.model.backend, settings.faces.backend)
        if scanner.fingerprint != as_set:
            raise RuntimeError(f"{DETECTS_BY_DEFAULT} would look for faces in the place of {settings.faces.backend}")

        def scan(request: Json) -> Json:
            looked_at = None
            if "max_frames" in request:
                looked_at = dataclasses.replace(scanner.request, max_frames=request["max_frames"])
            tree_s, own_s = tree_cpu_s(), time.process_time()
            result = scanner.scan(Path(request["path"]), request=looked_at)
            own_s = time.process_time() - own_s
            report = result.report
            if report.error is not None or report.timings_ms is None or report.sampling is None:
                raise RuntimeError(f"not scanned: {report.error}")
            reply: Json = {
                "decode_s": tree_cpu_s() - tree_s - own_s,
                "detect_s": report.timings_ms.detect / 1000,
                "infer_s": report.timings_ms.infer / 1000,
                "faces": sum(len(frame.faces) for frame in result.frames),
                "frames": len(result.frames),
                "times_s": sorted(frame.t_ms / 1000 for frame in result.frames),
                "verdict": report.verdict,
                "backend": scanner.model.backend,
                "face_backend": settings.faces.backend,
                "stage_threads": 1,
            }
            return reply

        def scan_list(request: Json) -> Json:
            flight = Flight[str, wire.Report](
                lambda path, _: scanner.scan(Path(path)).report,
                most=request.get("in_flight", most_in_flight(threads, exhaustive=settings.sampling.exhaustive)),
                on_first=lambda _: None,
                on_progress=lambda _: None,
            )
            reports = list(flight.run(request["paths"]))
            if failed := [report.error for report in reports if report.error is not None]:
                raise RuntimeError(f"not scanned: {failed[0]}")
            return {"verdicts": [report.verdict for report in reports]}

        yield lambda request: scan_list(request) if "paths" in request else scan(request)
