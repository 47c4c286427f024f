"""What a server may be asked for, and how much of it."""

from dataclasses import dataclass

from cascadezoo.errors import UsageError
from cascadezoo.image_files import most_pixels


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
        body_seconds: in which a body has to be there.

    Raises UsageError for more pixels than ``image_files.most_pixels()``.
    """

    score: float = 0.5
    max_batch: int = 1
    max_wait: float = 0.005
    max_body: int = 20 * 2**20
    max_pixels: int = 2**25
    max_requests: int = 64
    body_seconds: float = 60

    def __post_init__(self) -> None:
        if self.max_pixels > most_pixels():
            raise UsageError(
                f"--max-pixels {self.max_pixels}: no image of more than {most_pixels():,} pixels is read here; set "
                "CASCADEZOO_MAX_IMAGE_PIXELS to read larger ones"
            )
