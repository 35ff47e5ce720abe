"""Measures a really started server against the bare upstream behind it: `python -m benchmarks`."""
