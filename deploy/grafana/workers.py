"""Where scans spend their time, what dies, and whether results arrive."""

from __future__ import annotations

from deploy.grafana.panels import Board, chart, heatmap, table
from deploy.grafana.queries import RATE, increase, quantiles

WORKERS = Board(
    uid="veriframe-workers",
    title="veriframe: workers",
    description="Where do scans spend their time, and what dies?",
    rows=(
        (
            "Time",
            (
                chart("Stages, mean", "Mean time of each stage of a scan.", "s", ("veriframe:stage_seconds:mean5m", "{{stage}}")),
                chart(
                    "Stages, 19 of 20",
                    "Time that 19 of 20 scans keep, by stage.",
                    "s",
                    ("veriframe:stage_seconds:p95_5m", "{{stage}}"),
                ),
                chart(
                    "Whole scans",
                    "From fetching to the verdict.",
                    "s",
                    *quantiles("veriframe_stage_seconds", 'stage="total"', shares=(0.5, 0.95, 0.99)),
                ),
                heatmap(
                    "Whole scans",
                    "How many scans took how long, from fetching to the verdict.",
                    f'sum by (le) (increase(veriframe_stage_seconds_bucket{{stage="total"}}{RATE}))',
                ),
                chart(
                    "Crops in a batch",
                    "Face crops in one call of the classifier.",
                    "short",
                    *quantiles("veriframe_batch_crops"),
                    width=6,
                ),
                chart(
                    "Faces in a frame",
                    "Faces found in one looked-at frame.",
                    "short",
                    *quantiles("veriframe_faces_per_frame"),
                    width=6,
                ),
            ),
        ),
        (
            "Ends",
            (
                chart(
                    "Decoding processes",
                    "That ended before their work did, by reason.",
                    "short",
                    increase("veriframe_decoder_restarts_total", "reason"),
                ),
                chart(
                    "Scanning processes",
                    "That were started again, by reason.",
                    "short",
                    increase("veriframe_child_restarts_total", "reason"),
                ),
                chart("Reconciler", "What it put right.", "short", increase("veriframe_reconciler_actions_total", "action")),
                chart(
                    "Reconciler's last pass",
                    "How long ago the latest pass of any worker's reconciler ended.",
                    "s",
                    ("veriframe:reconciler_silence_seconds:min", "since the last pass"),
                ),
                chart(
                    "Left to others",
                    "Times that a worker left a scan to another, by reason.",
                    "short",
                    increase("veriframe_scans_left_total", "code"),
                ),
                chart(
                    "Targets",
                    "1 while Prometheus reaches a process.",
                    "short",
                    ('up{job=~"veriframe-.+"}', "{{job}} {{instance}}"),
                ),
                table("Versions", "What runs where.", "veriframe_build_info", width=24, hidden_columns=("__name__",)),
            ),
        ),
    ),
)

CALLBACKS = Board(
    uid="veriframe-callbacks",
    title="veriframe: callbacks",
    description="Do results reach those who asked for them?",
    rows=(
        (
            "Callbacks",
            (
                chart(
                    "Owed",
                    "Callbacks that are not delivered yet.",
                    "short",
                    ("veriframe:callbacks_owed:max", "owed"),
                    ("veriframe:objective:callbacks_owed", "objective"),
                ),
                chart(
                    "Due",
                    "How long the callback that has been due longest has waited for a courier.",
                    "s",
                    ("veriframe:callbacks_oldest_due_seconds:max", "oldest"),
                    ("veriframe:objective:callback_due_seconds", "objective"),
                ),
                chart("Given up", "Callbacks in the dead letter state.", "short", ("veriframe:callbacks_dead:max", "dead")),
                chart(
                    "Deliveries",
                    "Tries by what came of them.",
                    "short",
                    increase("veriframe_callback_deliveries_total", "outcome"),
                    stack=True,
                ),
                chart(
                    "Delay",
                    "From the end of a scan to the delivery that was accepted.",
                    "s",
                    *quantiles("veriframe_callback_delay_seconds"),
                    ("veriframe:callback_delay_seconds:p95_15m", "p95 of a quarter of an hour"),
                    ("veriframe:objective:callback_delay_seconds", "objective"),
                    width=12,
                ),
                heatmap(
                    "Delay",
                    "How many callbacks came how late.",
                    f"sum by (le) (increase(veriframe_callback_delay_seconds_bucket{RATE}))",
                ),
            ),
        ),
    ),
)
