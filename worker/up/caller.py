"""What ``up`` asks of the API, as any caller does: HTTP on this machine, past every proxy."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from worker.errors import QueueError
from worker.output.text import escaped

TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """One connection for each request: between two of them the API may have been started anew."""

    host: str
    port: int
    token: str = field(default="", repr=False)

    @property
    def address(self) -> str:
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def answers(self) -> bool:
        try:
            return self._ask("GET", "/livez")[0] == 200
        except QueueError:
            return False

    def newest(self, external_id: str) -> dict[str, Any] | None:
        """The summary of the latest scan under this name."""
        found = self._wanted("GET", f"/v1/scans?limit=1&external_id={quote(external_id, safe='')}")["scans"]
        return dict(found[0]) if found else None

    def submit(self, path: Path, external_id: str) -> str:
        """Upload a file and have it scanned; the scan's id."""
        upload = self._wanted("POST", "/v1/uploads", path.read_bytes(), "application/octet-stream")["id"]
        body = {"source": {"upload": upload}, "external_id": external_id}
        return str(self._wanted("POST", "/v1/scans", json.dumps(body).encode(), "application/json")["id"])

    def report(self, scan_id: str) -> dict[str, Any]:
        return self._wanted("GET", f"/v1/scans/{scan_id}")

    def _wanted(self, method: str, path: str, body: bytes | None = None, kind: str = "") -> dict[str, Any]:
        """Raises QueueError where the answer is none of success."""
        status, answer = self._ask(method, path, body, kind)
        if not 200 <= status < 300:
            raise QueueError(
                f"the API answers {method} {path.partition('?')[0]} with {status}: {escaped(str(answer.get('detail', '')))}"
            )
        return answer

    def _ask(self, method: str, path: str, body: bytes | None = None, kind: str = "") -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT_S)
        headers = {"Authorization": f"Bearer {self.token}"} | ({"Content-Type": kind} if kind else {})
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as exc:
            raise QueueError(f"the API at {self.address} does not answer: {exc}") from exc
        finally:
            connection.close()
        return response.status, answer if isinstance(answer, dict) else {}
