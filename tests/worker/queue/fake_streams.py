"""Stand-in for the engine of a watch: windows on a clock of its own, a cursor, one event a window; the address says how many."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from urllib.parse import parse_qs, urlsplit

from tests.worker.queue.fake_scanner import MODEL
from worker.errors import EmptyMedia, FetchTimeout, ModelError
from worker.queue.perform import Keeper, Output
from worker.queue.records import Records
from worker.queue.reports import without_crops
from worker.queue.streams import opener
from worker.queue.watch_log import WatchLog
from worker.queue.watching import Slices
from worker.report import Report, Source, Watch, new_id, now
from worker.settings import Settings
from worker.types import Json, Label
from worker.watch.events import Ending, WatchEvent, WindowResult

OnWindow = Callable[[WindowResult, Sequence[WatchEvent], Json], None]
NAME = f"{__name__}:open_watcher"


def address(windows: int, pace_s: float = 0.0, **more: object) -> str:
    """Of a stream that ends after so many windows, one every ``pace_s``; ``down=1``: it cannot be had; ``hangs=1``: it does not
    end, and nobody is asked whether to stop; ``card=1``: the card fails behind them."""
    told = "".join(f"&{name}={value}" for name, value in more.items())
    return f"https://stream.example/live?windows={windows}&pace_s={pace_s:g}{told}"


class FakeWatcher:
    def __init__(self, settings: Settings, url: str, cursor: Json | None) -> None:
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        self._windows, self._pace_s, self._is_down = int(asked["windows"]), float(asked["pace_s"]), "down" in asked
        self._hangs, self._card_fails = "hangs" in asked, "card" in asked
        self._url, self._watch = url, settings.watch
        self._state: Json = dict(cursor) if cursor else {"window": 0, "event": 0, "ending": None}

    def run(self, stop: Callable[[], bool], on_window: OnWindow) -> str:
        if self._state["ending"] is not None:
            return "ended"
        if self._is_down:
            raise FetchTimeout("no connection")
        while self._state["window"] < self._windows:
            due_s = time.monotonic() + self._pace_s
            while time.monotonic() < due_s:
                if stop():
                    return "stopped"
                time.sleep(0.005)
            self._tell(on_window, "verdict_changed" if self._state["window"] else "track_seen")
            if stop():
                return "stopped"
        if self._card_fails:
            raise ModelError("the card failed: out of memory")
        if self._hangs:
            time.sleep(600)
        self.finish("ended", on_window)
        return "ended"

    def finish(self, ending: Ending, on_window: OnWindow, code: str | None = None) -> None:
        if self._state["ending"] is None:
            self._state["ending"] = ending
            self._tell(on_window, "stream_ended")

    def _tell(self, on_window: OnWindow, kind: str) -> None:
        number, hop_ms = self._state["window"], round(1e3 * self._watch.hop_s)
        end_ms = number * hop_ms + round(1e3 * self._watch.window_s)
        event = WatchEvent.model_validate(
            {"kind": kind, "number": self._state["event"], "window": number, "t_ms": end_ms, "verdict": "fake", "score": 0.9}
            | {"detail": {"reasons": []}}
        )
        window = WindowResult(
            number=number, start_ms=number * hop_ms, end_ms=end_ms, verdict=Label.FAKE, score=0.9, frames=1, with_face=1
        )
        self._state |= {"window": number + 1, "event": event.number + 1}
        on_window(window, [event], dict(self._state))

    def report(self) -> Report:
        if self._state["window"] == 0:
            raise EmptyMedia("nothing was seen")
        count, ending = self._state["window"], self._state["ending"]
        watch = Watch(
            window_s=self._watch.window_s, hop_s=self._watch.hop_s, windows=count, fake_windows=count, ending=ending, missed_ms={}
        )
        return Report(
            id=new_id(), kind="watch", source=Source(kind="url", url=self._url), created_at=now(), status="completed",
            verdict=Label.FAKE, score=0.9, model=MODEL, watch=watch,
        )  # fmt: skip

    def crops(self, report: Report) -> Mapping[str, bytes]:
        return {}


@contextlib.contextmanager
def open_watcher(
    settings: Settings, scanner: object, target: str, *, unix_s: float, cursor: Json | None = None
) -> Iterator[FakeWatcher]:
    yield FakeWatcher(settings, target, cursor)


class KeepsNothing:
    """A ``Keeper``."""

    keeps = False

    def keep(self, report: Report, output: Output) -> Report:
        return without_crops(report)


def slices(
    records: Records,
    keeper: Keeper,
    *,
    slice_s: float = 60.0,
    settings: Settings | None = None,
    scanner: object = None,
    name: str = NAME,
) -> Slices:
    """As a scanning process has them; by default of the stand-in."""
    told = settings or Settings()
    return Slices(
        records=records,
        brisk=records,
        log=WatchLog(records.redis, records.namespace),
        open_watcher=opener(told, scanner, name, records.now_s),
        keeper=keeper,
        slice_s=slice_s,
        timeout_s=told.queue.timeout_s,
        decode_s=told.decode.timeout_s,
        max_duration_s=told.watch.max_duration_s,
    )
