"""Labels from humans: over results, in the audit log, and as a manifest that training reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.worker.api.conftest import Serve, Service, fields_of, scan_one
from training.manifest import Entry, read_manifest


def scanned(service: Service, owner: str, url: str) -> str:
    scan_id = service.submit(owner, url=url)
    scan_one(service, scan_id)
    return scan_id


def say(service: Service, owner: str, scan_id: str, **body: Any) -> Any:
    return service.client.post(f"/v1/scans/{scan_id}/feedback", json=body, headers=service.as_(owner))


def manifest(service: Service, folder: Path, *key: str) -> list[Entry]:
    answer = service.client.get("/v1/feedback", headers=service.as_(*key))
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    file = folder / "feedback.csv"
    file.write_bytes(answer.content)
    return read_manifest(file)


def test_a_label_goes_over_the_verdict_of_these_bytes_and_of_reposts(service: Service) -> None:
    first = scanned(service, "acme", "https://media.example/a.mp4")
    answer = say(service, "acme", first, label="fake", category="manipulation", note="the ear is wrong")
    assert answer.status_code == 200
    assert (answer.json()["verdict"], answer.json()["decided_by"]) == ("fake", "human")
    again = scanned(service, "acme", "https://media.example/a.mp4")
    report = service.client.get(f"/v1/scans/{again}", headers=service.as_("acme")).json()
    assert (report["verdict"], report["decided_by"], report["score"]) == ("fake", "human", 0.1)
    (audit,) = service.parts.desk.audit(None)
    assert (audit[1]["scan"], audit[1]["category"], audit[1]["note"]) == (first, "manipulation", "the ear is wrong")
    assert audit[1]["by"].startswith("key:")


def test_labels_are_a_manifest_that_training_reads(service: Service, tmp_path: Path) -> None:
    one = scanned(service, "acme", "https://media.example/one.mp4?sig=1")
    two = scanned(service, "acme", "https://media.example/two")
    say(service, "acme", one, label="real")
    say(service, "acme", two, label="fake", category="blend")
    say(service, "acme", one, label="fake", category="odd-ears")
    theirs = scanned(service, "umbrella", "https://media.example/three.webm")
    say(service, "umbrella", theirs, label="real")
    entries = manifest(service, tmp_path, "acme")
    hashes = [service.parts.desk.records.get(scan_id).sha256 for scan_id in (one, two, theirs)]
    assert [(entry.path, entry.label, entry.family) for entry in entries] == [
        (f"{hashes[0]}.mp4", "fake", ""),
        (f"{hashes[1]}", "fake", "blend"),
    ], "the latest label of each content"
    assert {entry.source for entry in entries} == {"feedback"}
    assert [entry.groups for entry in entries] == [(f"feedback/{sha256}",) for sha256 in hashes[:2]]
    everything = manifest(service, tmp_path, "staff", "admin")
    assert [(entry.path, entry.label, entry.family) for entry in everything[2:]] == [(f"{hashes[2]}.webm", "real", "real")]


def test_a_long_log_of_other_owners_hides_no_label(service: Service, tmp_path: Path) -> None:
    mine = scanned(service, "acme", "https://media.example/mine.mp4")
    desk = service.parts.desk
    other = {"owner": "umbrella", "scan": "0" * 32, "sha256": "ab" * 32, "verdict": "real", "source": {}}
    with desk.records.redis.pipeline() as pipe:
        for _ in range(2500):
            pipe.xadd(desk.records.key("audit"), {"decision": json.dumps(other)})
        pipe.execute()
    say(service, "acme", mine, label="fake")
    assert [entry.label for entry in manifest(service, tmp_path, "acme")] == ["fake"]
    before = desk.records.redis.info("commandstats")["cmdstat_xrange"]["calls"]
    assert [entry.label for entry in manifest(service, tmp_path, "acme")] == ["fake"]
    looks = desk.records.redis.info("commandstats")["cmdstat_xrange"]["calls"] - before
    assert looks == 2, "the one label, and whether there are any that are in nobody's list yet"


def test_labels_beyond_the_owners_day_are_refused_and_written_nowhere(serve: Serve) -> None:
    service = serve(decisions_per_day=2)
    redis = service.parts.desk.records.redis
    scan_id, theirs = (scanned(service, owner, "https://media.example/a.mp4") for owner in ("acme", "umbrella"))
    assert say(service, "acme", service.submit("acme", url="https://media.example/b.mp4"), label="real").status_code == 409
    assert [say(service, "acme", scan_id, label=label).status_code for label in ("real", "fake")] == [200, 200]
    before = redis.xlen("vf:audit")
    full = say(service, "acme", scan_id, label="real")
    assert (full.status_code, fields_of(full)["code"], "2 decisions a day" in full.text) == (429, "queue_full", True)
    assert 1 <= int(full.headers["retry-after"]) <= 86400
    assert redis.xlen("vf:audit") == before == 2
    assert service.parts.desk.report(scan_id, None).verdict == "fake"
    assert say(service, "umbrella", theirs, label="real").status_code == 200, "every owner has a day of its own"
    assert 0 < redis.ttl("vf:decisions_day:acme") <= 86400


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"label": "uncertain"},
        {"label": 1},
        {"label": "real", "category": '=HYPERLINK("x")'},
        {"label": "real", "category": "a\nb"},
        {"label": "real", "note": "x" * 2001},
        {"label": "real", "verdict": "fake"},
    ],
)
def test_what_is_no_label_is_refused(service: Service, body: dict[str, Any]) -> None:
    answer = say(service, "acme", scanned(service, "acme", "https://media.example/a.mp4"), **body)
    assert (answer.status_code, fields_of(answer)["code"]) == (422, "bad_request")
    assert service.parts.desk.audit(None) == []


def test_a_scan_without_bytes_has_nothing_to_label(service: Service) -> None:
    answer = say(service, "acme", service.submit("acme"), label="real")
    assert (answer.status_code, fields_of(answer)["code"]) == (409, "conflict")
