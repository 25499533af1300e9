"""Expressions that several dashboards ask for."""

from __future__ import annotations

from deploy.grafana.panels import stat

RATE = "[$__rate_interval]"


def quantiles(metric: str, *labels: str, shares: tuple[float, ...] = (0.5, 0.95)) -> list[tuple[str, str]]:
    """Queries of a histogram's quantiles, one line for each and for each combination of labels."""
    by = ", ".join((*labels, "le"))
    named = " ".join(f"{{{{{label}}}}}" for label in labels)
    return [
        (f"histogram_quantile({share}, sum by ({by}) (rate({metric}_bucket{RATE})))", f"{named} p{share * 100:g}".strip())
        for share in shares
    ]


def increase(metric: str, label: str) -> tuple[str, str]:
    return f"sum by ({label}) (increase({metric}{RATE}))", f"{{{{{label}}}}}"


REDIS = stat("Redis", "1 while Redis answers an API server and takes writes.", "short", "max(veriframe_redis_up)", bad_below=1)
