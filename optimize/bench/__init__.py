"""Measurements of whole scans and their parts against what people would use instead, side by side in one run."""
