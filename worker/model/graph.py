"""Names in an exported graph, agreed between the export and the backends that run it."""

from __future__ import annotations

INPUT = "crops"
"""uint8 RGB [F, H, W, 3], F from 1 upwards."""
LOGIT = "logit"
"""float32 [F]: log p(fake) - log p(real)."""
FAMILIES = "families"
"""float32 [F, K]: the logit of each family."""
DRAWS = "draws"
"""float32 [F, N], of a ``card`` head only: the logit of every draw; ``logit`` is their mean."""
CHECKPOINT_KEY = "checkpoint_sha256"
"""Metadata: the hash of the checkpoint file that was exported."""
EXPORT_KEY = "export_version"
EXPORT_VERSION = 1
"""Counts up when the export of an unchanged checkpoint changes; an older file is not used."""
