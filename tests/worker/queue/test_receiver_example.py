"""The example receiver as a process, and the verify functions of the documentation, against our courier and our signatures."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from redis import Redis

from worker.queue.callbacks import Callbacks
from worker.queue.courier import Courier
from worker.queue.webhooks import Secrets, new_secret, sign
from worker.source.client import guarded_client
from worker.source.guard import AddressGuard

REPOSITORY = Path(__file__).parents[3]
DOCUMENT = REPOSITORY / "docs" / "callbacks.md"
BODY = '{"type": "scan.completed", "data": {"id": "s1", "name": "Zoë"}}'


@contextmanager
def example(secrets: str, log: Path) -> Iterator[str]:
    command = [sys.executable, str(REPOSITORY / "deploy/examples/callback_receiver.py"), "--port", "0", "--log", str(log)]
    environment = os.environ | {"VERIFRAME_WEBHOOK_SECRETS": secrets, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[-1]
        finally:
            process.kill()


def post(redis: Redis, url: str, event: str) -> None:
    fields = {"scan": "s1", "owner": "acme", "url": url, "type": "scan.completed", "body": BODY, "created_ms": 1, "tries": 0}
    redis.hset(f"vf:callback:{event}", mapping={**fields, "state": "waiting", "fence": 0, "last_error": ""})
    redis.zadd("vf:callbacks", {event: 1})


def test_the_example_takes_each_event_once_also_after_a_restart(redis: Redis, tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    guard = AddressGuard(allow_private_hosts=["127.0.0.1"])
    courier = Courier(redis, open_client=lambda ends_at: guarded_client(guard, ends_at=ends_at))
    secrets = Secrets(redis).current("acme")
    for sent in (["evt_1", "evt_2", "evt_1"], ["evt_2", "evt_3"]):
        with example(" ".join((new_secret(), *secrets)), log) as url:
            for event in sent:
                post(redis, url + "/hook", event)
                courier.run_once()
                found = Callbacks(redis).show(event)
                assert found is not None
                assert (found.state, found.last_error) == ("delivered", "")
        with log.open("a") as file:
            file.write('{"event": "evt_half')  # as a kill leaves it
    lines = [json.loads(line) for line in log.read_text().splitlines()[:-1]]
    assert [line["event"] for line in lines] == ["evt_1", "evt_2", "evt_3"]
    assert lines[0]["body"] == json.loads(BODY)


def test_the_example_refuses_what_is_not_signed(tmp_path: Path) -> None:
    secret, log = new_secret(), tmp_path / "events.jsonl"
    with example(secret, log) as url, httpx.Client(trust_env=False) as client:

        def status(body: str, headers: dict[str, str]) -> int:
            return client.post(url, content=body, headers=headers).status_code

        now = int(time.time())
        assert status(BODY, {}) == 401
        assert status(BODY, sign("evt_1", now, BODY, [new_secret()])) == 401
        assert status(BODY, sign("evt_1", now - 1000, BODY, [secret])) == 401
        assert status("not JSON", sign("evt_1", now, "not JSON", [secret])) == 400
        assert status("x" * (2 << 20), {}) == 413
        assert log.read_text() == ""
        assert status(BODY, sign("evt_1", now, BODY, [secret])) == 200


def snippet(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(), flags=re.DOTALL)
    return str(found)


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_the_documented_javascript() -> None:
    secret = new_secret()
    good = sign("evt_1", int(time.time()), BODY, [new_secret(), secret])
    cases = [
        ("evt_1", good, BODY),
        (None, good, BODY + " "),
        (None, sign("evt_1", int(time.time()) - 400, BODY, [secret]), BODY),
        (None, sign("evt_1", int(time.time()), BODY, [new_secret()]), BODY),
        (None, {}, BODY),
    ]
    program = (
        snippet("js")
        + """
for (const [headers, body] of JSON.parse(process.argv[1])) {
  try { console.log(verify(headers, Buffer.from(body), [process.argv[2]])) } catch (error) { console.log(error.message) }
}"""
    )
    asked = json.dumps([(headers, body) for _, headers, body in cases])
    said = subprocess.run(["node", "-e", program, asked, secret], capture_output=True, text=True, check=True, timeout=60).stdout
    assert said.splitlines() == [expected or "bad signature" for expected, _, _ in cases]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_the_documented_shell(tmp_path: Path) -> None:
    secret = new_secret()
    headers = sign("evt_1", int(time.time()), BODY, [secret])
    (tmp_path / "body").write_text(BODY)
    given = {"id": "evt_1", "timestamp": headers["webhook-timestamp"], "secret": secret}
    first, *others = snippet("sh").splitlines()
    assert [word.partition("=")[0] for word in shlex.split(first, comments=True)] == list(given), "they are set, to be replaced"
    script = "\n".join([*(f"{name}={shlex.quote(value)}" for name, value in given.items()), *others])
    said = subprocess.run(["sh", "-eu", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert f"v1,{said}" == headers["webhook-signature"]
