"""Near-identical media over HTTP: with their verdicts, the newest first, of one owner alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.worker.api.conftest import Service, fields_of, scan_one
from tests.worker.queue.fake_scanner import FakeScanner, Output
from worker.report import Media, Sampling
from worker.types import MediaKind


class Alike(FakeScanner):
    """To it, all files look alike, but for the digit in their names."""

    def scan(self, path: Path, **more: Any) -> Output:
        output = super().scan(path, **more)
        phash = "v1:" + ".".join(f"0123456789abcde{path.read_text()[-5]}" for _ in range(8))
        facts: dict[str, Any] = {"duration_s": 1, "fps": 25, "width": 8, "height": 8, "decoder": "fake"}
        media = Media(phash=phash, kind=MediaKind.VIDEO, codec="h264", container="mp4", **facts)
        looks: dict[str, Any] = {"requested": 9, "decoded": 9, "with_face": 9, "strategy": "fps", "stopped_early": False}
        sampling = Sampling(start_s=0, end_s=0.5, max_gap_s=0.1, **looks)
        return replace(output, report=output.report.model_copy(update={"media": media, "sampling": sampling}))


def scanned(service: Service, name: str, owner: str = "acme") -> str:
    scan_id = service.submit(owner, url=f"https://media.example/{name}")
    scan_one(service, scan_id, Alike())
    return scan_id


def near(service: Service, scan_id: str, owner: str = "acme") -> Any:
    return service.client.get(f"/v1/scans/{scan_id}/near-duplicates", headers=service.as_(owner))


def test_earlier_and_later_ones_with_their_verdicts(service: Service) -> None:
    first, second, third = (scanned(service, f"{number}.mp4") for number in (0, 1, 3))
    scanned(service, "0.mp4", "umbrella")
    feedback = {"label": "fake", "category": "manipulation"}
    service.client.post(f"/v1/scans/{first}/feedback", json=feedback, headers=service.as_())
    listed = near(service, second).json()["near_duplicates"]
    assert [
        (one["id"], one["distance"], one["verdict"], one["decided_by"], one["score"], one["calibrated"]) for one in listed
    ] == [
        (third, 1.0, "real", "model", 0.1, False),
        (first, 1.0, "fake", "human", 0.1, False),
    ]
    assert [(one["start_s"], one["end_s"]) for one in listed] == [(0, 0.5)] * 2
    summaries = service.client.get("/v1/scans", headers=service.as_()).json()["scans"]
    assert [(one["start_s"], one["end_s"]) for one in summaries] == [(0, 0.5)] * 3
    assert [one["finished_at"] for one in listed] == sorted((one["finished_at"] for one in listed), reverse=True)
    report = service.client.get(f"/v1/scans/{second}", headers=service.as_()).json()
    assert (report["near_duplicates"], report["verdict"], report["decided_by"]) == ([first], "real", "model")


def test_nothing_is_near_a_scan_that_waits_and_anothers_is_not_there(service: Service) -> None:
    assert near(service, service.submit()).json() == {"near_duplicates": []}
    assert fields_of(near(service, scanned(service, "0.mp4"), "umbrella"))["code"] == "no_such_scan"
