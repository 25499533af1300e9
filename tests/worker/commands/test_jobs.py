"""``veriframe jobs`` against a real Redis."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
from redis import Redis

from tests.worker.commands.conftest import Veriframe
from tests.worker.queue.record_steps import request
from tests.worker.queue.scans import NEW_MODEL, OLD_MODEL, complete, fail, submit
from worker.commands.service import AT_ONCE, for_each
from worker.queue.backlog import read_backlog
from worker.queue.callbacks import Callbacks
from worker.queue.desk import Desk
from worker.queue.doorbell import Doorbells
from worker.queue.roster import Roster


def rows(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def ids(text: str) -> list[object]:
    return [row["id"] for row in rows(text)]


def reads(redis: Redis) -> int:
    """How often the server has been sent something, about."""
    return int(redis.info("stats")["total_reads_processed"])


def test_lists_go_on_where_they_ended(veriframe: Veriframe, desk: Desk) -> None:
    wanted = {submit(desk, f"https://example.org/{n}.mp4") for n in range(7)}
    seen: list[object] = []
    more: list[str] = []
    for _ in range(4):
        page = veriframe("jobs", "list", "--limit", "3", "--format", "jsonl", *more)
        assert page.exit_code == 0
        seen += ids(page.stdout)
        if "--cursor" not in page.stderr:
            break
        more = page.stderr.split()[-2:]
    assert sorted(seen, key=str) == sorted(wanted)
    assert set(ids(veriframe("jobs", "list", "--all", "--format", "jsonl").stdout)) == wanted
    assert veriframe("jobs", "list", "--cursor", "nonsense").exit_code == 2


def test_filters(veriframe: Veriframe, desk: Desk) -> None:
    done, dead, theirs = submit(desk, external_id="7"), submit(desk), submit(desk, owner="zenith")
    complete(desk.records, done)
    fail(desk.records, dead, dead=True)

    def listed(*flags: str) -> list[object]:
        return ids(veriframe("jobs", "list", "--format", "jsonl", *flags).stdout)

    assert listed("--status", "queued") == listed("--owner", "zenith") == [theirs]
    assert listed("--verdict", "fake") == listed("--external-id", "7") == [done]
    assert listed("--dead") == [dead]
    table = veriframe("jobs", "list", "--dead").stdout
    assert dead in table
    assert "internal: broken" in table


def test_a_table_of_everybodys_scans_says_whose_each_is(veriframe: Veriframe, desk: Desk) -> None:
    theirs, ours = submit(desk, owner="zenith"), submit(desk)
    whose = {line.split()[0]: line.split()[4] for line in veriframe("jobs", "list").stdout.splitlines() if "queued" in line}
    assert whose == {theirs: "zenith", ours: "acme"}
    assert "zenith" in veriframe("jobs", "list", "--all").stdout
    assert "owner" not in veriframe("jobs", "list", "--owner", "zenith").stdout


def test_show(veriframe: Veriframe, desk: Desk) -> None:
    scan_id = submit(desk, external_id="7")
    complete(desk.records, scan_id)
    shown = json.loads(veriframe("jobs", "show", scan_id).stdout)
    assert (shown["report"]["verdict"], shown["record"]["attempt"]) == ("fake", 1)
    assert (shown["record"]["worker"], shown["request"]["external_id"]) == ("w1", "7")
    assert shown["near_duplicates"] == []
    assert veriframe("jobs", "show", "0" * 32).exit_code == 3
    assert veriframe("jobs", "show", "-", input=f"{scan_id}\n{scan_id}1").exit_code == 2
    assert veriframe("jobs", "show", scan_id, "--owner", "zenith").exit_code == 3


def test_cancel(veriframe: Veriframe, desk: Desk) -> None:
    waiting, done = submit(desk), submit(desk)
    complete(desk.records, done)
    result = veriframe("jobs", "cancel", waiting, done)
    assert (result.exit_code, result.stdout) == (0, f"{waiting}  cancelled\n{done}  completed\n")
    assert desk.record(waiting, None).state == "cancelled"
    assert veriframe("jobs", "cancel", "-", input="0" * 32).exit_code == 3


def test_many_are_cancelled_in_few_round_trips_and_told_in_their_order(veriframe: Veriframe, desk: Desk, redis: Redis) -> None:
    mine = [made.id for made in desk.submit([request(f"https://example.org/{n}.mp4") for n in range(250)], "acme")]
    refused = [submit(desk, owner="zenith"), submit(desk), "0" * 32]
    redis.hset(f"vf:scan:{refused[1]}", "request", "of a later version")
    before = reads(redis)
    result = veriframe("jobs", "cancel", "-", "--owner", "acme", input="\n".join((*mine[:150], *refused, *mine[150:])))
    assert reads(redis) - before < 100
    assert (result.exit_code, result.stdout) == (3, "".join(f"{scan_id}  cancelled\n" for scan_id in mine))
    assert [line.split(": ")[1] for line in result.stderr.splitlines()] == refused
    assert desk.records.states(refused) == [("queued", 0.0), ("queued", 0.0), None]
    assert read_backlog(desk.records).open_scans == {"acme": 1, "zenith": 1}


def test_many_are_retried_in_few_round_trips_and_told_in_their_order(veriframe: Veriframe, desk: Desk, redis: Redis) -> None:
    mine = [made.id for made in desk.submit([request(f"https://example.org/{n}.mp4") for n in range(250)], "acme")]
    desk.cancel_each(mine, None)
    refused = [submit(desk, owner="zenith"), submit(desk), submit(desk), "0" * 32]
    redis.hset(f"vf:scan:{refused[2]}", "request", "of a later version")
    before = reads(redis)
    result = veriframe("jobs", "retry", "-", "--owner", "acme", input="\n".join((*mine[:150], *refused, *mine[150:])))
    assert reads(redis) - before < 100
    assert result.exit_code == 3
    old, new = zip(*(line.split() for line in result.stdout.splitlines()), strict=True)
    assert list(old) == mine
    assert [(record.retry_of, record.state) for record in desk.records.get_many(new)] == [(one, "queued") for one in mine]
    assert [line.split(": ")[1] for line in result.stderr.splitlines()] == refused
    assert Doorbells(redis, "vf").waiting() >= set(new)


def test_what_was_done_is_said_before_more_is_begun(capsys: pytest.CaptureFixture[str]) -> None:
    """So that a command that is killed keeps nothing to itself but what it was at."""
    scan_ids = [f"{number:032x}" for number in range(2 * AT_ONCE + 1)]
    said: list[str] = []
    said_before: list[int] = []

    def act(some: Sequence[str]) -> list[str]:
        said.extend(capsys.readouterr().out.split())
        said_before.append(len(said))
        return [""] * len(some)

    assert for_each(scan_ids, act) == 0
    assert said_before == [0, AT_ONCE, 2 * AT_ONCE]
    assert said + capsys.readouterr().out.split() == scan_ids


@pytest.mark.parametrize("command", [["cancel", "-"], ["retry", "-"], ["decide", "-", "real", "--by", "ada"], ["show", "-"]])
def test_a_list_without_scans_is_told(veriframe: Veriframe, desk: Desk, command: list[str]) -> None:
    """As where a container's standard input was not passed on."""
    result = veriframe("jobs", *command, input="\n")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no scan ids" in result.stderr


