"""Adaptation after release (paper, section 6): corrected cases, fine-tuning with replay, a gate, a report."""
