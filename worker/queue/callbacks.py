"""Callbacks in Redis: written with a scan's final state by the records' scripts, taken and ended here, by lease and fence.

Keys below the namespace: ``callback:EVENT`` (hash), ``callbacks`` (EVENT -> when it is due, ms), ``callbacks:dead`` (EVENT ->
when it was given up). All times are Redis's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, cast

from redis import Redis

from worker.queue.connection import scripts_of, translated
from worker.queue.places import batches

State = Literal["waiting", "sending", "delivered", "dead"]
AT_ONCE = 500
"""Dead ones looked at, or sent again, in one round trip."""
LOOKED_AT = 20_000
"""Dead ones of everybody's looked at for one page of an owner's, or one replay, the latest."""
SCRIPTS = ("callback_claim", "callback_begin", "callback_end", "callback_owned", "callback_replay")


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """A callback as Redis holds it. ``tries`` counts those that were sent or failed before that.

    ``last_error`` says why the last one failed.
    """

    id: str
    scan: str
    owner: str
    url: str = field(repr=False)
    type: str
    state: State
    tries: int
    created_ms: int
    last_error: str
    body: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A callback that this courier is to deliver now: its ``tries``-th try."""

    id: str
    fence: int
    tries: int
    owner: str
    url: str = field(repr=False)
    type: str
    body: str = field(repr=False)
    owed_s: float = 0.0
    """How long it had been owed when it was taken."""
    receiver: str = field(default="", repr=False)
    """The owner and the URL's host and port as written, but for capitals, as ``Callbacks.claim`` counts what is under way."""

    @property
    def scan(self) -> str:
        """The scan that it is about: events are named after it."""
        return self.id.removeprefix("evt_").partition("_")[0]


class Callbacks:
    """All that may be done to callbacks after they were written. Every method raises RedisDown while Redis is away."""

    def __init__(self, redis: Redis, namespace: str = "vf") -> None:
        self._redis, self._namespace = redis, namespace
        self._scripts = scripts_of(redis, SCRIPTS)

    def pending(self) -> int:
        """How many are waiting or under way."""
        with translated():
            return int(self._redis.zcard(self._key("callbacks")))

    def given_up(self) -> int:
        """How many dead ones there are, whosever."""
        with translated():
            return int(self._redis.zcard(self._key("callbacks", "dead")))

    def dead(self, limit: int = 100, *, owner: str | None = None) -> list[Callback]:
        """Those given up, the latest first; ``owner`` None: whosever. An owner's are sought among the ``LOOKED_AT`` latest."""
        found: list[Callback] = []
        size, most = (min(limit, AT_ONCE), None) if owner is None else (AT_ONCE, LOOKED_AT // AT_ONCE)
        for events in islice(self._batches(size), most):
            owned: list[bytes] = self._call("callback_owned", owner or "", *events)
            found += self._shown([event.decode() for event in owned[: limit - len(found)]])
            if len(found) >= limit:
                break
        return found

    def show(self, event_id: str) -> Callback | None:
        """None: there is none, or it was delivered long ago."""
        return next(iter(self._shown([event_id])), None)

    def replay(self, event_id: str) -> bool:
        """Try a dead one again from the start, under the same event id. False: it is not dead."""
        return self.replay_some([event_id]) == 1

    def replay_some(self, event_ids: Iterable[str], *, owner: str | None = None) -> int:
        """Try again those of these that are dead and the owner's, None: whosever; how many."""
        return int(self._call("callback_replay", owner or "", *event_ids))

    def replay_latest(self, *, owner: str | None = None) -> int:
        """Try again the owner's, None: everybody's, among the ``LOOKED_AT`` latest dead ones; how many."""
        rounds = islice(self._batches(AT_ONCE), LOOKED_AT // AT_ONCE)
        return sum(self.replay_some(events, owner=owner) for events in rounds)

    def claim(
        self, count: int, *, lease_s: float, share: int, at_one: int | None = None, under_way: Mapping[str, int] | None = None
    ) -> tuple[list[Parcel], float | None]:
        """Up to ``count`` that are due, and the seconds until another look is worth it; None: none waits.

        An owner that has ``share`` under way gets no more, nor does one receiver of it that has ``at_one`` (None: as many);
        receivers that have none come first. What else is due there is put off a little where it hides others'. ``under_way``: by
        owner, and by ``Parcel.receiver``. A claim is no try yet: see ``begin``.
        """
        told = [value for load in (under_way or {}).items() for value in load]
        due_ms, *taken = self._call("callback_claim", int(lease_s * 1000), count, share, at_one or share, *told)
        return [_parcel(parts) for parts in taken], None if due_ms < 0 else due_ms / 1000

    def begin(self, parcel: Parcel) -> int | None:
        """Count the try that is about to be sent; its time, in seconds since 1970. None: like False below."""
        return int(self._call("callback_begin", parcel.id, parcel.fence, parcel.tries)) // 1000 or None

    def delivered(self, parcel: Parcel, *, keep_s: int) -> bool:
        """This and the next two: False where another courier has taken the callback since; then nothing was changed."""
        return self._end(parcel, "delivered", 0, "", keep_s)

    def try_again(self, parcel: Parcel, *, wait_s: float, error: str) -> bool:
        return self._end(parcel, "again", wait_s, error, 0)

    def give_up(self, parcel: Parcel, *, error: str, keep_s: int) -> bool:
        return self._end(parcel, "dead", 0, error, keep_s)

    def _batches(self, count: int) -> Iterator[list[str]]:
        """Ids of so many dead ones at a time, the latest first."""
        with translated():
            yield from batches(self._redis, self._key("callbacks", "dead"), count)

    def _shown(self, event_ids: Sequence[str]) -> list[Callback]:
        """Those of these that are still there."""
        with translated(), self._redis.pipeline(transaction=False) as pipe:
            for event in event_ids:
                pipe.hgetall(self._key("callback", event))
            found = zip(event_ids, pipe.execute(), strict=True)
        return [_callback(event, stored) for event, stored in found if b"body" in stored]

    def _end(self, parcel: Parcel, outcome: str, wait_s: float, error: str, keep_s: int) -> bool:
        args = (parcel.id, parcel.fence, outcome, int(wait_s * 1000), error, keep_s, parcel.tries)
        return bool(self._call("callback_end", *args) == b"ended")

    def _call(self, name: str, *args: Any) -> Any:
        with translated():
            return self._scripts[name](args=[self._namespace, *args])

    def _key(self, *parts: str) -> str:
        return ":".join((self._namespace, *parts))


def _callback(event_id: str, stored: Mapping[bytes, bytes]) -> Callback:
    text = {name.decode(): value.decode(errors="replace") for name, value in stored.items()}
    return Callback(
        id=event_id,
        scan=text["scan"],
        owner=text["owner"],
        url=text["url"],
        type=text["type"],
        state=cast(State, text["state"]),
        tries=int(text["tries"]),
        created_ms=int(float(text["created_ms"])),
        last_error=text["last_error"],
        body=text["body"],
    )


def _parcel(parts: list[Any]) -> Parcel:
    event, fence, tries, owner, url, kind, body, owed_ms, receiver = parts
    # ``replace``: one that cannot be read as text must not keep the courier from all the others.
    return Parcel(
        id=event.decode(),
        fence=int(fence),
        tries=int(tries),
        owner=owner.decode(),
        url=url.decode(errors="replace"),
        type=kind.decode(),
        body=body.decode(errors="replace"),
        owed_s=max(0, int(owed_ms)) / 1000,
        receiver=receiver.decode(errors="replace"),
    )
