"""``veriframe keys`` against a real Redis."""

from __future__ import annotations

import contextlib
import io
import json
import time
from pathlib import Path

import pytest
from redis import Redis
from typer.testing import CliRunner, Result

from worker.cli import app
from worker.errors import Unauthorized
from worker.queue.access import ApiKeys, Scope
from worker.queue.embedded import EmbeddedRedis
from worker.queue.webhooks import Secrets


@pytest.fixture
def keys(redis_server: EmbeddedRedis, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> ApiKeys:
    monkeypatch.setenv("VERIFRAME_REDIS__URL", redis_server.url)
    monkeypatch.setenv("VERIFRAME_REDIS__NAMESPACE", "test")
    return ApiKeys(redis, "test")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["keys", *arguments])


def test_a_key_from_its_making_to_its_end(keys: ApiKeys) -> None:
    made = run("create", "acme", "--name", "ingest", "--days", "90")
    assert made.exit_code == 0, made.output
    info = keys.authenticate(made.stdout.strip())
    assert (info.owner, info.name, info.scopes) == ("acme", "ingest", {Scope.SCAN, Scope.READ})
    assert info.expires_at is not None
    assert info.id in made.stderr
    assert made.stdout.strip() not in made.stderr
    run("create", "ops", "--scope", "admin", "--scope", "read")
    listed = run("list")
    assert info.id in listed.stdout
    assert "admin read" in listed.stdout
    assert made.stdout.strip().removeprefix(f"vf_{info.id}_") not in listed.stdout
    (row,) = json.loads(run("list", "--owner", "acme", "--json").stdout)
    assert (row["id"], row["scopes"], row["name"]) == (info.id, "read scan", "ingest")
    assert run("revoke", info.id).exit_code == 0
    with pytest.raises(Unauthorized):
        keys.authenticate(made.stdout.strip())
    assert run("revoke", info.id).exit_code == 2


def test_a_key_is_revoked_by_its_token_which_is_not_said_again(keys: ApiKeys) -> None:
    info, token = keys.create("acme", ["read"])
    results = [run("revoke", token), run("revoke", token)]
    assert [result.exit_code for result in results] == [0, 2]
    assert keys.list() == []
    for result in results:
        assert info.id in result.stderr
        assert token.removeprefix(f"vf_{info.id}_") not in result.output


@pytest.mark.parametrize("cut", [slice(-1), slice(1, None), slice(20, None)])
def test_what_is_left_of_a_token_is_refused_and_not_said_again(keys: ApiKeys, cut: slice) -> None:
    _, token = keys.create("acme", ["read"])
    refused = run("revoke", "--", token[cut])
    assert refused.exit_code == 2
    assert token[cut] not in refused.output
    assert token[-12:-1] not in refused.output
    assert len(keys.list()) == 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_narrow_terminal_cuts_no_key(keys: ApiKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    info, _ = keys.create("acme", ("scan", "read"), "ingest", None)
    with contextlib.redirect_stdout(Terminal()) as out:
        app(["keys", "list"], standalone_mode=False)
    assert info.id in out.getvalue()
    assert info.created_at.isoformat(timespec="seconds") in out.getvalue()


@pytest.mark.parametrize(
    "arguments",
    [("create", "Not An Owner"), ("create", "acme", "--scope", "root"), ("create", "acme", "--days", "0"), ("webhook", "A")],
)
def test_what_cannot_be_used_ends_with_2(keys: ApiKeys, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert not result.stdout
    assert keys.list() == []


def test_the_signing_secret_is_shown_and_rotated(keys: ApiKeys, redis: Redis) -> None:
    first = run("webhook", "acme").stdout.split()
    assert run("webhook", "acme").stdout.split() == first
    rotated = run("webhook", "acme", "--rotate").stdout.split()
    assert len(rotated) == 2
    assert rotated[1:] == first
    assert 86000 < (redis.zscore("test:webhook-secrets:acme", first[0]) or 0) / 1000 - time.time() < 86800, "for a day"
    refused = run("webhook", "acme", "--keep-old-s", "0")
    assert (refused.exit_code, refused.stdout) == (2, ""), "a secret that leaked was taken for ended"
    assert "--rotate" in refused.stderr
    (only,) = run("webhook", "acme", "--rotate", "--keep-old-s", "0").stdout.split()
    assert Secrets(redis, "test").current("acme") == (only,)


def test_redis_away(keys: ApiKeys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERIFRAME_REDIS__URL", f"unix://{tmp_path}/none.sock")
    monkeypatch.setenv("VERIFRAME_REDIS__PATIENCE_S", "0.1")
    result = run("list")
    assert result.exit_code == 4
    assert "Redis is away" in result.stderr
