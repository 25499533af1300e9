"""What scores crops, with what a report and a resumed run must know of it; and one that is still being opened."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from threading import Thread

from worker.exhausted import check_room_for_a_thread
from worker.ports import Classifier
from worker.report import Model

PATIENCE_S = 2.0
"""So long a run that ends waits for an opening that is under way: a thread that is cut short in a library can end the process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """An open classifier. ``fingerprint`` names the model, the backends that run and every option that can change a result."""

    classifier: Classifier
    model: Model
    fingerprint: str


class EngineFailed(Exception):
    """A classifier cannot be opened, and what needs it is under way already; the cause says why."""


class EngineOpened:
    """An engine that is open."""

    is_open = True

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __call__(self) -> Engine:
        return self._engine


class EngineOpening:
    """An engine that is opened on a thread of its own, from here on. To call it is to wait for it; raises EngineFailed."""

    def __init__(self, open_engine: Callable[[], Engine]) -> None:
        self._opened: Future[Engine] = Future()

        def work() -> None:
            try:
                self._opened.set_result(open_engine())
            except BaseException as exc:  # noqa: BLE001 - raised where the engine is asked for
                self._opened.set_exception(exc)

        check_room_for_a_thread()
        # Not a pool's thread: those are waited for when the process ends, whatever they are stuck in.
        Thread(target=work, name="opener", daemon=True).start()

    def __call__(self) -> Engine:
        error = self._opened.exception()
        if error is not None:
            raise EngineFailed(str(error)) from error
        return self._opened.result()

    @property
    def is_open(self) -> bool:
        """Whether a call would not wait."""
        return self._opened.done()

    def close(self) -> None:
        """Wait a little for what is under way."""
        wait([self._opened], timeout=PATIENCE_S)
