"""Canonical weights, with a card, to the Hugging Face Hub."""
