"""RoIAlign (He et al. 2017) over a feature pyramid: every box is pooled from the level of its size.

Shapes: N images, R boxes per image, C channels, P bins along a side, H_l x W_l cells on level l.  ``aligned`` is the
half-pixel shift of ``cascadezoo.spec.conventions``.

Formulas ported from (licences in NOTICE):

- open-mmlab/mmdetection 3.3.0, Copyright (c) OpenMMLab, Apache-2.0:
  ``mmdet/models/roi_heads/roi_extractors/single_level_roi_extractor.py`` (``map_roi_levels``)
- facebookresearch/Detectron e8942c8, Copyright (c) 2017-present, Facebook, Inc., Apache-2.0:
  ``detectron/modeling/FPN.py`` (``map_rois_to_fpn_levels``)
"""

import math
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import roi_align as _torchvision

from cascadezoo.errors import UsageError
from cascadezoo.ops.boxes import sides_of
from cascadezoo.ops.library import COMPILED, define
from cascadezoo.spec.conventions import LevelRule, RoIAlign

_ROIS = 2**11  # boxes of one compiled call on a CPU, whose end Ctrl-C waits for
_PIECE = 256  # boxes of one call of torchvision's operator on a CPU
_POINTS = 2**24  # sampling points of one box: torchvision's operator holds 32 bytes of each


def box_levels(boxes: Tensor, rule: LevelRule, levels: int) -> Tensor:
    """Pyramid level (...,) int64, 0 the finest, of boxes (..., 4) (FPN, Lin et al. 2016, equation 1).

    -1, and so of no level, where the area is negative or no number.
    """
    width, height = sides_of(boxes, rule.extent).unbind(-1)
    side = torch.sqrt(width * height)
    level = torch.floor(rule.level + torch.log2(side / rule.size + rule.epsilon))
    return level.clamp(0, levels - 1).nan_to_num(-1).to(torch.int64)


