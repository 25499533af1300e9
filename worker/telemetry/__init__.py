"""What the service tells of itself: metrics for Prometheus and structured logs."""
