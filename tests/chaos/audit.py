"""The auditor: what was submitted, what Redis holds, what the receiver got and what is left on the machine, compared.

It shares no code with ``worker``: records are read by redis-py as docs and scripts describe them, signatures are checked by the
Standard Webhooks text (https://www.standardwebhooks.com). Run it when the workers have ended and Redis still runs.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis import Redis

from tests.chaos.ledger import RunFolder, read_lines

FINAL = ("completed", "failed", "cancelled")
QUEUED = ("queued:live", "queued:batch", "queued:low", "queued:watch")
ADDED_BEHIND_THE_END = {"phash"}
"""What copies are found by: it is written once, when the scan has ended, and decides nothing."""
SKEW_S = 300
SHM = Path("/dev/shm")


@dataclass(slots=True)
class Audit:
    """``wrong`` says, check by check, what is not as it must be; an empty one is green."""

    folder: RunFolder
    redis: Redis
    namespace: str
    shm_before: set[str]
    wrong: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    counts: Counter[str] = field(default_factory=Counter)

    def run(self) -> bool:
        submitted = self._submitted()
        records = {scan: self._record(scan) for scan in submitted}
        self._check_records(submitted, records)
        self._check_nothing_waits(submitted, records)
        self._check_ends(records)
        self._check_callbacks(submitted, records)
        self._check_machine()
        return not any(self.wrong.values())

    # --- the list of submissions

    def _submitted(self) -> dict[str, dict[str, Any]]:
        """By scan id. Twins (submissions of one idempotency key) must have been told one id."""
        by_id: dict[str, dict[str, Any]] = {}
        by_key: dict[str, set[str]] = defaultdict(set)
        for line in read_lines(self.folder.submissions):
            self.counts["submissions"] += 1
            if line["key"]:
                by_key[f"{line['owner']} {line['key']}"].add(line["id"])
                self.counts["twins"] += line["id"] in by_id
            elif line["id"] in by_id:
                self.wrong["twins"].append(f"{line['id']} was given to two submissions without an idempotency key")
            by_id[line["id"]] = line
        for key, ids in by_key.items():
            if len(ids) != 1:
                self.wrong["twins"].append(f"one idempotency key, {len(ids)} scans: {sorted(ids)} ({key})")
        self.counts["scans"] = len(by_id)
        return by_id

    # --- Redis

    def _key(self, *parts: str) -> str:
        return ":".join((self.namespace, *parts))

    def _record(self, scan: str) -> dict[str, bytes]:
        stored: Any = self.redis.hgetall(self._key("scan", scan))
        return {name.decode(): value for name, value in stored.items()}

    def _check_records(self, submitted: dict[str, dict[str, Any]], records: dict[str, dict[str, bytes]]) -> None:
        index: Any = self.redis.zrange(self._key("index"), 0, -1)
        for unknown in sorted({scan.decode() for scan in index} - set(submitted)):
            self.wrong["doubled"].append(f"{unknown} is on record and was never accepted")
        for scan, record in records.items():
            if not record:
                self.wrong["lost"].append(f"{scan} was accepted and is not on record")
                continue
            state = record["state"].decode()
            self.counts[f"state {state}"] += 1
            self.counts["attempts beyond the first"] += max(0, int(record["attempt"]) - 1)
            if state not in FINAL or not record.get("finished_ms"):
                self.wrong["lost"].append(f"{scan} has not ended: it is {state}")
            elif state not in submitted[scan]["states"]:
                told = f"{state} {record.get('error', b'').decode()}"
                self.wrong["unexpected"].append(f"{scan} is {told}, expected {submitted[scan]['states']}")
            elif state == "completed":
                self._check_result(scan, submitted[scan], record)
            elif state == "failed":
                self._check_failure(scan, submitted[scan], record)
        ended: Any = self.redis.hgetall(self._key("ended"))
        for state in FINAL:
            times, found = int(ended.get(state.encode(), 0)), self.counts[f"state {state}"]
            if times != found:
                self.wrong["doubled"].append(f"{times} scans were ended as {state}, {found} are on record")

    def _check_result(self, scan: str, submission: dict[str, Any], record: dict[str, bytes]) -> None:
        try:
            report = json.loads(zlib.decompress(record["report"]))
        except (KeyError, zlib.error, ValueError):
            self.wrong["lost"].append(f"{scan} is completed and its result is not there")
            return
        if (report["id"], report["status"]) != (scan, "completed"):
            self.wrong["overwritten"].append(f"{scan} has the result of {report['id']}, {report['status']}")
        if submission["sha256"] and record.get("sha256", b"").decode() != submission["sha256"]:
            self.wrong["overwritten"].append(f"{scan} has the result of other bytes")
        for name in ("verdict", "score"):
            if submission.get(name) is not None and report[name] != submission[name]:
                self.wrong["overwritten"].append(f"{scan}: {name} {report[name]}, expected {submission[name]}")

    def _check_failure(self, scan: str, submission: dict[str, Any], record: dict[str, bytes]) -> None:
        error = json.loads(record.get("error") or b"{}")
        if error.get("code") not in submission["codes"]:
            self.wrong["unexpected"].append(f"{scan} failed with {error}, expected {submission['codes']}")
        is_listed = self.redis.zscore(self._key("dead"), scan) is not None
        if is_listed != (record["dead"] == b"1"):
            self.wrong["unexpected"].append(f"{scan}: dead letter {record['dead']!r}, listed {is_listed}")

    def _check_nothing_waits(self, submitted: dict[str, dict[str, Any]], records: dict[str, dict[str, bytes]]) -> None:
        for name in ("waiting", *QUEUED, "leases", "callbacks"):
            left: Any = self.redis.zrange(self._key(name), 0, -1)
            self.wrong["left in Redis"] += [f"{one.decode()} is still among the {name}" for one in left]
        for key in self.redis.scan_iter(self._key("followers", "*")):
            self.wrong["left in Redis"].append(f"{key.decode()} still has members")
        open_scans: Any = self.redis.hgetall(self._key("open"))
        for owner, count in open_scans.items():
            if int(count) != 0:
                self.wrong["left in Redis"].append(f"{owner.decode()} counts {int(count)} open scans")

    def _check_ends(self, records: dict[str, dict[str, bytes]]) -> None:
        """A final record never changes: each is as it was when it was first seen to be final."""
        seen: dict[str, dict[str, Any]] = {}
        for line in read_lines(self.folder.ends):
            if seen.setdefault(line["id"], line)["digest"] != line["digest"]:
                self.wrong["overwritten"].append(f"{line['id']} was seen to end twice, differently")
        for scan, record in records.items():
            if record and scan not in seen:
                self.wrong["lost"].append(f"{scan}: nobody saw its end")
            elif record and seen[scan]["digest"] != digest(record):
                self.wrong["overwritten"].append(f"{scan} is not as it ended ({seen[scan]['state']}, then {record['state']!r})")

    # --- the receiver

    def _check_callbacks(self, submitted: dict[str, dict[str, Any]], records: dict[str, dict[str, bytes]]) -> None:
        requests: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for line in read_lines(self.folder.received):
            requests[line["id"]].append(line)
        self.counts["callbacks received"] = sum(len(lines) for lines in requests.values())
        wanted = {f"evt_{scan}": scan for scan, submission in submitted.items() if submission["callback"]}
        for event in sorted(set(requests) - set(wanted)):
            self.wrong["callbacks"].append(f"{event} was delivered and belongs to no scan that wants a callback")
        secrets = {owner: self._secrets(owner) for owner in {line["owner"] for line in submitted.values()}}
        for event, scan in wanted.items():
            lines = requests.get(event, [])
            self.counts["callbacks beyond the first"] += max(0, len(lines) - 1)
            if not any(200 <= line["answered"] < 300 for line in lines):
                self.wrong["callbacks"].append(f"{event} was never delivered ({len(lines)} tries came)")
            for line in lines:
                self._check_signature(line, secrets[submitted[scan]["owner"]])
            if len({line["body"] for line in lines}) > 1:
                self.wrong["callbacks"].append(f"{event} contradicts itself: one id, different bodies")
            for line in lines:
                self._check_body(line, scan, records[scan])

    def _secrets(self, owner: str) -> list[bytes]:
        found: Any = self.redis.zrange(self._key("webhook-secrets", owner), 0, -1)
        return [base64.b64decode(secret.removeprefix(b"whsec_")) for secret in found]

    def _check_signature(self, line: dict[str, Any], secrets: list[bytes]) -> None:
        signed = f"{line['id']}.{line['timestamp']}.{line['body']}".encode()
        expected = {"v1," + base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode() for secret in secrets}
        if expected.isdisjoint(line["signature"].split()):
            self.wrong["callbacks"].append(f"{line['id']} came with a signature that is not its owner's")
        elif abs(line["time"] - int(line["timestamp"])) > SKEW_S:
            self.wrong["callbacks"].append(f"{line['id']} was signed for another time")

    def _check_body(self, line: dict[str, Any], scan: str, record: dict[str, bytes]) -> None:
        body = json.loads(line["body"])
        data, state = body["data"], record.get("state", b"").decode()
        if (body["type"], data["id"], data["status"]) != (f"scan.{state}", scan, state):
            self.wrong["callbacks"].append(f"{line['id']} says {body['type']} of {data['id']}, the record says {state} of {scan}")
        elif state == "completed" and record.get("report"):
            report = json.loads(zlib.decompress(record["report"]))
            if data["verdict"] != report["verdict"] or not _same(data["score"], report["score"]):
                self.wrong["callbacks"].append(f"{line['id']} says {data['verdict']}, the result says {report['verdict']}")
        elif state == "failed" and data["error"]["code"] != json.loads(record["error"])["code"]:
            self.wrong["callbacks"].append(f"{line['id']} says {data['error']['code']}, the record says {record['error']!r}")

    # --- the machine

    def _check_machine(self) -> None:
        marker = str(self.folder.temp).encode()
        for pid, command in processes_with(marker):
            self.wrong["orphans"].append(f"process {pid} still runs: {command}")
        for place in (self.folder.temp, self.folder.scratch):
            self.wrong["temporary files"] += [str(path) for path in sorted(place.rglob("*"))]
        self.wrong["shared memory"] += [f"{SHM / name} belongs to nobody" for name in sorted(unowned_shm() - self.shm_before)]

    def table(self) -> str:
        kinds = ("lost", "doubled", "overwritten", "unexpected", "twins", "left in Redis", "callbacks", "orphans")
        lines = [f"  {name:<28}{self.counts[name]:>6}" for name in ("submissions", "scans", "twins")]
        lines += [f"  {state:<28}{self.counts[f'state {state}']:>6}" for state in FINAL]
        for name in ("attempts beyond the first", "callbacks received", "callbacks beyond the first"):
            lines.append(f"  {name:<28}{self.counts[name]:>6}")
        lines += [f"  {name} = {len(self.wrong[name])}" for name in (*kinds, "temporary files", "shared memory")]
        found = [f"  {name}: {what}" for name, whats in self.wrong.items() for what in whats]
        return "\n".join(["auditor", *lines, *found[:200], "  green" if not found else "  RED"])


def digest(record: dict[str, bytes]) -> str:
    """Of all that a final record says, but for what is added behind the end."""
    told = [(name, record[name].hex()) for name in sorted(set(record) - ADDED_BEHIND_THE_END)]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def processes_with(marker: bytes) -> Iterator[tuple[int, str]]:
    """Living processes whose environment has the marker, which every process under test inherits."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            if marker in (folder / "environ").read_bytes() and _state(folder) not in "ZX":
                yield int(folder.name), (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200]
        except OSError:  # it has just ended, or is another user's
            continue


