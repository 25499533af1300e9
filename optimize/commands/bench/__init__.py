"""Subcommands of ``veriframe bench``, joined in ``optimize.cli``."""
