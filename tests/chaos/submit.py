"""The submitter: keeps the queue a little fuller than the workers are, and writes down every id that it was given."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from redis.exceptions import RedisError

from tests.chaos.ledger import Ledger
from tests.chaos.recovery import Hit, Watch
from tests.chaos.scans import Wish
from tests.chaos.victims import CALLBACK
from worker.errors import RedisDown
from worker.queue.desk import Desk
from worker.queue.record import Submission

PACE_S = 0.05
CANCEL_AFTER_S = 1.0


@dataclass(slots=True, kw_only=True)
class Submitter:
    """At least ``scans`` scans, and as many more as the faults need; never more than ``window`` open ones, until ``finish``."""

    desk: Desk
    mix: Iterator[Wish]
    ledger: Ledger
    watch: Watch
    scans: int
    window: int
    is_done: bool = False
    _wishes: dict[str, Wish] = field(default_factory=dict)
    _hit: set[tuple[str, str]] = field(default_factory=set)
    _to_cancel: dict[str, float] = field(default_factory=dict)
    _finish: threading.Event = field(default_factory=threading.Event)

    def run(self, stop: threading.Event) -> None:
        while not stop.wait(PACE_S):
            self._cancel()
            is_last = self._finish.is_set()
            if len(self._wishes) >= self.scans and is_last:
                self.is_done = not self._to_cancel
            elif is_last or len(self.watch.open) < self.window:
                self._submit(next(self.mix))

    @property
    def accepted(self) -> int:
        return len(self._wishes)

    def finish(self) -> None:
        """The faults are over: what is still to be submitted goes in at once."""
        self._finish.set()

    def may_be_hit(self, scan: str, stage: str) -> bool:
        """Only what completes in the end, and each scan and each callback once: attempts are limited, rightly."""
        wish = self._wishes.get(scan)
        about = CALLBACK if stage == CALLBACK else "scan"
        return wish is not None and wish.is_good and (scan, about) not in self._hit

    def was_hit(self, hit: Hit) -> None:
        self._hit.add((hit.scan, CALLBACK if hit.stage == CALLBACK else "scan"))

    def is_real(self, scan: str) -> bool:
        return scan in self._wishes and self._wishes[scan].kind == "clip"

    def _submit(self, wish: Wish) -> None:
        for _ in range(wish.times):
            submission = Submission(request=wish.request, owner=wish.owner)
            scan = self._send(submission)
            self.ledger.add(
                {
                    "id": scan,
                    "owner": wish.owner,
                    "key": wish.request.idempotency_key,
                    "callback": wish.request.callback_url is not None,
                    "at": time.time(),
                    **wish.expected,
                }
            )
            self._wishes[scan] = wish
        with self.watch.lock:
            self.watch.open.add(scan)
        if wish.cancel:
            self._to_cancel[scan] = time.monotonic() + CANCEL_AFTER_S

    def _send(self, submission: Submission) -> str:
        """Sent again under the same id it is the same scan, however often Redis went away in between."""
        while True:
            try:
                (made,) = self.desk.send([submission])
            except (RedisDown, RedisError) as exc:
                print(f"  the submitter sends again: {type(exc).__name__}", flush=True)
                time.sleep(0.2)
                continue
            if made.refusal is not None:
                raise made.refusal
            return made.id

    def _cancel(self) -> None:
        now = time.monotonic()
        for scan in [scan for scan, due in self._to_cancel.items() if now > due]:
            try:
                self.desk.cancel(scan, None)
            except (RedisDown, RedisError):
                continue
            del self._to_cancel[scan]
