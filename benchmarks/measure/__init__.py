"""Measurements of this code, each a command whose result is a file under ``benchmarks/results``."""
