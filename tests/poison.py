"""A double for tests of what kills the process that computes; workers import it by this name."""

import os
from typing import Any

from cascadezoo.predictor import Predictor


class Poisoned(Predictor):
    """Dies of an image that is called poison.png, as of a fault in a library."""

    def __call__(self, batch: Any) -> Any:
        if any(str(path).endswith("poison.png") for path in batch["path"]):
            os.abort()
        return super().__call__(batch)
