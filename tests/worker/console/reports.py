"""Reports with something to look at, stored as a worker would."""

from __future__ import annotations

from tests.worker.queue import scans
from worker.queue.records import Records
from worker.report import Report

SHA256 = "ab" * 32


def with_faces(scan_id: str, *, crop: str | None = None, score: float = 0.9) -> Report:
    """A video of eight seconds with one track."""
    face = {"box": (10, 10, 110, 110), "det_conf": 0.99, "track": 1, "quality": 0.8}
    frames = [{"index": n, "t_ms": 500 * n, "faces": [{**face, "score": score}]} for n in range(16)]
    evidence = [{"t_ms": 1500, "box": (10, 10, 110, 110), "score": 0.97, "crop": crop}]
    track = {"id": 1, "score": score, "frames": 16, "votes": 16, "start_ms": 0, "end_ms": 7500, "evidence": evidence}
    media = {"sha256": SHA256, "kind": "video", "duration_s": 8, "fps": 25, "width": 640, "height": 480, "codec": "h264"}
    sampling = {"requested": 16, "decoded": 16, "with_face": 16, "strategy": "auto", "max_gap_s": 0.5, "stopped_early": False}
    return Report.model_validate(
        {
            **scans.report(scan_id).model_dump(),
            "score": score,
            "calibrated": True,
            "media": {**media, "container": "mov,mp4,m4a,3gp,3g2,mj2", "decoder": "pyav"},
            "thresholds": {"real_below": 0.4, "fake_above": 0.7},
            "tracks": [track],
            "segments": [{"start_ms": 1000, "end_ms": 3000, "max_score": 0.98, "track": 1}],
            "frames": frames,
            "sampling": sampling,
        }
    )


def completed(records: Records, scan_id: str, report: Report, sha256: str = SHA256) -> None:
    """As a worker that found no earlier result; the report keeps what is the scan's own."""
    claim = scans.claim(records, scan_id)
    request = records.get(scan_id).request
    own = {"external_id": request.external_id, "owner": records.get(scan_id).owner}
    source = {"kind": request.source.kind, "url": request.source.url}
    records.settle(claim, sha256, f"{sha256}:{scan_id}")
    records.finish(claim, Report.model_validate({**report.model_dump(), **own, "source": source}))