def test_dead_letters_are_replayed_once(veriframe: Veriframe, desk: Desk) -> None:
    dead = [submit(desk, external_id=str(n)) for n in range(3)]
    waiting, corrupt = submit(desk), submit(desk)
    for scan_id in dead:
        fail(desk.records, scan_id, dead=True)
    fail(desk.records, corrupt)
    first, second = veriframe("jobs", "retry", "--dead"), veriframe("jobs", "retry", "--dead")
    assert first.exit_code == second.exit_code == 0
    assert second.stdout == ""
    pairs = [line.split() for line in first.stdout.splitlines()]
    assert {old for old, _ in pairs} == set(dead)
    assert {(desk.record(new, None).retry_of, desk.record(new, None).state) for _, new in pairs} == {
        (old, "queued") for old in dead
    }
    assert desk.count(None) == 8
    one = veriframe("jobs", "retry", corrupt, waiting)
    assert one.exit_code == 3
    assert len(one.stdout.splitlines()) == 1
    assert "only one that has ended" in one.stderr
    assert veriframe("jobs", "retry").exit_code == veriframe("jobs", "retry", corrupt, "--dead").exit_code == 2


def test_rescan_twice_scans_once(veriframe: Veriframe, desk: Desk) -> None:
    old, current, waiting = (submit(desk, f"https://example.org/{n}.mp4", idempotency_key=str(n)) for n in range(3))
    complete(desk.records, old, by_model=OLD_MODEL)
    complete(desk.records, current, sha256="cd" * 32, by_model=NEW_MODEL)
    first = veriframe("jobs", "rescan", "--model-not", NEW_MODEL, "--yes")
    assert first.exit_code == 0, first.output
    ((was, new),) = (line.split() for line in first.stdout.splitlines())
    assert was == old
    record = desk.record(new, None)
    assert (record.retry_of, record.request.priority, record.owner) == (old, "low", "acme")
    second = veriframe("jobs", "rescan", "--model-not", NEW_MODEL, "--yes")
    assert (second.exit_code, second.stdout) == (0, "")
    complete(desk.records, new, by_model=NEW_MODEL)
    assert veriframe("jobs", "rescan", "--model-not", NEW_MODEL, "--yes").stdout == ""
    assert desk.count(None) == 4
    assert desk.record(waiting, None).state == "queued"
    assert veriframe("jobs", "rescan", "--model-not", "v2", "--yes").exit_code == 2


