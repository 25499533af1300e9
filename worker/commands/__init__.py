"""The subcommands of ``veriframe``; each module holds one Typer app and imports what it needs when it runs."""
