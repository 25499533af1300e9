"""Streams that run on while they are read, as small local pieces."""
