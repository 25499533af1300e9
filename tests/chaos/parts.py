"""Each part of the service is killed and started again under load; the dashboards must show it, and that it is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tests.chaos.crew import Crew
from tests.chaos.faults import Saboteur
from tests.chaos.recovery import Hit
from tests.chaos.spectator import Sight, Spectator

SHOWN_S = 90.0
OVER_S = 180.0
LOOK_S = 0.25
GONE_S = 4.0
OLDER_S = 5.0


def some(value: float) -> bool:
    return value > 0


def none(value: float) -> bool:
    return value == 0


DIED = Sight(board="workers", panel="Scanning processes", labels={"reason": "died"}, holds=some, words="a process died")
NONE_DIES = Sight(board="workers", panel="Scanning processes", labels={"reason": "died"}, holds=none, words="none dies")
AGAIN = Sight(board="overview", panel="Further attempts", labels={"code": "internal"}, holds=some, words="another attempt")
TAKEN = Sight(board="workers", panel="Reconciler", labels={"action": "requeued"}, holds=some, words="its scan was taken from it")
ENDS = Sight(board="overview", panel="Scans ended", labels={"status": "completed"}, holds=some, words="scans end")
ENDS_BEFORE = replace(ENDS, before_s=20.0, words="what it knew is still there")
API_DOWN = Sight(board="workers", panel="Targets", labels={"job": "veriframe-api"}, holds=none, words="the API is gone")
API_UP = Sight(board="workers", panel="Targets", labels={"job": "veriframe-api"}, holds=some, words="the API is there")
ONE_DOWN = Sight(board="workers", panel="Targets", labels={"job": "veriframe-worker"}, holds=none, words="a supervisor is gone")
REDIS_DOWN = Sight(board="overview", panel="Redis", holds=none, words="Redis is away")
REDIS_UP = Sight(board="overview", panel="Redis", holds=some, words="Redis answers")
NOBODY = Sight(board="overview", panel="Workers", labels={"state": "ready"}, holds=none, words="no worker is ready")


def all_ready(workers: int) -> Sight:
    def holds(value: float) -> bool:
        return value >= workers

    return Sight(board="overview", panel="Workers", labels={"state": "ready"}, holds=holds, words=f"{workers} workers are ready")


def fewer_ready(workers: int) -> Sight:
    def holds(value: float) -> bool:
        return value < workers

    words = f"fewer than {workers} workers are ready"
    return Sight(board="overview", panel="Workers", labels={"state": "ready"}, holds=holds, words=words)


def oldest(holds: Callable[[float], bool], words: str) -> Sight:
    """Of batch, of which there always is some in the drill's mix."""
    return Sight(board="overview", panel="Oldest waiting scan", labels={"queue": "batch"}, holds=holds, words=words)


@dataclass(slots=True, kw_only=True)
class Parts:
    """Kills them, and looks at the dashboards. ``workers``: of all supervisors; ``was_hit`` is told of every hit."""

    spectator: Spectator
    saboteur: Saboteur
    crew: Crew
    workers: int
    was_hit: Callable[[Hit], None]

    def kill_each(self) -> list[tuple[str, str]]:
        """One after the other; those of which the dashboards did not show what they should, with that."""
        ready = all_ready(self.workers)
        self._await([ready, API_UP, ENDS], time.time(), OVER_S)
        lacking = self._part("scanning process", lambda: self._strike("child", "infer"), [DIED, AGAIN], [NONE_DIES])
        lacking += self._part("worker", lambda: self._strike("parent", "decode"), [DIED, TAKEN], [NONE_DIES, ready])
        lacking += self._part("courier", lambda: self._strike("child", "callback"), [DIED], [NONE_DIES])
        gone = [ONE_DOWN, fewer_ready(self.workers)]
        lacking += self._part("supervisor", lambda: self._strike("parent", "callback"), gone, [ready, ENDS], keep=False)
        lacking += self._part("API", self._kill_api, [API_DOWN], [API_UP, REDIS_UP], back=self.spectator.start_api)
        lacking += self._part("Redis", lambda: self._strike("redis-kill", "fetch"), [REDIS_DOWN], [REDIS_UP, ENDS])
        before_s = self._age_s()
        old = oldest(lambda age_s: age_s > before_s + OLDER_S, f"scans wait {OLDER_S:g} s longer than before")
        young = oldest(lambda age_s: age_s < before_s + OLDER_S, "scans wait as long as before")
        lacking += self._part("all supervisors", self._kill_supervisors, [NOBODY, old], [ready, young, ENDS], keep=False)
        lacking += self._part("Prometheus", self._kill_prometheus, [ENDS_BEFORE], [API_UP, ENDS])
        for name, words in lacking:
            print(f"  NOT SHOWN of the {name}: {words}")
        return lacking

    def _part(
        self,
        name: str,
        kill: Callable[[], bool],
        shown: Sequence[Sight],
        over: Sequence[Sight],
        *,
        back: Callable[[], object] = lambda: None,
        keep: bool = True,
    ) -> list[tuple[str, str]]:
        """``keep`` False: what was killed is started again only when it has been seen to be gone."""
        start_s = time.time()
        if not kill():
            return [(name, "nobody was found to kill")]
        killed_s = time.time()
        unseen = self._await(shown, start_s, SHOWN_S, keep=keep)
        seen_s = time.time()
        back()
        lasting = self._await(over, None, OVER_S)
        words = ", ".join(sight.words for sight in shown)
        print(f"  {name} killed: {words} ({seen_s - killed_s:.0f} s); over after {time.time() - seen_s:.0f} s more", flush=True)
        return [(name, sight.words) for sight in (*unseen, *lasting)]

    def _await(self, sights: Sequence[Sight], since_s: float | None, timeout_s: float, *, keep: bool = True) -> list[Sight]:
        """Until each was shown at some time since then, or all are shown now; what is not, after so long."""
        deadline = time.monotonic() + timeout_s
        left = list(sights)
        while left and time.monotonic() < deadline:
            self._tend(keep=keep)
            if since_s is None:
                left = [sight for sight in sights if not self.spectator.shows(sight)]
            else:
                left = [sight for sight in left if not self.spectator.has_shown(sight, since_s)]
            time.sleep(LOOK_S)
        return left

    def _tend(self, *, keep: bool) -> None:
        self.saboteur.let_go()
        if keep:
            self.crew.keep()
        self.spectator.look()

    def _strike(self, kind: str, stage: str) -> bool:
        """At whoever is in that stage; False: nobody was found there."""
        hit = self.saboteur.strike(kind, stage)
        if hit is not None:
            self.was_hit(hit)
        return hit is not None

    def _kill_supervisors(self) -> bool:
        for process in self.crew.processes:
            process.kill()
            process.wait()
        return True

    def _kill_api(self) -> bool:
        self.spectator.kill_api()
        return True

    def _kill_prometheus(self) -> bool:
        """It comes back with what it knew."""
        self.spectator.prometheus.kill()
        time.sleep(GONE_S)
        self.spectator.prometheus.start()
        return True

    def _age_s(self) -> float:
        """The greatest of the last while."""
        ages = [
            value
            for expression in oldest(some, "").expressions
            for sample in self.spectator.prometheus.ask_range(expression, time.time() - 15, time.time(), 1)
            if sample.labels.get("queue") == "batch"
            for value in sample.values
        ]
        return max(ages, default=0.0)
