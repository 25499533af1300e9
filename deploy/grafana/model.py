"""Which model decides, whether it sees what it saw last week, and the cards it runs on."""

from __future__ import annotations

from deploy.grafana.panels import Board, Panel, chart, heatmap, table
from deploy.grafana.queries import RATE, increase


def scores(kind: str) -> tuple[Panel, Panel]:
    now, week = (f'veriframe:score_cdf:avg{span}{{kind="{kind}"}}' for span in ("6h", "7d"))
    return (
        heatmap(
            f"Scores of {kind}s",
            f"How many {kind}s got which score.",
            f'sum by (le) (increase(veriframe_score_bucket{{kind="{kind}"}}{RATE}))',
        ),
        chart(
            f"Where scores of {kind}s have moved",
            "Share of scores below each step, last 6 hours less the week before: 0 everywhere while nothing changes.",
            "percentunit",
            (f"abs({now} - on (le) {week})", "{{le}}"),
            width=12,
        ),
    )


MODEL = Board(
    uid="veriframe-model",
    title="veriframe: model and scores",
    description="Which model decides, and does it see what it saw last week?",
    rows=(
        (
            "Model",
            (
                table(
                    "Models",
                    "The models that are loaded, and their backends.",
                    "count by (name, version, sha256, backend) (veriframe_model_info)",
                ),
                chart(
                    "Fallbacks",
                    "Models opened on another backend than the wanted one, by the wanted one.",
                    "short",
                    increase("veriframe_backend_fallbacks_total", "backend"),
                    width=12,
                ),
            ),
        ),
        (
            "Scores",
            (
                *scores("video"),
                *scores("picture"),
                chart(
                    "Drift",
                    "Kolmogorov-Smirnov distance of the scores of the last 6 hours and of the week before.",
                    "short",
                    ("veriframe:score_drift:distance", "{{kind}}"),
                    ("veriframe:objective:score_drift", "objective"),
                ),
                chart(
                    "Shares of verdicts",
                    "Of the last quarter of an hour.",
                    "percentunit",
                    ("veriframe:verdicts:ratio15m", "{{verdict}}"),
                    stack=True,
                ),
                chart(
                    "Scores behind it",
                    "How many scores the distance is told from.",
                    "short",
                    ("veriframe:scores:increase6h", "{{kind}}, 6 hours"),
                    ("veriframe:scores:increase7d", "{{kind}}, week before"),
                ),
            ),
        ),
    ),
)

GPU = Board(
    uid="veriframe-gpu",
    title="veriframe: graphics cards",
    description="Are the cards at work, and is there room on them?",
    rows=(
        (
            "Cards",
            (
                chart(
                    "Memory taken",
                    "Of each card.",
                    "bytes",
                    ('veriframe_gpu_memory_bytes{state="used"}', "{{instance}} {{gpu}}"),
                    ('veriframe_gpu_memory_bytes{state="total"}', "{{instance}} {{gpu}} total"),
                ),
                chart(
                    "Share of memory taken",
                    "Of each card.",
                    "percentunit",
                    ("veriframe:gpu_memory:ratio", "{{instance}} {{gpu}}"),
                ),
                chart(
                    "At work",
                    "Share of the last moment in which a card was at work.",
                    "percentunit",
                    ("veriframe_gpu_utilisation_ratio", "{{instance}} {{gpu}}"),
                ),
            ),
        ),
    ),
)
