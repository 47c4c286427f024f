"""A network that knows whether its class scores come from random numbers, and says so once."""

import warnings
from typing import Any

from torch import Tensor

from cascadezoo.modeling.compiling import uncompiled
from cascadezoo.modeling.network import Network


class WarnsIfRandom(Network):
    """A network whose class layers are known to be random until training or other weights have changed them."""

    _random: list[tuple[Tensor, int]]

    def mark_random(self) -> None:
        """Say that the class scores come from random numbers as of now: the first ``predict`` or call warns of it,
        unless training or other weights have changed them."""
        self._random = self._class_layers()

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[no-untyped-call]
        return {**state, "_random": self._is_random()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._random = self._class_layers() if state["_random"] else []

    def _class_layers(self) -> list[tuple[Tensor, int]]:
        """The weights of the class scores, and how often each was written to."""
        weights = [head.get_parameter("cls_score.weight") for head in self.box_heads]
        return [(weight, weight._version) for weight in weights if not weight.is_inference()]

    def _is_random(self) -> bool:
        own = {id(parameter) for parameter in self.parameters()} if self._random else {}
        return any(id(weight) in own and weight._version == version for weight, version in self._random)

    @uncompiled
    def _warn_if_random(self) -> None:
        if self._is_random():
            warnings.warn(
                "the class layers of this model hold random numbers, so what it detects means nothing: load it with "
                "pretrained=True or weights=FILE, or train it first",
                stacklevel=4,
            )
        self._random = []