def test_a_rescan_says_how_many_it_would_be_and_asks(veriframe: Veriframe, desk: Desk) -> None:
    for number in range(3):
        complete(desk.records, submit(desk, external_id=str(number)), by_model=OLD_MODEL)
    complete(desk.records, submit(desk, owner="zenith"), by_model=OLD_MODEL)
    acme = ("jobs", "rescan", "--model-not", NEW_MODEL, "--owner", "acme")
    assert veriframe(*acme, "--yes", "--dry-run").stdout == "3 would be scanned again\n"
    unasked, refused = veriframe(*acme, input=""), veriframe(*acme, input="n\n")
    assert (unasked.exit_code, refused.exit_code) == (2, 0)
    for told in (unasked, refused):
        assert "Scan 3 again, callbacks included?" in told.stderr
        assert "nothing was queued" in told.stderr
    assert desk.count(None) == 4
    assert veriframe(*acme, input="y\n").exit_code == 0
    assert desk.count("acme") == 6
    assert veriframe(*acme, "--dry-run").stdout == "0 would be scanned again\n"
    assert veriframe(*acme).exit_code == 0, "there is nothing to ask"
    assert desk.count("acme") == 6


def test_purge(veriframe: Veriframe, desk: Desk) -> None:
    done, corrupt, waiting, theirs = submit(desk), submit(desk), submit(desk), submit(desk, owner="zenith")
    complete(desk.records, done)
    fail(desk.records, corrupt)
    complete(desk.records, theirs)
    assert veriframe("jobs", "purge", "--older-than", "1", "--yes").stdout == "0 deleted\n"
    assert veriframe("jobs", "purge", "--owner", "acme", "--dry-run").stdout == "2 would be deleted\n"
    assert veriframe("jobs", "purge", "--owner", "acme", input="n\n").stdout.endswith("0 deleted\n")
    assert veriframe("jobs", "purge", input="").exit_code == 2
    assert desk.count(None) == 4
    assert veriframe("jobs", "purge", "--owner", "acme", "--status", "failed", input="y\n").stdout.endswith("1 deleted\n")
    assert {report.id for report in desk.each(None)} == {done, waiting, theirs}
    assert veriframe("jobs", "purge", "--owner", "acme", "--yes").stdout == "1 deleted\n"
    assert {report.id for report in desk.each(None)} == {waiting, theirs}


def test_decisions_and_their_audit(veriframe: Veriframe, desk: Desk) -> None:
    scan_id, unseen = submit(desk), submit(desk)
    complete(desk.records, scan_id)
    decided = veriframe("jobs", "decide", scan_id, "real", "--by", "ada", "--note", "shot on set")
    assert (decided.exit_code, decided.stdout) == (0, f"{scan_id}  real (human)\n")
    assert veriframe("jobs", "decide", unseen, "real", "--by", "ada").exit_code == 3
    assert veriframe("jobs", "decide", scan_id, "real").exit_code == 2
    (entry,) = rows(veriframe("jobs", "audit").stdout)
    assert (entry["by"], entry["note"], entry["scan"]) == ("ada", "shot on set", scan_id)
    assert veriframe("jobs", "audit", "--owner", "zenith").stdout == ""
    assert "real (human)" in veriframe("status", scan_id).stdout


