"""Adapters to other programs, each importing its own only: sliced detection by SAHI, data sets of FiftyOne."""
