"""What runs in a side's process: each module's ``build`` gives one answer for each request (``optimize.bench.side``)."""
