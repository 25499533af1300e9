"""The commands that come with the extra ``train``: each parses, calls one function, and maps errors to exit codes."""
