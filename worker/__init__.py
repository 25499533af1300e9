"""The scanner: source -> frames -> faces -> scores -> verdict -> sink."""

__version__ = "0.1.0"
