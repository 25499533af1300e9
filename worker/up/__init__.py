"""The whole service on one machine, without containers: parts that outlive the command which starts them, and their sure end."""

REDIS, API = "redis", "api"
"""The names of the two parts that others wait for."""
