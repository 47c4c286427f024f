"""Layers of maps (N, H, W, C), whose channels lie last: what vision transformers and their kin are made of.

A convolution of such a map reads and writes the same memory as an image's that is channels last, so that nothing is
copied on the way to a linear layer or a norm and back.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def convolved(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution of (N, H, W, C)."""
    out: Tensor = conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    return out.contiguous()


def gelu(x: Tensor) -> Tensor:
    """GELU by the error function, in the memory of x where no gradients are computed: there is no larger tensor than an
    MLP's hidden one."""
    return F.gelu(x) if torch.is_grad_enabled() else torch.ops.aten.gelu_(x)


class MLP(nn.Module):
    """Two linear layers with a GELU between."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def init_weights(self) -> None:
        """Random weights."""
        for linear in (self.fc1, self.fc2):
            nn.init.trunc_normal_(linear.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) to the same shape."""
        out: Tensor = self.fc2(gelu(self.fc1(x)))
        return out
