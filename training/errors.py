"""What training raises beside the errors of ``worker.errors``."""

from __future__ import annotations

from pathlib import Path

from worker.errors import ConfigError


class Diverged(ConfigError):
    """Loss or gradients are no numbers any more: the settings ask for too much."""


def damaged_shard(path: Path, exc: Exception) -> ConfigError:
    """Of a part of a shard that cannot be used."""
    both = f"delete {path.stem}.npy and {path.stem}.csv there, and run veriframe data prepare again"
    return ConfigError(f"{path} is damaged, or no part of a crop cache ({exc!r}): {both}")
