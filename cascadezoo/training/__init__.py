"""Losses, targets and the loop that trains a model of the zoo."""
