"""Where media come from: files and folders."""
