"""Decoded images to a batch by one operator: resized as OpenCV does it, normalised, padded with zeros.

Shapes: N images of their own sizes (h, w, 3), resized to (rows, columns, 3), in a batch of H x W pixels.

What equals OpenCV's linear resize, from 4.10 to 5.0 (``tests/ops/test_preprocess.py``):

- whole levels: in integers, equal wherever the step is old size / new size.
- float32: within 2^-15 of a level of Intel's library, which OpenCV's builds for x86-64 use; OpenCV's own code has
  weights of fewer digits, and differs by up to 0.05 of a level.

There is no cubic resize: what OpenCV's builds make of one differs between them by a level.

Formulas ported from (licences in NOTICE):

- opencv/opencv 4.10.0, Copyright (c) 2000-2024 Intel Corporation, OpenCV Foundation and others, Apache-2.0:
  ``modules/imgproc/src/resize.cpp``
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from cascadezoo.errors import UsageError
from cascadezoo.ops.library import define

Pair = tuple[float, float]  # along y, x


def preprocess(
    images: Sequence[Tensor],
    sizes: Sequence[tuple[int, int]],
    steps: Sequence[Pair],
    padded: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    float32: bool,
    dtype: torch.dtype,
) -> Tensor:
    """The batch (N, 3, H, W) of images, channels last in memory: ``(level - mean) / std`` in float32, then ``dtype``.

    Args:
        images: per image (h, w, 3) uint8, on one device.
        sizes: rows and columns to resize it to, at least one.
        steps: rows and columns of the image between two of the resized image.
        padded: H, W, which hold every resized image.
        mean, std: per channel, grey levels.
        float32: as in ``spec.conventions.Resize``.
        dtype: floating point.

    Raises:
        UsageError: there are no images.
    """
    if not images:
        raise UsageError("preprocess: no images")
    batch: Tensor = torch.ops.cascadezoo.preprocess(
        list(images),
        [side for size in sizes for side in size],
        [step for pair in steps for step in pair],
        list(mean),
        list(std),
        *padded,
        float32,
        dtype,
    )
    return batch


def resized(image: Tensor, size: tuple[int, int], step: Pair, float32: bool) -> Tensor:
    """The levels (rows, columns, 3), float32, of an image (h, w, 3) uint8 resized."""
    return (_linear if float32 else _fixed_linear)(image, size, step)


def _fixed_linear(image: Tensor, size: tuple[int, int], step: Pair) -> Tensor:
    """In integers: weights are of 2048, and the sum of a row is cut to 16 bits, as OpenCV's vector code does."""
    (top, bottom), of_rows = _fixed_taps(image.shape[0], size[0], step[0], image.device)
    (left, right), of_columns = _fixed_taps(image.shape[1], size[1], step[1], image.device)
    edge = left == right
    before, after = of_columns[0].masked_fill(edge, 2048)[:, None], of_columns[1].masked_fill(edge, 0)[:, None]
    sums = (image[:, left].int() * before + image[:, right].int() * after) >> 4
    above, below = (weights[:, None, None] for weights in of_rows)
    levels: Tensor = ((sums[top] * above >> 16) + (sums[bottom] * below >> 16) + 2) >> 2
    return levels.float()


def _fixed_taps(size: int, pixels: int, step: float, device: torch.device) -> tuple[Tensor, Tensor]:
    position = _positions(pixels, step, device).float()
    first = position.floor()
    rest = position - first
    weights = torch.stack((1 - rest, rest)) * 2048
    return _neighbours(first, size), weights.round().int()


def _linear(image: Tensor, size: tuple[int, int], step: Pair) -> Tensor:
    levels = image.double()
    for axis in (1, 0):
        position = _positions(size[axis], step[axis], image.device)
        first = position.floor()
        before, after = (levels.index_select(axis, index) for index in _neighbours(first, image.shape[axis]))
        weight = (position - first).float().double()
        # in float64, then rounded: a fused product and sum of float32
        levels = (after - before).float().double() * weight.view(-1, *[1] * (2 - axis)) + before
        levels = levels.float().double()
    return levels.float()


def _positions(pixels: int, step: float, device: torch.device) -> Tensor:
    """Where the rows, or columns, of the resized image lie in the image, in rows of it; float64, as its last bits
    decide on rounding."""
    return (torch.arange(pixels, dtype=torch.float64, device=device) + 0.5) * step - 0.5


def _neighbours(first: Tensor, size: int) -> Tensor:
    """(2, pixels) the row ``first`` and the next, those outside the image replaced by its edge."""
    return torch.stack((first, first + 1)).long().clamp(0, size - 1)


def _reference(
    images: list[Tensor],
    sizes: list[int],
    steps: list[float],
    mean: list[float],
    std: list[float],
    height: int,
    width: int,
    float32: bool,
    dtype: torch.dtype,
) -> Tensor:
    batch = _empty(images, height, width, dtype).zero_()
    colours = torch.tensor((mean, std), device=images[0].device)
    for i, image in enumerate(images):
        rows, columns = sizes[2 * i : 2 * i + 2]
        levels = resized(image, (rows, columns), (steps[2 * i], steps[2 * i + 1]), float32)
        batch[i, :rows, :columns] = (levels - colours[0]) / colours[1]
    return batch.permute(0, 3, 1, 2)


def _empty(images: list[Tensor], height: int, width: int, dtype: torch.dtype) -> Tensor:
    return images[0].new_empty(len(images), height, width, 3, dtype=dtype)


def _fake(images: list[Tensor], *arguments: object) -> Tensor:
    *_, height, width, _, dtype = arguments
    return _empty(images, height, width, dtype).permute(0, 3, 1, 2)  # type: ignore[arg-type]


define(
    "preprocess(Tensor[] images, SymInt[] sizes, float[] steps, float[] mean, float[] std, SymInt height, SymInt width,"
    " bool float32, ScalarType dtype) -> Tensor",
    _reference,
    _fake,
    compiled=("cuda",),
)
