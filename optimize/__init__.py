"""Benchmarks, exports for other runtimes, and parity of every backend with PyTorch."""
