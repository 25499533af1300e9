"""Expressions that several dashboards ask for."""

from __future__ import annotations

from deploy.grafana.panels import stat

RATE = "[$__rate_interval]"


def quantiles(metric: str, where: str = "", shares: tuple[float, ...] = (0.5, 0.95)) -> list[tuple[str, str]]:
    """Queries of a histogram's quantiles, one line for each; ``where``: of some of its series, by their labels."""
    rate = f"rate({metric}_bucket{where and f'{{{where}}}'}{RATE})"
    return [(f"histogram_quantile({share}, sum by (le) ({rate}))", f"p{share * 100:g}") for share in shares]


def increase(metric: str, label: str) -> tuple[str, str]:
    return f"sum by ({label}) (increase({metric}{RATE}))", f"{{{{{label}}}}}"


REDIS = stat("Redis", "1 while Redis answers an API server and takes writes.", "short", "max(veriframe_redis_up)", bad_below=1)
