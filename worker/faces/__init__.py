"""Face detection, tracks and the one crop function."""
