"""The review console: pages served beside the HTTP API, for people who look at scans and decide."""
