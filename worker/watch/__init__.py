"""Streams watched as they run: rolling verdicts, events and, at the end, a report."""
