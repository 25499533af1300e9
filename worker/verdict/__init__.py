"""From frame scores to one calibrated verdict."""
