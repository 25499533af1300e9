"""The courier delivers callbacks: signed, at least once each, under one event id, for hours if it must.

A callback that a courier has taken is due again when its lease ends, so one that dies in mid-send loses nothing; what a
paused one reports after that is refused.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from redis import Redis

from worker.errors import RedisDown
from worker.queue.callbacks import Callbacks, Parcel
from worker.queue.delivery import Answer, OpenClient, plain, post
from worker.queue.webhooks import Secrets, sign
from worker.telemetry.catalogue import CALLBACK_DELAY, DELIVERIES
from worker.telemetry.context import about
from worker.telemetry.port import SILENT, Telemetry

log = logging.getLogger(__name__)

POLL_S = 0.5
AWAY_S, AWAY_MAX_S = 0.5, 10.0
DEAD_KEPT_S = 30 * 86400
"""So long a callback that was given up can be replayed."""


class Courier:
    """Delivers what is due, ``parallel`` callbacks at a time, at most half as many of one owner's, and one less of these to one
    receiver: one that hangs leaves a hand for the owner's others. Hands that become free go first to receivers that have none.

    The clients that ``open_client`` makes guard the addresses. After ``attempts`` tries a callback is dead; they are
    ``backoff_s`` apart at first, four times more after each, at most ``backoff_max_s``, all with full jitter
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """

    def __init__(
        self,
        redis: Redis,
        namespace: str = "vf",
        *,
        open_client: OpenClient,
        attempts: int = 8,
        backoff_s: float = 5,
        backoff_max_s: float = 4 * 3600,
        timeout_s: float = 15,
        lease_s: float = 30,
        parallel: int = 8,
        keep_s: int = 7 * 86400,
        telemetry: Telemetry = SILENT,
    ) -> None:
        self.callbacks = Callbacks(redis, namespace)
        self._secrets = Secrets(redis, namespace)
        self._open_client = open_client
        self._attempts, self._backoff_s, self._backoff_max_s = attempts, backoff_s, backoff_max_s
        self._timeout_s, self._lease_s, self._parallel = timeout_s, lease_s, parallel
        self._keep_s = keep_s
        self._telemetry = telemetry

    def run(self, stop: threading.Event) -> None:
        """Deliver until ``stop`` is set; then what is being sent is finished. Redis's absence is ridden out."""
        away_s = AWAY_S
        with _Crew(self._parallel, self._deliver) as crew:
            while not stop.is_set():
                try:
                    pause_s = self._hand_out(crew)
                    away_s = AWAY_S
                except RedisDown as exc:
                    log.warning("callbacks wait for Redis: %s", exc)
                    stop.wait(random.uniform(away_s / 2, away_s))
                    away_s = min(away_s * 2, AWAY_MAX_S)
                    continue
                if crew.is_idle:
                    stop.wait(pause_s)
                else:
                    crew.wait(pause_s)

    def run_once(self) -> int:
        """Deliver until nothing is due; how many tries that took. Raises RedisDown."""
        with _Crew(self._parallel, self._deliver) as crew:
            while True:
                pause_s = self._hand_out(crew)
                if crew.is_idle:
                    return crew.begun
                crew.wait(pause_s)

    def _hand_out(self, crew: _Crew) -> float:
        """Take what is due and there are hands for; how long to wait before the next look, in seconds."""
        crew.rest()
        if crew.free == 0:
            return POLL_S
        share = max(self._parallel // 2, 1)
        parcels, due_s = self.callbacks.claim(
            crew.free, lease_s=self._lease_s, share=share, at_one=max(share - 1, 1), under_way=crew.under_way()
        )
        for parcel in parcels:
            crew.begin(parcel)
        if parcels and crew.free:
            return 0
        return min(due_s, POLL_S) if due_s else POLL_S

    def _deliver(self, parcel: Parcel) -> None:
        """One try and its outcome, within the lease."""
        with about(scan_id=parcel.scan, callback=parcel.id):
            self._deliver_now(parcel, time.monotonic())

    def _deliver_now(self, parcel: Parcel, taken_s: float) -> None:
        deadline_s = taken_s + self._lease_s
        try:
            answer = self._send(parcel)
        except RedisDown as exc:
            log.warning("callback %s waits for Redis: %s", parcel.id, exc)
            return
        except Exception as exc:  # the outermost boundary of a try: what cannot be sent must come to an end, too
            log.error("callback %s could not be sent", parcel.id, exc_info=exc)
            answer = Answer(outcome="again", error=type(exc).__name__)
        if answer is None:
            log.info("callback %s was taken over by another courier", parcel.id)
            return
        owed_s = parcel.owed_s + time.monotonic() - taken_s
        while not self._report(parcel, answer, owed_s):
            if time.monotonic() > deadline_s:
                log.warning("callback %s: the outcome could not be stored; it will be sent again", parcel.id)
                return
            time.sleep(AWAY_S)

    def _send(self, parcel: Parcel) -> Answer | None:
        """None: it is another courier's by now. The try counts when Redis has answered all that is asked before it is sent."""
        secrets = self._secrets.current(parcel.owner)
        begun_s = self.callbacks.begin(parcel)
        if begun_s is None:
            return None
        headers = sign(parcel.id, begun_s, parcel.body, secrets)
        return post(self._open_client, parcel.url, parcel.body, headers, self._timeout_s)

    def _report(self, parcel: Parcel, answer: Answer, owed_s: float) -> bool:
        """Store an outcome; False while Redis is away. ``owed_s``: how long it had been owed when it was answered."""
        is_last = answer.outcome == "dead" or parcel.tries >= self._attempts
        outcome = "delivered" if answer.outcome == "delivered" else "dead" if is_last else "retry"
        try:
            held = self._store(parcel, answer, outcome)
        except RedisDown:
            return False
        if not held:
            log.info("callback %s was taken over by another courier", parcel.id)
            return True
        self._telemetry.count(DELIVERIES, outcome)
        if outcome == "delivered":
            self._telemetry.observe(CALLBACK_DELAY, owed_s)
        return True

    def _store(self, parcel: Parcel, answer: Answer, outcome: str) -> bool:
        where = plain(parcel.url)
        if outcome == "delivered":
            log.info("callback %s delivered to %s", parcel.id, where)
            return self.callbacks.delivered(parcel, keep_s=self._keep_s)
        if outcome == "dead":
            log.warning("callback %s to %s given up after %d tries: %s", parcel.id, where, parcel.tries, answer.error)
            return self.callbacks.give_up(parcel, error=answer.error, keep_s=DEAD_KEPT_S)
        wait_s = self._wait_s(parcel.tries, answer.retry_after_s)
        log.info("callback %s to %s, try %d: %s; again in %.0f s", parcel.id, where, parcel.tries, answer.error, wait_s)
        return self.callbacks.try_again(parcel, wait_s=wait_s, error=answer.error)

    def _wait_s(self, tries: int, asked_s: float | None) -> float:
        """A receiver may ask for longer than the back-off, not for longer than the longest one."""
        ceiling_s = min(self._backoff_s * 4.0 ** min(tries - 1, 64), self._backoff_max_s)
        return max(random.uniform(0, ceiling_s), min(asked_s or 0.0, self._backoff_max_s))


class _Crew:
    """Threads that deliver, at most ``size`` at a time; on exit, those under way are waited for."""

    def __init__(self, size: int, deliver: Callable[[Parcel], None]) -> None:
        self._size, self._deliver = size, deliver
        self._pool = ThreadPoolExecutor(size, thread_name_prefix="courier")
        self._under_way: dict[Future[None], Parcel] = {}
        self.begun = 0

    def __enter__(self) -> _Crew:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(wait=True)
        self.rest()

    @property
    def free(self) -> int:
        return self._size - len(self._under_way)

    @property
    def is_idle(self) -> bool:
        return not self._under_way

    def under_way(self) -> Counter[str]:
        """How many of each owner's, and to each receiver."""
        return Counter(name for parcel in self._under_way.values() for name in (parcel.owner, parcel.receiver))

    def begin(self, parcel: Parcel) -> None:
        self._under_way[self._pool.submit(self._deliver, parcel)] = parcel
        self.begun += 1

    def wait(self, timeout_s: float) -> None:
        """Until one has ended, or so long."""
        wait(self._under_way, timeout=timeout_s, return_when=FIRST_COMPLETED)

    def rest(self) -> None:
        """Let go of those that ended. An error that could not even be stored is logged; the lease brings it back."""
        for done in [future for future in self._under_way if future.done()]:
            del self._under_way[done]
            if error := done.exception():
                log.error("a callback could not be handled", exc_info=error)
