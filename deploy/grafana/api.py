"""Whether callers of the HTTP API are served."""

from __future__ import annotations

from deploy.grafana.panels import Board, chart, heatmap
from deploy.grafana.queries import RATE, REDIS

API = Board(
    uid="veriframe-api",
    title="veriframe: HTTP API",
    description="Are callers served, quickly and without errors?",
    rows=(
        (
            "Requests",
            (
                chart(
                    "By status",
                    "Requests answered.",
                    "reqps",
                    ("sum by (status) (veriframe:http_requests:rate5m)", "{{status}}"),
                    stack=True,
                ),
                chart(
                    "By route",
                    "Requests answered.",
                    "reqps",
                    ("sum by (route, method) (veriframe:http_requests:rate5m)", "{{method}} {{route}}"),
                    stack=True,
                ),
                chart(
                    "Errors and refusals",
                    "Shares of answers 5xx (without probes, scrapes and 501) and 429.",
                    "percentunit",
                    ("veriframe:http_errors:ratio5m", "5xx"),
                    ("veriframe:http_refusals:ratio5m", "429"),
                    ("veriframe:objective:http_error_ratio", "objective for 5xx"),
                ),
                chart(
                    "Time, 19 of 20",
                    "Time that 19 of 20 requests keep, by route.",
                    "s",
                    ("veriframe:http_request_seconds:p95_5m", "{{method}} {{route}}"),
                    ("veriframe:objective:http_request_seconds", "objective"),
                    width=12,
                ),
                heatmap(
                    "Time",
                    "How many requests took how long.",
                    f"sum by (le) (increase(veriframe_http_request_seconds_bucket{RATE}))",
                ),
                REDIS,
            ),
        ),
    ),
)
