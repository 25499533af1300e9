"""One guarded connection for the hours that a stream runs: sessions with a limit of time, one after the other."""

from __future__ import annotations

import time
from contextlib import ExitStack

from worker.source.client import never
from worker.source.http import HttpSource, Session, Stop
from worker.source.parts import PartReader


class Connection:
    """Hands out a session that has at least half of its time left. For one thread; close it."""

    def __init__(self, http: HttpSource) -> None:
        self.http = http
        self._open = ExitStack()
        self._session: Session | None = None
        self._parts: PartReader | None = None
        self.stop: Stop = never
        """As it is when a session is opened, it holds for all of it."""

    def session(self) -> Session:
        if self._session is None or self._session.ends_at - time.monotonic() < self.http.timeout_s / 2:
            self.close()
            self._session = self._open.enter_context(self.http.session(self.stop))
            self._parts = None
        return self._session

    def parts(self) -> PartReader:
        """A reader of parts over the session; it holds the stream's keys."""
        session = self.session()
        if self._parts is None:
            self._parts = PartReader(session)
        return self._parts

    def close(self) -> None:
        self._session = self._parts = None
        self._open.close()
