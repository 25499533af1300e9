"""Is everything running, and does anybody wait too long?"""

from __future__ import annotations

from deploy.grafana.panels import Board, chart, stat, table
from deploy.grafana.queries import REDIS, increase

OVERVIEW = Board(
    uid="veriframe-overview",
    title="veriframe: overview",
    description="Is everything running, and does anybody wait too long?",
    rows=(
        (
            "Now",
            (
                REDIS,
                stat(
                    "Workers ready",
                    "Workers for scans whose model has run.",
                    "short",
                    'veriframe:workers:max{state="ready", serves="scans"}',
                    bad_below=1,
                ),
                stat("Waiting", "Scans that no worker has begun, all queues.", "short", "sum(veriframe:scans_waiting:max)"),
                stat("Running", "Scans that a worker holds.", "short", "sum(veriframe:scans_running:max)"),
                stat("Dead letters", "Scans that were given up.", "short", "veriframe:scans_dead:max", bad_above=1),
                stat("Callbacks owed", "Callbacks that are not delivered yet.", "short", "veriframe:callbacks_owed:max"),
            ),
        ),
        (
            "Queue",
            (
                chart(
                    "Waiting by queue",
                    "Scans that no worker has begun, or that wait for another try.",
                    "short",
                    ("veriframe:scans_waiting:max", "{{queue}}"),
                    stack=True,
                ),
                chart(
                    "Oldest waiting scan",
                    "How long the scan that has been due longest has waited.",
                    "s",
                    ("veriframe:scans_oldest_waiting_seconds:max", "{{queue}}"),
                ),
                chart(
                    "Age against the objective",
                    "1: the oldest scan is as old as its queue's objective allows.",
                    "percentunit",
                    ("veriframe:queue_age:ratio", "{{queue}}"),
                ),
                chart(
                    "Running by queue",
                    "Scans that a worker holds.",
                    "short",
                    ("veriframe:scans_running:max", "{{queue}}"),
                    stack=True,
                ),
                chart(
                    "Workers",
                    "Live workers by whether their model has run, and by what they serve.",
                    "short",
                    ('veriframe:workers:max{serves="scans"}', "{{state}}"),
                    ('veriframe:workers:max{serves="streams"}', "{{state}}, for streams"),
                    stack=True,
                ),
                table(
                    "Alerts",
                    "What fires now.",
                    'ALERTS{alertname=~"Veriframe.+", alertstate="firing"}',
                    width=8,
                    hidden_columns=("__name__", "alertstate"),
                ),
            ),
        ),
        (
            "Outcome",
            (
                chart(
                    "Scans ended",
                    "By the state they ended in, as Redis counts.",
                    "cps",
                    ("veriframe:scans_ended:rate5m", "{{status}}"),
                ),
                chart(
                    "Verdicts",
                    "By verdict, as workers count.",
                    "cps",
                    ('sum by (verdict) (veriframe:scans:rate5m{verdict!="none"})', "{{verdict}}"),
                    stack=True,
                ),
                chart(
                    "Failures",
                    "Scans that failed, by the code of the error.",
                    "cps",
                    ('sum by (code) (veriframe:scans:rate5m{code!="none"})', "{{code}}"),
                    stack=True,
                ),
                chart(
                    "Further attempts",
                    "Attempts that failed and are made again, by code.",
                    "short",
                    increase("veriframe_scan_retries_total", "code"),
                ),
                chart(
                    "Given up",
                    "Scans whose attempts were used up, by code.",
                    "short",
                    increase("veriframe_dead_letters_total", "code"),
                ),
                chart(
                    "Share that fails",
                    "Of the scans of the last quarter of an hour, by code.",
                    "percentunit",
                    ("veriframe:scan_failures:ratio15m", "{{code}}"),
                    ("veriframe:objective:failure_ratio", "objective"),
                ),
            ),
        ),
    ),
)
