#!/usr/bin/python3 -I
"""Whether a probe answers 200: ``healthy http://127.0.0.1:9464/livez`` exits with 0, else with 1. For health checks."""

from __future__ import annotations

import http.client
import sys
from urllib.parse import urlsplit

TIMEOUT_S = 4.0


def main(url: str) -> int:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", parts.path or "/")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as exc:
        print(f"{url}: {exc}", file=sys.stderr)
        return 1
    finally:
        connection.close()
    print(f"{url}: {status}", file=sys.stderr)
    return 0 if status == 200 else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