def unowned_shm() -> set[str]:
    """Files in shared memory that no process has mapped or open."""
    names = {path.name for path in SHM.iterdir()} if SHM.is_dir() else set()
    for folder in Path("/proc").iterdir():
        if not names or not folder.name.isdigit():
            continue
        try:
            maps = (folder / "maps").read_text(errors="replace")
            entries = list((folder / "fd").iterdir())
        except OSError:
            continue
        opened = {_link(entry) for entry in entries}
        names = {name for name in names if f"{SHM / name}" not in maps and f"{SHM / name}" not in opened}
    return names


def _link(entry: Path) -> str:
    try:
        return os.readlink(entry)
    except OSError:  # closed since it was listed
        return ""


def _state(folder: Path) -> str:
    return (folder / "stat").read_text().rpartition(")")[2].split()[0]


def _same(one: float | None, other: float | None) -> bool:
    return one == other if one is None or other is None else abs(one - other) < 1e-9


def audit(root: Path) -> int:
    """Print the comparison; 0: all is as it must be, 1: it is not."""
    folder = RunFolder(root)
    facts = json.loads(folder.facts.read_text())
    with Redis.from_url(facts["redis"]) as redis:
        made = Audit(folder, redis, facts["namespace"], set(facts["shm_before"]))
        is_green = made.run()
    print(made.table())
    return 0 if is_green else 1