def pyramid_roi_align(
    features: list[Tensor], boxes: Tensor, strides: list[int], rule: LevelRule, align: RoIAlign, resolution: int
) -> Tensor:
    """Pool boxes (N, R, 4), float32 network pixels, from levels (N, C, H_l, W_l), finest first: (N * R, C, P, P).

    A box without area pools to zeros where ``align.sampling_ratio`` is 0, and so does one with a coordinate that is not
    a number or of no level.
    """
    levels, scales = box_levels(boxes, rule, len(features)), [1.0 / s for s in strides]

    def pooled(some: Tensor, of_some: Tensor) -> Tensor:
        result: Tensor = torch.ops.cascadezoo.pyramid_roi_align(
            features, some, of_some, scales, resolution, align.sampling_ratio, align.aligned
        )
        return result

    n, r = boxes.shape[:2]
    if torch.compiler.is_compiling() or boxes.device.type != "cpu" or n * r <= _ROIS:
        return pooled(boxes, levels)
    most = max(1, _ROIS // n)
    parts = [
        pooled(*some).unflatten(0, (n, -1)) for some in zip(boxes.split(most, 1), levels.split(most, 1), strict=True)
    ]
    return torch.cat(parts, 1).flatten(0, 1)


def as_pooled(feature: Tensor) -> Tensor:
    """The level in the memory layout that pooling reads: rearranged once, it serves several poolings."""
    last = feature.device.type in COMPILED
    return feature.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def _reference(
    features: list[Tensor],
    boxes: Tensor,
    levels: Tensor,
    scales: list[float],
    resolution: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    _check_numbers(scales, resolution, sampling_ratio)
    rois, levels = _rows(boxes), levels.flatten()
    pooled = features[0].new_zeros(len(rois), resolution, resolution, features[0].shape[1]).permute(0, 3, 1, 2)
    for level, (feature, scale) in enumerate(zip(features, scales, strict=True)):
        rows = (levels == level).nonzero()[:, 0]
        if len(rows) == 0:
            continue
        wide = _wide(feature).contiguous()
        for part in rows.split(_PIECE if rows.device.type == "cpu" else len(rows)):  # a GPU is quicker whole
            some = rois[part].to(wide.dtype)
            some = _checked(some, len(wide), wide.numel(), scale, resolution, sampling_ratio)
            if wide.numel():  # torchvision's operator would read the cell before the first
                of_part = _torchvision(wide, some, resolution, scale, sampling_ratio, aligned)
                pooled.index_copy_(0, part, of_part.to(pooled.dtype))
    return pooled


def _fake(
    features: list[Tensor], boxes: Tensor, levels: Tensor, scales: list[float], resolution: int, *_: Any
) -> Tensor:
    rois, channels = boxes.shape[0] * boxes.shape[1], features[0].shape[1]
    # channels lie side by side whatever runs: who exports without a compiled operator may run with one
    return features[0].new_empty(rois, resolution, resolution, channels).permute(0, 3, 1, 2)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, boxes, levels, ctx.scales, _, ctx.sampling_ratio, ctx.aligned = inputs
    ctx.shapes = [feature.shape for feature in features]
    ctx.save_for_backward(boxes, levels)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    """The gradients of the features; boxes get none, as in the paper."""
    boxes, levels = ctx.saved_tensors
    heights, widths = [shape[2] for shape in ctx.shapes], [shape[3] for shape in ctx.shapes]
    grads = torch.ops.cascadezoo.pyramid_roi_align_backward(
        grad, boxes, levels, ctx.scales, ctx.sampling_ratio, ctx.aligned, heights, widths
    )
    return grads, None, None, None, None, None, None


def _backward_reference(
    grad: Tensor,
    boxes: Tensor,
    levels: Tensor,
    scales: list[float],
    sampling_ratio: int,
    aligned: bool,
    heights: list[int],
    widths: list[int],
) -> list[Tensor]:
    _, channels, height, width = grad.shape
    _check_numbers(scales, height, sampling_ratio)
    rois, levels = _rows(boxes), levels.flatten()
    grads = []
    for level, (scale, h, w) in enumerate(zip(scales, heights, widths, strict=True)):
        rows = (levels == level).nonzero()[:, 0]
        of_level, shape = _wide(grad[rows]).contiguous(), (len(boxes), channels, h, w)
        some = _checked(rois[rows].to(of_level.dtype), len(boxes), math.prod(shape), scale, height, sampling_ratio)
        of_feature = of_level.new_zeros(shape)
        if of_feature.numel():
            of_feature = torch.ops.torchvision._roi_align_backward(
                of_level, some, scale, height, width, *shape, sampling_ratio, aligned
            )
        grads.append(of_feature.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2).to(grad.dtype))
    return grads


def _backward_fake(grad: Tensor, boxes: Tensor, levels: Tensor, *rest: Any) -> list[Tensor]:
    *_, heights, widths = rest
    n, channels = boxes.shape[0], grad.shape[1]
    return [grad.new_empty(n, h, w, channels).permute(0, 3, 1, 2) for h, w in zip(heights, widths, strict=True)]


def _wide(x: Tensor) -> Tensor:
    """At least float32: half precision cannot hold a coordinate of 1333 pixels."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _rows(boxes: Tensor) -> Tensor:
    """Boxes (N, R, 4) as rows (N * R, 5): the number of the image, then the box."""
    n, r = boxes.shape[:2]
    image = torch.arange(n, device=boxes.device, dtype=boxes.dtype)[:, None, None].expand(n, r, 1)
    return torch.cat((image, boxes), -1).flatten(0, 1)


def _check_numbers(scales: list[float], resolution: int, sampling_ratio: int) -> None:
    if not (1 <= resolution <= 2**20 and 0 <= sampling_ratio <= 2**14 and all(map(math.isfinite, scales))):
        raise UsageError(
            f"roi_align: resolution must lie in 1..{2**20}, sampling_ratio in 0..{2**14}, and scale be finite, not"
            f" {resolution}, {sampling_ratio} and {scales}"
        )


def _checked(rois: Tensor, images: int, numbers: int, scale: float, resolution: int, sampling_ratio: int) -> Tensor:
    """Boxes as torchvision's operator may be given them: it trusts every number.

    Those with a coordinate that is not a finite number come back lying outside every map, where they pool to zeros.
    ``numbers``: how many the map holds.  Boxes on a GPU are not looked at: asking for their values would stop it.
    """
    outside = rois.new_tensor((0, -2e9, -2e9, -2e9, -2e9))
    if rois.device.type == "cpu":
        image = rois[:, 0]
        if not bool(((image >= 0) & (image < images)).all()):
            raise UsageError("roi_align: a box of an image that is not there")
        sides = (rois[:, 3:] - rois[:, 1:3]).where(rois.isfinite().all(1, keepdim=True), 0) * scale
        cells = (sides / resolution).double().ceil().clamp(min=1)
        points = (torch.full_like(cells, sampling_ratio) if sampling_ratio else cells).prod(1) * resolution**2
        if not bool((sides.isfinite().all(1) & (points <= max(_POINTS, numbers))).all()):
            raise UsageError(
                f"roi_align: a box of {points.max().item():.3g} sampling points is too large: clip boxes to their image"
            )
    return rois.where(rois.isfinite().all(1, keepdim=True), outside)


define(
    "pyramid_roi_align(Tensor[] features, Tensor boxes, Tensor levels, float[] scales, SymInt resolution,"
    " int sampling_ratio, bool aligned) -> Tensor",
    _reference,
    _fake,
    backward=_backward,
    setup=_setup,
    compiled=("cpu", "cuda"),
)
define(
    "pyramid_roi_align_backward(Tensor grad, Tensor boxes, Tensor levels, float[] scales, int sampling_ratio,"
    " bool aligned, SymInt[] heights, SymInt[] widths) -> Tensor[]",
    _backward_reference,
    _backward_fake,
    compiled=("cpu", "cuda"),
)
