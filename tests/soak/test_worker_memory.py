"""A thousand scans on one warm model: the scanning process's memory after the first hundred, and after all."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from tests.worker.queue.harness import service
from worker.demo import FOLDER
from worker.queue.connection import connect
from worker.queue.embedded import EmbeddedRedis
from worker.queue.requests import RequestSource, ScanRequest

SCANS = int(os.environ.get("VERIFRAME_SOAK_SCANS", "1000"))
SETTLED = SCANS // 10
CLIPS = ("untouched.mp4", "no_face.mp4", "two_people.mp4")


def another(clip: bytes, number: int) -> bytes:
    """The same clip as other bytes: a box at its end that readers skip."""
    return clip + struct.pack(">I4sQ", 16, b"free", number)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_thousand_scans_leave_the_memory_where_it_was(tmp_path: Path) -> None:
    clips = [(FOLDER / name).read_bytes() for name in CLIPS]
    with (
        EmbeddedRedis(tmp_path / "redis") as server,
        connect(url=server.url, timeout_s=10, patience_s=60) as redis,
        service(server.url, redis, tmp_path, scans_per_child=0, child_growth_mib=0, lease_s=30, grace_s=1) as queue,
    ):
        queue.start(build="worker.compose:build_scanner")
        curve: list[tuple[int, float]] = []
        for done in range(SCANS):
            path = queue.media / f"{done}.mp4"
            path.write_bytes(another(clips[done % len(clips)], done))
            request = ScanRequest(source=RequestSource(path=str(path)))
            record = queue.ended(queue.desk.submit_one(request, "acme").id, 120)
            assert record.state == "completed", record
            path.unlink()
            if (done + 1) % max(1, SCANS // 40) == 0 or done + 1 == SETTLED:
                curve.append((done + 1, pss_mib(queue.child_of(queue.workers[0]))))
        (facts,) = queue.live().values()
        assert facts["starts"] == 1
    print("\nscans  MiB (PSS of the scanning process)")
    print("\n".join(f"{scans:5d}  {mib:.1f}" for scans, mib in curve))
    settled = next(mib for scans, mib in curve if scans == SETTLED)
    assert curve[-1][1] <= 1.05 * settled


def pss_mib(pid: int) -> float:
    """Proportional set size of one process."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"no memory of {pid}")
