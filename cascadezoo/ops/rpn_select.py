"""The best anchors of a pyramid's levels, moved by their deltas: the candidates of a region proposal network.

Shapes: N images, L levels of H_l x W_l cells, A anchors per cell, K rows per level (``pre_nms_top_n``).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cascadezoo.ops.anchors import cell_halves, first_centre, laid_out
from cascadezoo.ops.boxes import at_least, clip, decode
from cascadezoo.ops.library import define
from cascadezoo.spec.conventions import AnchorGrid, BoxCoder, ProposalRule, RpnScore


class Candidates(NamedTuple):
    """K rows of each level, one level after another, and of each level best first."""

    boxes: Tensor  # (N, L * K, 4) float32 xyxy, network pixels, inside the image
    scores: Tensor  # (N, L * K) float32, probabilities or logits as the rule says
    levels: Tensor  # (N, L * K) int64, 0 the finest
    valid: Tensor  # (N, L * K) bool: not a row that its level has no anchor for, nor a box with a side below min_size


def rpn_select(
    logits: Sequence[Tensor],
    deltas: Sequence[Tensor],
    widths: Sequence[int],
    sizes: Tensor,
    grid: AnchorGrid,
    rule: ProposalRule,
) -> Candidates:
    """Per level take the best anchors, among equal scores the first; move them, and clip them to their image.

    A level of fewer than K anchors repeats its last, so that no shape depends on its size.

    Args:
        logits: per level (N, H_l * W_l * A) float32, ordered y, x, anchor; NaN comes before all numbers.
        deltas: per level (N, H_l * W_l * A, 4) float32 or a half type, which is widened before anything is computed.
        widths: W_l.
        sizes: (N, 2) height and width of each image.
        grid: the anchors.
        rule: scores, coder, ``min_size`` and ``pre_nms_top_n``.

    Where gradients are wanted PyTorch's version runs, unless while compiling: no kernel passes them on.
    """
    levels = range(len(grid.strides))
    differentiated = torch.is_grad_enabled() and any(x.requires_grad for x in (*logits, *deltas))
    by_torch = differentiated and not torch.compiler.is_compiling()
    boxes, scores, of_level, valid = (_reference if by_torch else torch.ops.cascadezoo.rpn_select)(
        list(logits),
        list(deltas),
        sizes,
        list(widths),
        list(grid.strides),
        [first_centre(grid, level) for level in levels],
        [half for level in levels for pair in cell_halves(grid, level) for half in pair],
        rule.score is RpnScore.PROBABILITY,
        list(rule.coder.stds),
        list(rule.coder.log_scale),
        rule.coder.extent,
        rule.min_size,
        rule.pre_nms_top_n,
    )
    return Candidates(boxes, scores, of_level, valid)


BestOfLevel = Callable[[Tensor, Tensor, Tensor, int], tuple[Tensor, Tensor, Tensor, Tensor]]


def _reference(*arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return candidates(best_of_level, *arguments)


def candidates(
    best: BestOfLevel,
    logits: list[Tensor],
    deltas: list[Tensor],
    sizes: Tensor,
    widths: list[int],
    strides: list[int],
    firsts: list[float],
    halves: list[float],
    probability: bool,
    stds: list[float],
    log_scale: list[float],
    extent: int,
    min_size: float,
    top: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The operator by ``best``, which is as ``best_of_level``; the other arguments are those of the schema below."""
    pairs = list(zip(halves[::2], halves[1::2], strict=True))
    cell = len(pairs) // len(logits)
    parts = []
    for i, (width, stride, first) in enumerate(zip(widths, strides, firsts, strict=True)):
        shape = logits[i].shape[1] // (cell * width), width
        anchors = laid_out(shape, pairs[i * cell : (i + 1) * cell], stride, first, sizes.device)
        parts.append(best(logits[i].sigmoid() if probability else logits[i], deltas[i], anchors, top))
    scores, moves, anchors, present = (torch.cat(part, 1) for part in zip(*parts, strict=True))
    levels = torch.arange(len(parts), device=sizes.device).repeat_interleave(top, output_size=scores.shape[1])
    coder = BoxCoder.model_validate({"stds": stds, "log_scale": log_scale, "extent": extent})
    boxes = clip(decode(moves, anchors, coder), sizes, extent)
    return boxes, scores, levels.repeat(scores.shape[0], 1), present & at_least(boxes, min_size, extent)


def best_of_level(scores: Tensor, deltas: Tensor, anchors: Tensor, top: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The scores (N, K), deltas (N, K, 4) and anchors (N, K, 4) of a level's best, best first; (N, K) bool says which
    rows are present."""
    anchors = anchors.expand(len(scores), -1, -1)
    # a full sort, not top-k: among saturated, equal scores the cut must fall where the publisher's falls
    scores, index = scores.sort(dim=1, descending=True, stable=True)
    rank = torch.arange(top, device=scores.device)
    first = rank.clamp(max=scores.shape[1] - 1)
    rows = index.index_select(1, first)[..., None].expand(-1, -1, 4)
    present = (rank < scores.shape[1]).expand(len(scores), -1)
    moves = deltas.gather(1, rows).to(scores.dtype)  # only these are widened, where they are of a half type
    return scores.index_select(1, first), moves, anchors.gather(1, rows), present


def _fake(logits: list[Tensor], deltas: list[Tensor], sizes: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    images, rows = sizes.shape[0], len(logits) * arguments[-1]
    return (
        logits[0].new_empty(images, rows, 4),
        logits[0].new_empty(images, rows),
        sizes.new_empty(images, rows, dtype=torch.int64),
        sizes.new_empty(images, rows, dtype=torch.bool),
    )


define(
    "rpn_select(Tensor[] logits, Tensor[] deltas, Tensor sizes, SymInt[] widths, int[] strides, float[] firsts,"
    " float[] halves, bool probability, float[] stds, float[] log_scale, int extent, float min_size, SymInt top)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    _reference,
    _fake,
    compiled=("cpu", "cuda"),
)
