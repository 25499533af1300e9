"""``python -m deploy.grafana``: write the dashboards as Grafana reads them, one JSON file each."""

from __future__ import annotations

import json
from pathlib import Path

from deploy.grafana.api import API
from deploy.grafana.model import GPU, MODEL
from deploy.grafana.overview import OVERVIEW
from deploy.grafana.panels import board_json
from deploy.grafana.workers import CALLBACKS, WORKERS

BOARDS = (OVERVIEW, WORKERS, CALLBACKS, MODEL, GPU, API)
FOLDER = Path(__file__).parent / "dashboards"


def written() -> dict[str, str]:
    """The files' contents by name."""
    return {f"{board.uid}.json": json.dumps(board_json(board), indent=1) + "\n" for board in BOARDS}


if __name__ == "__main__":
    for name, text in written().items():
        (FOLDER / name).write_text(text)
