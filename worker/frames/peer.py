"""One decoding child as its parent sees it: a channel, a budget of waiting time, and an end."""

from __future__ import annotations

import contextlib
import signal
from typing import Literal

from worker.errors import DecodeCrash, DecodeError, DecodeTimeout, OutOfMemory, VeriframeError
from worker.frames import wire
from worker.frames.forkserver import Forked, ForkServer, ZygoteGone
from worker.frames.limits import Limits
from worker.patience import Patience
from worker.types import Json, MediaInfo

Lost = Literal["timeout", "crash", "protocol", "out_of_memory", "fork_server"]
_EXIT_GRACE_S = 0.5
_LOST: dict[type[VeriframeError], Lost] = {DecodeTimeout: "timeout", DecodeCrash: "crash", OutOfMemory: "out_of_memory"}
_SIGNALS = {int(s): s.name for s in signal.Signals}


class Peer:
    """Whatever it says is checked; a lie is its end."""

    def __init__(self, server: ForkServer, forked: Forked, channel: wire.Channel, *, timeout_s: float, cpu_s: float) -> None:
        self._server = server
        self._forked = forked
        self._channel = channel
        self._timeout_s = timeout_s
        self._patience = Patience(timeout_s)
        self._cpu_s = cpu_s
        self._ended = False
        self.lost: Lost | None = None
        """Why it ended before its work did; None: it did not. Media that it refused are its work."""
        self.is_gone = False
        """Whether it is known to have ended, and what it mapped with it."""

    @property
    def pid(self) -> int:
        return self._forked.pid

    def open(self, limits: Limits) -> MediaInfo:
        message = self.receive()
        try:
            return wire.info_from(wire.part_of(message, "info"), limits)
        except wire.ProtocolError as exc:
            raise self.broke_protocol(exc) from exc

    def send(self, message: Json) -> None:
        if self._ended:
            raise DecodeCrash("the decoder has ended")
        try:
            self._channel.send(message, timeout_s=self._patience.left_s)
        except TimeoutError as exc:
            raise self._timed_out() from exc
        except wire.PeerGone:
            pass  # its last words, or the reason of its end, come by receive

    def receive(self) -> Json:
        """The child's next message; an error message is raised. Only waiting here counts against the time limit."""
        if self._ended:
            raise DecodeCrash("the decoder has ended")
        self._patience.resume()
        try:
            message = self._channel.receive(self._patience)
        except TimeoutError as exc:
            raise self._timed_out() from exc
        except wire.PeerGone as exc:
            raise self._died() from exc
        except wire.ProtocolError as exc:
            raise self.broke_protocol(exc) from exc
        finally:
            self._patience.spend()
        if "error" in message:
            raise self._told(message["error"])
        return message

    def broke_protocol(self, exc: wire.ProtocolError) -> DecodeError:
        self.kill()
        self.lost = "protocol"
        return DecodeCrash(f"the decoder broke the protocol: {exc}")

    def kill(self) -> None:
        if not self._ended:
            self._ended = True
            with contextlib.suppress(ZygoteGone):
                self.is_gone = self._server.end(self._forked, grace_s=0.0).gone

    def _timed_out(self) -> DecodeError:
        self.kill()
        self.lost = "timeout"
        return DecodeTimeout(f"decoding took longer than {self._timeout_s:g} s")

    def _told(self, error: object) -> VeriframeError:
        self.kill()
        told = wire.error_from(error) if isinstance(error, dict) else None
        self.lost = "protocol" if told is None else _LOST.get(type(told))
        return told or DecodeCrash("the decoder broke the protocol: bad error")

    def _died(self) -> DecodeError:
        self._ended = True
        try:
            end = self._server.end(self._forked, grace_s=_EXIT_GRACE_S)
        except ZygoteGone:
            self.lost = "fork_server"
            return DecodeCrash("the decoder died with the process that started it")
        self.is_gone = end.gone
        if end.killed:
            self.lost = "crash"
            return DecodeCrash("the decoder hung up")
        if end.exit == -signal.SIGXCPU or (end.exit == -signal.SIGKILL and end.cpu_s >= self._cpu_s):
            self.lost = "timeout"
            return DecodeTimeout(f"decoding took more than {self._cpu_s:g} s of CPU time")
        self.lost = "crash"
        if end.exit == -signal.SIGSYS:
            return DecodeCrash("the decoder made a forbidden system call")
        if end.exit < 0:
            return DecodeCrash(f"the decoder was ended by {_SIGNALS.get(-end.exit, -end.exit)}")
        return DecodeCrash(f"the decoder exited with status {end.exit}")
