"""``veriframe feedback`` against a real Redis and a store."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import time
from pathlib import Path

import pytest
import yaml

from tests.worker.commands.conftest import Veriframe
from tests.worker.queue.scans import complete, submit
from training.manifest import read_manifest
from worker.artifacts import open_store
from worker.queue.desk import Decision, Desk
from worker.queue.embedded import EmbeddedRedis
from worker.queue.media import media_key

MEDIA = b"\0\0\0\x18ftypisom"
SHA256 = hashlib.sha256(MEDIA).hexdigest()


@pytest.fixture
def config(tmp_path: Path, redis_server: EmbeddedRedis) -> str:
    store = open_store(str(tmp_path / "store"))
    store.put(media_key(SHA256), MEDIA, expires_at=time.time() + 3600)
    path = tmp_path / "worker.yaml"
    path.write_text(yaml.safe_dump({"artifacts": {"url": str(tmp_path / "store")}}))
    return str(path)


def decided(
    desk: Desk,
    sha256: str,
    verdict: str,
    owner: str = "acme",
    url: str = "https://example.org/a.mp4",
    part_s: tuple[float, float] | None = None,
) -> None:
    scan_id = submit(desk, url, owner)
    complete(desk.records, scan_id, sha256, part_s=part_s)
    desk.decide(scan_id, owner, Decision(verdict=verdict, by="ada", category="blend"))  # type: ignore[arg-type]


def test_labels_are_exported_with_their_media(veriframe: Veriframe, desk: Desk, config: str, tmp_path: Path) -> None:
    decided(desk, SHA256, "real")
    decided(desk, SHA256, "fake")
    decided(desk, "cd" * 32, "fake")
    out = tmp_path / "out"
    done = veriframe("feedback", "export", "--out", str(out), "--config", config)
    assert (done.exit_code, done.stdout.strip()) == (0, str(out / "MANIFEST.csv"))
    assert "1 labels with their media: 1 fake" in done.stderr
    assert "1 without media: 1 not retained" in done.stderr
    ((entry),) = read_manifest(out / "MANIFEST.csv")
    assert (entry.path, entry.label, entry.family) == (f"videos/{SHA256}.mp4", "fake", "blend")
    again = veriframe("feedback", "export", "--out", str(out), "--config", config, "--quiet")
    assert (again.exit_code, again.stderr) == (0, "")


def test_labels_of_a_part_are_no_training_data(veriframe: Veriframe, desk: Desk, config: str, tmp_path: Path) -> None:
    decided(desk, SHA256, "real")
    decided(desk, SHA256, "fake", part_s=(0.0, 2.5))
    decided(desk, SHA256, "real", part_s=(0.0, 2.5))
    decided(desk, SHA256, "fake", part_s=(2.5, 5.0))
    done = veriframe("feedback", "export", "--out", str(tmp_path / "out"), "--config", config)
    listed = veriframe("feedback", "list")
    assert (done.exit_code, listed.exit_code) == (0, 0)
    assert [entry.label for entry in read_manifest(tmp_path / "out" / "MANIFEST.csv")] == ["real"]
    assert [row["label"] for row in csv.DictReader(io.StringIO(listed.stdout))] == ["real"]
    for told in (done.stderr, listed.stderr):
        assert "2 left out: labels of scans of a part" in told


def test_of_one_owner_alone(veriframe: Veriframe, desk: Desk, config: str, tmp_path: Path) -> None:
    decided(desk, SHA256, "fake", "zenith")
    nothing = veriframe("feedback", "export", "--out", str(tmp_path / "out"), "--owner", "acme", "--config", config)
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    assert "0 labels with their media: none" in nothing.stderr
    assert veriframe("feedback", "list", "--owner", "acme").stdout.count("\n") == 1
    (row,) = csv.DictReader(io.StringIO(veriframe("feedback", "list").stdout))
    assert (row["path"], row["label"], row["url"]) == (f"{SHA256}.mp4", "fake", "https://example.org/a.mp4")


def test_a_folder_of_others_is_refused(veriframe: Veriframe, desk: Desk, config: str, tmp_path: Path) -> None:
    (tmp_path / "MANIFEST.csv").write_text("path,label,source\n")
    refused = veriframe("feedback", "export", "--out", str(tmp_path), "--config", config)
    assert refused.exit_code == 2
    assert "another folder" in refused.stderr


def test_a_long_log_is_read_whole(veriframe: Veriframe, desk: Desk) -> None:
    with desk.records.redis.pipeline() as pipe:
        for number in range(1500):
            entry = {"owner": "acme", "scan": "0" * 32, "sha256": f"{number:064x}", "verdict": "real", "source": {}}
            pipe.xadd(desk.records.key("audit"), {"decision": json.dumps(entry)})
        pipe.execute()
    assert veriframe("feedback", "list").stdout.count("\n") == 1501
