"""Weights files: a publisher's to ours and back, a look inside one, and those of an entry, wherever they are."""
