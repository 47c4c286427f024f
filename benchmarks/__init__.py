"""Measurements whose results are files."""
