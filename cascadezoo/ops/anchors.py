"""Anchors of a region proposal network (Ren et al. 2015; one size a level: Lin et al. 2016)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cascadezoo.conventions import AnchorGrid


def level_anchors(
    shape: Sequence[int], size: float, stride: int, ratios: Sequence[float], device: torch.device
) -> Tensor:
    """Anchors (height * width * len(ratios), 4) of one level, ordered y, x, ratio; float32 network pixels.

    ``shape`` is the level's (height, width); the first cell's anchors are centred on the picture's corner.
    """
    x = torch.arange(shape[1], device=device, dtype=torch.float32)[None, :] * stride
    y = torch.arange(shape[0], device=device, dtype=torch.float32)[:, None] * stride
    x, y = torch.broadcast_tensors(x, y)
    halves = [(size / math.sqrt(ratio) / 2, size * math.sqrt(ratio) / 2) for ratio in ratios]
    cells = [torch.stack((x - w, y - h, x + w, y + h), -1) for w, h in halves]
    return torch.stack(cells, 2).reshape(-1, 4)


def grid_anchors(shapes: Sequence[Sequence[int]], grid: AnchorGrid, device: torch.device) -> list[Tensor]:
    """One (cells * ratios, 4) tensor a level, for levels of the given (height, width)."""
    return [
        level_anchors(shape, size, stride, grid.ratios, device)
        for shape, size, stride in zip(shapes, grid.sizes, grid.strides, strict=True)
    ]
