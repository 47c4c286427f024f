"""What a server may be asked for, and how much of it."""

import math
from dataclasses import dataclass

from cascadezoo.errors import UsageError
from cascadezoo.image_files import most_pixels

_LEAST = {"max_batch": 1, "max_wait": 0, "max_body": 1, "max_pixels": 1, "max_requests": 1, "body_seconds": 0.001}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The limits of a server.

    Attributes:
        score: lowest score that is answered, 0..1.
        max_batch: images that go through the network together, of those whose padded sizes are equal.
        max_wait: seconds that an image waits for others of its size.
        max_body: bytes of a request's body.
        max_pixels: of an image, as its header claims.
        max_requests: requests that are in the server at a time, from the first byte of the body to the answer.
        body_seconds: in which a body has to be there, and for which a connection may stay without a request.

    Raises UsageError for a value out of its range, and for more pixels than ``image_files.most_pixels()``.
    """

    score: float = 0.5
    max_batch: int = 1
    max_wait: float = 0.005
    max_body: int = 20 * 2**20
    max_pixels: int = 2**25
    max_requests: int = 64
    body_seconds: float = 60

    def __post_init__(self) -> None:
        if not 0 <= self.score <= 1:
            raise UsageError(f"score {self.score:g} is not from 0 to 1")
        for name, least in _LEAST.items():
            if not least <= getattr(self, name) < math.inf:  # nan is in no range
                raise UsageError(f"{name} {getattr(self, name):g} of a server: give a finite number, {least:g} or more")
        if self.max_pixels > most_pixels():
            raise UsageError(
                f"--max-pixels {self.max_pixels}: no image of more than {most_pixels():,} pixels is read here: give "
                "fewer, or set CASCADEZOO_MAX_IMAGE_PIXELS to read larger ones"
            )
