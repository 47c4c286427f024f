"""The graph's own operators in terms of those that standard ONNX has, as decompositions of PyTorch.

What is left after these are two operators that ``translation`` writes in ONNX: ``cascadezoo_export::kept``, greedy
suppression, and ``cascadezoo::pyramid_roi_align``.  ``topk`` stands where equal values have to come in their order:
ONNX's TopK promises this, PyTorch's does not, so what is lowered is not run by PyTorch.

Shapes: N images, K candidates, G groups, R proposals, C classes, B = C or 1, D results per image.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.export import ExportedProgram
from torchvision.ops import nms

from cascadezoo.modeling.rpn import valid_rows
from cascadezoo.ops.dcnv3 import Window
from cascadezoo.ops.rpn_select import candidates

LOWEST = float(np.finfo(np.float32).min)
"""The score of what is no candidate."""

_library = torch.library.Library("cascadezoo_export", "FRAGMENT")
_library.define("kept(Tensor boxes, Tensor scores, float iou, int most) -> Tensor")


def _kept(boxes: Tensor, scores: Tensor, iou: float, most: int) -> Tensor:
    """(N, G, K) bool: what greedy suppression keeps of boxes (N, K, 4), in each group by scores (N, G, K) above
    ``LOWEST`` and, among equal ones, in their order; of each group at most its best ``most``."""
    kept = torch.zeros_like(scores, dtype=torch.bool)
    for n, g in np.ndindex(*scores.shape[:2]):
        rows = (scores[n, g] > LOWEST).nonzero()[:, 0]
        kept[n, g, rows[nms(boxes[n, rows], scores[n, g, rows], iou)[:most]]] = True
    return kept


_library.impl("kept", _kept, "CompositeExplicitAutograd")
torch.library.register_fake(
    "cascadezoo_export::kept",
    lambda boxes, scores, iou, most: torch.empty_like(scores, dtype=torch.bool),
    lib=_library,
)


def lowered(program: ExportedProgram) -> ExportedProgram:
    """A program of ``graph.program`` in terms of what ONNX has."""
    result: ExportedProgram = program.run_decompositions(_TABLE)
    return result


def _sort(x: Tensor, *, stable: bool = True, dim: int = -1, descending: bool = False) -> tuple[Tensor, Tensor]:
    values, index = torch.topk(x if x.is_floating_point() else x.float(), x.shape[dim], dim, largest=descending)
    return values.to(x.dtype), index


def _argsort(x: Tensor, *, stable: bool = True, dim: int = -1, descending: bool = False) -> Tensor:
    return _sort(x, dim=dim, descending=descending)[1]


def _remainder(x: Tensor, other: Any) -> Tensor:
    """By a number that may be a size: PyTorch's exporter takes constants alone."""
    rest: Tensor = x - x // other * other
    return rest


