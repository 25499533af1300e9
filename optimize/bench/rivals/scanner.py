"""Whole scans by veriframe, as ``veriframe scan`` makes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optimize.bench.side import Answer
from worker.compose import build_scanner
from worker.settings import Settings, load_settings
from worker.types import Json


def scan_settings(flags: Json, threads: int) -> Settings:
    """``flags`` over what the environment says, with the side's threads."""
    told = {section: dict(keys) for section, keys in flags.items()}
    told.setdefault("model", {})["threads"] = threads
    told.setdefault("decode", {})["threads"] = threads
    return load_settings(flags=told)


@contextmanager
def build(options: Json, threads: int) -> Iterator[Answer]:
    """``options``: ``flags``, settings by section. A request names a ``path``; ``boxes`` in it also asks for every face's box."""
    with build_scanner(scan_settings(options.get("flags", {}), threads)) as scanner:

        def scan(request: Json) -> Json:
            result = scanner.scan(Path(request["path"]))
            report = result.report
            if report.error is not None or report.timings_ms is None or report.sampling is None:
                raise RuntimeError(f"not scanned: {report.error}")
            reply: Json = {
                "decode_s": report.timings_ms.decode / 1000,
                "detect_s": report.timings_ms.detect / 1000,
                "infer_s": report.timings_ms.infer / 1000,
                "faces": sum(len(frame.faces) for frame in result.frames),
                "frames": report.sampling.decoded,
                "times_s": sorted(frame.t_ms / 1000 for frame in result.frames),
                "verdict": report.verdict,
                "backend": scanner.model.backend,
            }
            return reply

        yield scan
