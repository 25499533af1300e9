"""Probed, sampled, sandboxed decoding to RGB frames."""
