"""Benchmarks and, later, engines for GPUs."""
