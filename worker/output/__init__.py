"""Where reports go: standard output in a format, and a folder."""
