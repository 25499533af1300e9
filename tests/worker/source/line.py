"""A line to a loopback server that can be cut: connections break, new ones come to nothing, until it is mended."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator


class Line:
    """``at``: where it begins. ``cut`` and ``mend`` it; ``refused`` counts the connections that came to nothing, ``brought`` the
    bytes of answers that came through."""

    def __init__(self, listener: socket.socket, port: int) -> None:
        self._listener, self._port = listener, port
        self.at = f"127.0.0.1:{listener.getsockname()[1]}"
        self.refused = self.brought = 0
        self._is_cut = False
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []

    def url(self, path: str) -> str:
        return f"http://{self.at}{path}"

    def cut(self) -> None:
        with self._lock:
            self._is_cut = True
            broken, self._open = self._open, []
        for one in broken:
            _end(one)

    def mend(self) -> None:
        with self._lock:
            self._is_cut = False

    def run(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:  # the listener was closed
                return
            far: socket.socket | None = None
            with self._lock:
                if not self._is_cut:
                    far = socket.create_connection(("127.0.0.1", self._port))
                    self._open += [near, far]
                else:
                    self.refused += 1
            if far is None:
                near.close()
                continue
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=(source, target, target is near), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
                with self._lock:
                    self.brought += len(data) if is_answer else 0
        _end(source)
        _end(target)


def _end(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


@contextlib.contextmanager
def line_to(port: int) -> Iterator[Line]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        line = Line(listener, port)
        thread = threading.Thread(target=line.run, daemon=True)
        thread.start()
        try:
            yield line
        finally:
            line.cut()
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            thread.join(10)
