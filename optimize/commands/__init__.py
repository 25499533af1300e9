"""Subcommands that ``optimize`` adds to ``veriframe``."""
