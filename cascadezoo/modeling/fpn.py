"""From the backbone's maps to the levels that the RPN and the heads read: a Feature Pyramid Network
(https://arxiv.org/abs/1612.03144), or the last map alone (C4)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cascadezoo.modeling.norms import convolution
from cascadezoo.spec.norm import Norm


class FPN(nn.Module):
    """Backbone maps, finest first, to as many levels of ``channels`` and one more, every second cell of the last."""

    def __init__(self, inputs: Sequence[int], channels: int, norm: Norm | None = None) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(convolution(norm, c, channels, 1) for c in inputs)
        self.output = nn.ModuleList(convolution(norm, channels, channels, 3) for _ in inputs)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """(N, C_l, H_l, W_l) each to (N, channels, H_l, W_l) each, and (N, channels, ceil(H / 2), ceil(W / 2)).

        The list is empty afterwards: each map is freed as soon as nobody needs it.
        """
        inner: Tensor | None = None
        levels: list[Tensor] = []
        # an output as soon as what it is made of, so that no more than two maps of `inner` are held
        for lateral, output in reversed(list(zip(self.lateral, self.output, strict=True))):
            x = features.pop()
            above = None if inner is None else F.interpolate(inner, size=x.shape[-2:], mode="nearest")
            inner = lateral(x, above)
            del x, above
            levels.insert(0, output(inner))
        return [*levels, every_second(levels[-1])]


def every_second(x: Tensor) -> Tensor:
    """(N, C, H, W) to the cells of every second row and column, channels last in memory.

    By indices: torch would compare the strides of a slice, in 2.11 the size of a pooled map too, and a graph that it
    traces would be one for some sizes alone.
    """
    rows, columns = (torch.arange(0, side, 2, device=x.device) for side in x.shape[2:])
    return x.permute(0, 2, 3, 1).index_select(1, rows).index_select(2, columns).permute(0, 3, 1, 2)


class LastLevel(nn.Module):
    """Backbone maps, finest first, to the last of them."""

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """A list of one level, (N, C, H, W)."""
        return [features[-1]]
