"""A configuration of Prometheus for a run: our rules scaled down, and targets that come and go."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from tests.deploy.monitoring.scaled import write_scaled

SCRAPE = "1s"


def write_config(folder: Path) -> Path:
    """Below a folder that is there; returns the file."""
    write_scaled(folder / "rules")
    (folder / "targets").mkdir()
    found = {"files": [str(folder / "targets" / "*.json")], "refresh_interval": SCRAPE}
    config = {
        "global": {"scrape_interval": SCRAPE, "scrape_timeout": SCRAPE, "evaluation_interval": SCRAPE},
        "rule_files": [str(folder / "rules" / "*.yaml")],
        "scrape_configs": [{"job_name": "veriframe", "file_sd_configs": [found]}],
    }
    path = folder / "prometheus.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def set_target(folder: Path, name: str, *ports: int) -> None:
    """From now on, what is called so is to be scraped at these ports; none: it is forgotten."""
    fresh = folder / "targets" / f"{name}.new"
    fresh.write_text(json.dumps([{"targets": [f"127.0.0.1:{port}" for port in ports], "labels": {"job": f"veriframe-{name}"}}]))
    fresh.rename(fresh.with_suffix(".json"))
