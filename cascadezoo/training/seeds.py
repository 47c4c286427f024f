"""One seed of several numbers."""

import hashlib


def mix(*numbers: int) -> int:
    """A seed of 63 bits; other numbers, or the same in another order, give another."""
    digest = hashlib.sha256(repr(numbers).encode()).digest()
    return int.from_bytes(digest[:8]) >> 1
