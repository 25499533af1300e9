"""A service brought up by ``veriframe up``, the demo scanned: one for all processes of a test run, as long as any needs it."""

from __future__ import annotations

import contextlib
import fcntl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.worker.queue.receivers import soon
from worker.report import Report

LIMIT_S = 400
SETTINGS = {
    "queue": {"max_attempts": 1},
    "source": {"allow_private_hosts": ["127.0.0.1"], "retries": 0, "patience_s": 0},
    "model": {"backend": "onnxruntime"},
    "api": {"requests_per_minute": 100_000},
}
"""One attempt, so that a failure is a dead letter at once; addresses of the tests' own; tests that ask often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What ``up`` printed, and where it runs."""

    folder: Path
    config: Path
    api: str
    console: str
    key: str

    def call(self, method: str, path: str, **given: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.key}"}
        answer = httpx.request(method, self.api + path, headers=headers, timeout=60, trust_env=False, **given)
        answer.raise_for_status()
        return answer

    def submit(self, url: str, external_id: str) -> str:
        return str(self.call("POST", "/v1/scans", json={"source": {"url": url}, "external_id": external_id}).json()["id"])

    def scan(self, external_id: str) -> str:
        """The id of the latest scan of this name."""
        return str(self.call("GET", "/v1/scans", params={"external_id": external_id, "limit": 1}).json()["scans"][0]["id"])

    def report(self, scan_id: str) -> Report:
        return Report.model_validate_json(self.call("GET", f"/v1/scans/{scan_id}").content)

    def ended(self, scan_id: str) -> Report:
        assert soon(lambda: self.report(scan_id).status in ("completed", "failed", "cancelled"), within_s=120)
        return self.report(scan_id)


def veriframe(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "worker.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)


def up(folder: Path, config: Path) -> tuple[Site, str]:
    """The site, and what was said on the way."""
    done = veriframe("up", "--port", "0", "--dir", str(folder), "--config", str(config))
    assert done.returncode == 0, done.stderr
    told = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    return Site(folder=folder, config=config, api=told["API"], console=told["console"], key=told["key"]), done.stderr


@contextlib.contextmanager
def shared_site(shared: Path) -> Iterator[Site]:
    """The first to come brings it up, the last to go takes it down. ``shared``: a folder that all of them have in common."""
    place = shared / "browser-site"
    place.mkdir(exist_ok=True)
    config = place / "config.yaml"
    config.write_text(yaml.safe_dump(SETTINGS))
    with _counted(place, 1):
        site, _ = up(place / "run", config)
    try:
        yield site
    finally:
        with _counted(place, -1) as users:
            if users == 0:
                done = veriframe("down", "--dir", str(site.folder))
                assert done.returncode == 0, done.stderr
                assert not site.folder.exists()


@contextlib.contextmanager
def _counted(place: Path, change: int) -> Iterator[int]:
    """How many use it with this change; nobody else begins or ends meanwhile."""
    with (place / "users").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        users = int(file.read() or 0) + change
        file.truncate(0)
        file.write(str(users))
        file.flush()
        yield users
