"""What ``veriframe data``, ``train``, ``release``, ``evaluate``, ``tune`` and ``adapt`` run: parse, call one function, map errors to exit codes."""
