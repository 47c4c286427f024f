"""What an optimised model refuses, each with a sentence that says what to do instead."""

from collections.abc import Callable
from typing import Any, NoReturn, Self

from torch import nn

from cascadezoo.errors import UsageError


def _refused(what: str, instead: str) -> Callable[..., NoReturn]:
    def refuse(self: nn.Module, *_: Any, **__: Any) -> NoReturn:
        raise UsageError(f"an optimised model {what}: {instead}")

    return refuse


class InferenceOnly(nn.Module):
    """A module in evaluation mode whose weights, device and precision stay as they are."""

    def train(self, mode: bool = True) -> Self:
        """Evaluation mode is the only one.  Raises UsageError for training mode."""
        if mode:
            raise UsageError("an optimised model cannot be trained: train the model it was made of, then optimise that")
        self.training = False  # the modules inside are in evaluation mode already
        return self

    load_state_dict: Callable[..., Any] = _refused(
        "takes no other weights", "load them into the model it was made of, then optimise that"
    )
    state_dict: Callable[..., Any] = _refused(
        "has no weights that a file could hold, they are prepared for one device and precision",
        "save the model it was made of",
    )
    _apply: Callable[..., Any] = _refused(
        "stays on its device and in its precision",
        "call optimize(device=…, precision=…) of the model it was made of",
    )
    compile: Callable[..., Any] = _refused(
        "is compiled when it is made or never", "call optimize(compile=True) of the model it was made of"
    )
    optimize: Callable[..., Any] = _refused("cannot be optimised again", "call optimize of the model it was made of")
    __reduce_ex__: Callable[..., Any] = _refused(
        "is neither copied nor pickled", "send or copy the model it was made of, and optimise that there"
    )
