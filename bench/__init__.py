"""The measurements: what it costs, how fast it is, what dedup misses. `python -m bench --help`."""
