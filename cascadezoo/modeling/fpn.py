"""From the backbone's maps to the levels that the RPN and the heads read: a Feature Pyramid Network
(https://arxiv.org/abs/1612.03144), or the last map alone (C4)."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class FPN(nn.Module):
    """Backbone maps, finest first, to as many levels of ``channels`` and one more, every second cell of the last."""

    def __init__(self, inputs: Sequence[int], channels: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in inputs)
        self.output = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in inputs)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """(N, C_l, H_l, W_l) each to (N, channels, H_l, W_l) each, and (N, channels, ceil(H / 2), ceil(W / 2))."""
        inner = [conv(x) for conv, x in zip(self.lateral, features, strict=True)]
        for i in range(len(inner) - 1, 0, -1):
            inner[i - 1] = inner[i - 1] + F.interpolate(inner[i], size=inner[i - 1].shape[-2:], mode="nearest")
        levels = [conv(x) for conv, x in zip(self.output, inner, strict=True)]
        return [*levels, levels[-1][:, :, ::2, ::2].clone()]  # in memory of its own, laid out as the others are


class LastLevel(nn.Module):
    """Backbone maps, finest first, to the last of them."""

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """A list of one level, (N, C, H, W)."""
        return [features[-1]]
