"""Verification reports as records, tables and pages, and the rules by which measurements are judged."""
