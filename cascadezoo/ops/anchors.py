"""Anchors of a region proposal network (Ren et al. 2015; one size per level: Lin et al. 2016).

Shapes: H, W the cells of a level, A anchors per cell.

Formulas ported from (licences in NOTICE):

- open-mmlab/mmdetection 3.3.0, Copyright (c) OpenMMLab, Apache-2.0:
  ``mmdet/models/task_modules/prior_generators/anchor_generator.py``
- facebookresearch/Detectron e8942c8, Copyright (c) 2017-present, Facebook, Inc., Apache-2.0:
  ``detectron/modeling/generate_anchors.py``
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cascadezoo.spec.conventions import AnchorGrid


def cell_sides(grid: AnchorGrid, level: int) -> list[tuple[float, float]]:
    """The (width, height) of a cell's A anchors: size by size, and for each size ratio by ratio."""
    stride = grid.strides[level]
    sides = []
    for size in grid.sizes[level]:
        for ratio in grid.ratios:
            if grid.rounded:
                width = round(stride / math.sqrt(ratio))
                sides.append((width * size / stride, round(width * ratio) * size / stride))
            else:
                sides.append((size / math.sqrt(ratio), size * math.sqrt(ratio)))
    return sides


def cell_halves(grid: AnchorGrid, level: int) -> list[tuple[float, float]]:
    """Half the width and half the height of a cell's A anchors, from the centre of their first to that of their last
    pixel where ``grid.extent`` is 1."""
    return [((w - grid.extent) / 2, (h - grid.extent) / 2) for w, h in cell_sides(grid, level)]


def first_centre(grid: AnchorGrid, level: int) -> float:
    """The centre of a level's first cell, in pixels from the left and from the top."""
    return grid.extent * (grid.strides[level] - 1) / 2


def laid_out(
    shape: Sequence[int], halves: Sequence[tuple[float, float]], stride: int, first: float, device: torch.device
) -> Tensor:
    """Anchors (H * W * A, 4), ordered y, x, anchor; float32 network pixels.

    ``shape``: the level's (height, width) in cells; ``halves`` and ``first`` as of the functions above.
    """
    x = torch.arange(shape[1], device=device, dtype=torch.float32)[None, :] * stride + first
    y = torch.arange(shape[0], device=device, dtype=torch.float32)[:, None] * stride + first
    x, y = torch.broadcast_tensors(x, y)
    return torch.stack([torch.stack((x - w, y - h, x + w, y + h), -1) for w, h in halves], 2).reshape(-1, 4)


def level_anchors(shape: Sequence[int], grid: AnchorGrid, level: int, device: torch.device) -> Tensor:
    """The anchors (H * W * A, 4) of one level of ``shape`` (height, width) in cells, ordered y, x, anchor; float32
    network pixels."""
    return laid_out(shape, cell_halves(grid, level), grid.strides[level], first_centre(grid, level), device)


def grid_anchors(shapes: Sequence[Sequence[int]], grid: AnchorGrid, device: torch.device) -> list[Tensor]:
    """The anchors (H * W * A, 4) of each level, for levels of the given (height, width)."""
    if len(shapes) != len(grid.strides):
        raise ValueError(f"{len(shapes)} levels for a grid of {len(grid.strides)}")
    return [level_anchors(shape, grid, level, device) for level, shape in enumerate(shapes)]
