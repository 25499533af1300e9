"""The queue: scan records in Redis are the one truth, RQ jobs are doorbells (docs/decisions/0008-queue.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worker.queue.client import ScanClient as ScanClient

__all__ = ["ScanClient"]


def __getattr__(name: str) -> Any:
    """``ScanClient``, imported when it is asked for: its Redis client is in the extra ``service``."""
    if name == "ScanClient":
        from worker.queue.client import ScanClient

        return ScanClient
    raise AttributeError(name)
