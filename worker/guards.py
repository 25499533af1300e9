"""Where requests may go, as settings say: to what is scanned, and with callbacks."""

from __future__ import annotations

from worker.settings import Settings
from worker.source.guard import AddressGuard


def build_source_guard(settings: Settings) -> AddressGuard:
    """Raises ConfigError."""
    source = settings.source
    return AddressGuard(
        allow_private_hosts=source.allow_private_hosts,
        ports=source.ports,
        allow_hosts=source.allow_hosts,
        deny_hosts=source.deny_hosts,
    )


def build_callback_guard(settings: Settings) -> AddressGuard:
    """On any port, to any host that is not denied: receivers are no sources. Raises ConfigError."""
    return AddressGuard(allow_private_hosts=settings.source.allow_private_hosts, deny_hosts=settings.source.deny_hosts)
