"""Judges a checkpoint on labelled media by whole scans: from a manifest to a report with tables and plots."""