def _rpn_select(*arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return candidates(_best_of_level, *arguments)


def _best_of_level(scores: Tensor, deltas: Tensor, anchors: Tensor, top: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As ``ops.rpn_select.best_of_level``, for levels of any size; rows that are not present hold any anchor."""
    count = scores.shape[1]
    padded = F.pad(scores, (0, top), value=LOWEST)
    best, index = torch.topk(padded, top)
    rows = index.clamp(max=count - 1)[..., None].expand(-1, -1, 4)
    moves = deltas.gather(1, rows).to(scores.dtype)
    return best, moves, anchors[None].expand(scores.shape[0], -1, -1).gather(1, rows), index < count


def _grouped_nms(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    valid: Tensor,
    iou: float,
    extent: int,
    rounded_shift: bool,
    group_count: int,
    group_size: int,
    max_keep: int,
) -> tuple[Tensor, Tensor]:
    if rounded_shift:
        boxes = boxes + (groups * _shift(boxes, valid, extent))[..., None]
    own = torch.arange(group_count, device=groups.device)[:, None] == groups[:, None]
    masked = scores.float()[:, None].where(own & valid[:, None], LOWEST)
    kept = torch.ops.cascadezoo_export.kept(_edges(boxes, extent), masked, _float32_below(iou), max_keep)
    return _best(scores, kept.any(1), max_keep)


def _class_nms(
    boxes: Tensor,
    scores: Tensor,
    valid: Tensor,
    score_thresh: float,
    iou: float,
    extent: int,
    rounded_shift: bool,
    max_keep: int,
) -> tuple[Tensor, Tensor]:
    rows, classes = scores.shape[1:]
    chosen = (scores > score_thresh) & valid[..., None]
    masked = scores.float().where(chosen, LOWEST).transpose(1, 2)  # (N, C, R)
    if boxes.shape[2] == 1 and not rounded_shift:  # classes share their boxes
        each = _edges(boxes[:, :, 0], extent)
    else:  # a class is an image of its own
        boxes = boxes.expand(-1, -1, classes, -1)
        if rounded_shift:
            shift = _shift(boxes.flatten(1, 2), chosen.flatten(1), extent)[..., None]
            boxes = boxes + (torch.arange(classes, device=boxes.device) * shift)[..., None]
        each = _edges(boxes, extent).transpose(1, 2).reshape(-1, rows, 4)
        masked = masked.reshape(-1, 1, rows)
    kept = torch.ops.cascadezoo_export.kept(each, masked, _float32_below(iou), max_keep)
    return _best(scores.flatten(1), kept.view(-1, classes, rows).transpose(1, 2).flatten(1), max_keep)


def _shift(boxes: Tensor, valid: Tensor, extent: int) -> Tensor:
    """(N, 1): the distance in float32 by which publishers part groups, with the rounding that they get from it."""
    return boxes.where(valid[..., None], 0).amax((1, 2))[:, None] + 1 + extent


def _edges(boxes: Tensor, extent: int) -> Tensor:
    """Boxes whose x2 and y2 are the edges behind them."""
    return torch.cat((boxes[..., :2], boxes[..., 2:] + extent), -1) if extent else boxes


def _float32_below(iou: float) -> float:
    """The float32 that another exceeds when it exceeds ``iou``."""
    near = np.float32(iou)
    return float(near if float(near) <= iou else np.nextafter(near, np.float32(0)))


def _best(scores: Tensor, kept: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Of what is ``kept`` (N, K) the best ``most``: indices (N, D), zero beyond the counts (N,)."""
    ranked = scores.float().where(kept, LOWEST)
    ranked = F.pad(ranked, (0, max(0, most - ranked.shape[1])), value=LOWEST)
    counts = kept.sum(1).clamp(max=most)
    return torch.topk(ranked, most).indices * valid_rows(counts, most), counts


def _dcnv3(
    input: Tensor,
    offset: Tensor,
    mask: Tensor,
    kernel: list[int],
    stride: list[int],
    pad: list[int],
    dilation: list[int],
    groups: int,
    offset_scale: float,
) -> Tensor:
    """Sampling by ``grid_sample``, whose grid holds one point of the kernel below another."""
    pairs = [(size[0], size[1]) for size in (kernel, stride, pad, dilation)]
    window = Window(pairs[0], pairs[1], pairs[2], pairs[3], groups, offset_scale)
    n, h, w, channels = input.shape
    ho, wo = offset.shape[1:3]
    k = window.points
    pixels = input.view(n, h, w, groups, -1).permute(0, 3, 4, 1, 2).flatten(0, 1)  # (N * G, D, H, W)
    moved = offset.view(n, ho, wo, groups, k, 2).permute(0, 3, 4, 1, 2, 5).flatten(0, 1)  # (N * G, K, Ho, Wo, 2)
    weights = mask.view(n, ho, wo, groups, 1, k).permute(0, 3, 4, 5, 1, 2).flatten(0, 1)  # (N * G, 1, K, Ho, Wo)
    x, y = (moved[..., i] + window.grid(axis, offset)[:, None, None] for i, axis in enumerate((1, 0)))
    x = window.centres(wo, 1, offset) + x * offset_scale
    y = window.centres(ho, 0, offset)[:, None] + y * offset_scale
    grid = torch.stack(((2 * x + 1) / w - 1, (2 * y + 1) / h - 1), -1).flatten(1, 2)  # (N * G, K * Ho, Wo, 2)
    sampled = F.grid_sample(pixels, grid, padding_mode="zeros", align_corners=False)
    total = (sampled.unflatten(2, (k, ho)) * weights).sum(2)  # (N * G, D, Ho, Wo)
    result: Tensor = total.unflatten(0, (n, groups)).permute(0, 3, 4, 1, 2).reshape(n, ho, wo, channels)
    return result


def _deform_conv2d(
    x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None, stride: int, pad: int, groups: int
) -> Tensor:
    """Sampling by ``grid_sample``, whose grid holds one point of the kernel below another, then one product: ONNX's
    DeformConv is unknown to OpenVINO and to onnxruntime before 1.23."""
    h, w = x.shape[1:3]
    ho, wo = offset.shape[1:3]
    columns = weight.shape[3]
    points = weight.shape[2] * columns
    moved = offset.unflatten(3, (points, 2)).permute(0, 3, 1, 2, 4)  # (N, P, Ho, Wo, 2)
    point = torch.arange(points, device=x.device)[:, None, None]
    row = moved[..., 0] + (point // columns - pad) + stride * torch.arange(ho, device=x.device)[:, None]
    column = moved[..., 1] + (point % columns - pad) + stride * torch.arange(wo, device=x.device)
    grid = torch.stack(((2 * column + 1) / w - 1, (2 * row + 1) / h - 1), -1).flatten(1, 2)  # (N, P * Ho, Wo, 2)
    sampled = F.grid_sample(x.permute(0, 3, 1, 2), grid, padding_mode="zeros", align_corners=False)
    read = sampled.unflatten(2, (points, ho)).flatten(1, 2)  # (N, C * P, Ho, Wo)
    out = F.conv2d(read, weight.flatten(1)[..., None, None], bias, groups=groups)
    return out.permute(0, 2, 3, 1)


def _attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *_: Any, scale: float | None = None
) -> Tensor:
    """Without dropout; laid out as fused kernels leave it, on which the views after it rely."""
    logits = query * (query.shape[-1] ** -0.5 if scale is None else scale) @ key.transpose(-2, -1)
    weights = (logits if attn_mask is None else logits + attn_mask).softmax(-1)
    return (weights @ value).transpose(1, 2).contiguous().transpose(1, 2)


_TABLE: dict[Any, Callable[..., Any]] = {
    torch.ops.aten.argsort.stable: _argsort,
    torch.ops.aten.remainder.Scalar: _remainder,
    torch.ops.aten.scaled_dot_product_attention.default: _attention,
    torch.ops.aten.sort.stable: _sort,
    torch.ops.cascadezoo.class_nms.default: _class_nms,
    torch.ops.cascadezoo.dcnv3.default: _dcnv3,
    torch.ops.cascadezoo.deform_conv2d.default: _deform_conv2d,
    torch.ops.cascadezoo.grouped_nms.default: _grouped_nms,
    torch.ops.cascadezoo.rpn_select.default: _rpn_select,
}