def test_stats(veriframe: Veriframe, desk: Desk) -> None:
    submit(desk)
    complete(desk.records, submit(desk))
    told = json.loads(veriframe("jobs", "stats").stdout)
    assert (told["waiting"], told["running"], told["ended"], told["open"]) == (1, 0, {"completed": 1}, {"acme": 1})


def test_totals_are_the_sums_of_what_is_told_by_queue(veriframe: Veriframe, desk: Desk, redis: Redis) -> None:
    """Also where lists name what is there no more: each figure has one source."""
    submit(desk)
    desk.records.claim(submit(desk), "w1")
    for name in ("waiting", "leases"):
        redis.zadd(f"vf:{name}", {"0" * 32: 1})
    told = json.loads(veriframe("jobs", "stats").stdout)
    assert (told["waiting"], told["running"], told["open"]) == (1, 1, {"acme": 2})
    for name in ("waiting", "running"):
        assert told[name] == sum(queue[name] for queue in told["queues"].values())


def test_stats_count_scans_and_workers_by_queue_and_list_workers_when_asked(veriframe: Veriframe, desk: Desk) -> None:
    waiting, running = submit(desk), submit(desk)
    desk.records.claim(running, "w1")
    desk.records.redis.zadd("vf:queued:batch", {waiting: desk.records.now_ms() - 60_000})
    roster = Roster(desk.records.redis, "vf")
    facts: dict[str, dict[str, object]] = {
        "w1": {"ready": True, "queues": ["live", "batch"]},
        "w2": {"ready": False, "queues": ["batch"]},
        "w3": {"ready": True, "queues": ["watch"]},
    }
    for name, said in facts.items():
        roster.tell(name, said)
    told = json.loads(veriframe("jobs", "stats").stdout)
    assert told["queues"].keys() == {"live", "batch", "low", "watch"}
    batch = told["queues"]["batch"]
    assert 60 <= batch.pop("oldest_s") < 90
    assert batch == {"waiting": 1, "running": 1, "ready": 1, "starting": 1}
    assert told["queues"]["live"] == {"waiting": 0, "oldest_s": 0, "running": 0, "ready": 1, "starting": 0}
    assert told["alive"] == {"ready": 2, "starting": 1}
    assert "workers" not in told, "hundreds of them hide the rest"
    assert json.loads(veriframe("jobs", "stats", "--workers").stdout)["workers"] == facts


@pytest.mark.parametrize("choice", ["event", "--all"])
def test_dead_callbacks(veriframe: Veriframe, desk: Desk, choice: str) -> None:
    scan_id = submit(desk, callback_url="https://example.org/hook")
    complete(desk.records, scan_id)
    event = f"evt_{scan_id}"
    callbacks = Callbacks(desk.records.redis, "vf")
    (parcel,), _ = callbacks.claim(1, lease_s=30, share=1)
    callbacks.give_up(parcel, error="503", keep_s=60)
    (listed,) = rows(veriframe("jobs", "callbacks").stdout)
    assert (listed["id"], listed["scan"], listed["last_error"]) == (event, scan_id, "503")
    again = veriframe("jobs", "callbacks", "--replay", event if choice == "event" else choice)
    assert (again.exit_code, again.stdout) == (0, f"{event}  waiting\n")
    assert callbacks.pending() == 1
    assert veriframe("jobs", "callbacks").stdout == ""
    assert veriframe("jobs", "callbacks", "--replay", event).exit_code == 3
    assert veriframe("jobs", "callbacks", "--replay").exit_code == veriframe("jobs", "callbacks", event).exit_code == 2


@pytest.mark.parametrize("page", ["alerts.md", "runbook.md"])
def test_the_commands_of_the_pages_for_an_emergency_can_be_given(veriframe: Veriframe, page: str) -> None:
    """Those without placeholders, as far as a pipe."""
    text = (Path(__file__).parents[3] / "docs" / page).read_text("utf-8")
    told = {line.partition("|")[0] for line in re.findall(r"(?:`|^)veriframe (jobs [^`#]+)[`#]", text, re.MULTILINE)}
    commands = [line for line in told if not re.search("[A-Z]", line)]
    assert "jobs stats" in {" ".join(line.split()) for line in commands}
    assert [line for line in commands if veriframe(*shlex.split(line)).exit_code != 0] == []
