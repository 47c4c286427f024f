"""Region Proposal Network (https://arxiv.org/abs/1506.01497) over a feature pyramid.

Shapes: N images, C channels, H_l x W_l cells on level l, A anchors per cell, R proposals per image.

Formulas ported from (licences in NOTICE):

- open-mmlab/mmdetection 3.3.0, Copyright (c) OpenMMLab, Apache-2.0: ``mmdet/models/dense_heads/rpn_head.py``
- facebookresearch/Detectron e8942c8, Copyright (c) 2017-present, Facebook, Inc., Apache-2.0:
  ``detectron/ops/generate_proposals.py``, ``detectron/modeling/FPN.py``
- PaddlePaddle/PaddleDetection 2.6.0 (93e2d433), Copyright (c) PaddlePaddle Authors, Apache-2.0:
  ``ppdet/modeling/proposal_generator``
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cascadezoo.modeling.layers import Conv
from cascadezoo.ops.anchors import grid_anchors
from cascadezoo.ops.nms import grouped_nms
from cascadezoo.ops.rpn_select import rpn_select
from cascadezoo.spec.conventions import AnchorGrid, ProposalRule


class Proposals(NamedTuple):
    """R rows per image, best first; rows from ``counts`` on are zero."""

    boxes: Tensor  # (N, R, 4) float32 xyxy, network pixels
    scores: Tensor  # (N, R) float32, probabilities or logits as the rule says
    counts: Tensor  # (N,) int64

    @property
    def valid(self) -> Tensor:
        """(N, R) bool: the rows that hold a proposal."""
        return valid_rows(self.counts, self.boxes.shape[1])


def valid_rows(counts: Tensor, rows: int) -> Tensor:
    """(N, rows) bool: in row n the first ``counts[n]`` are true."""
    return torch.arange(rows, device=counts.device)[None] < counts[:, None]


class RPN(nn.Module):
    """One head for all levels, and the proposals from its outputs."""

    def __init__(self, channels: int, anchors: AnchorGrid, rule: ProposalRule, convs: int = 1) -> None:
        super().__init__()
        self.anchors, self.rule = anchors, rule
        layers = [Conv(channels, channels, 3, relu=True) for _ in range(convs)]
        self.conv = layers[0] if convs == 1 else nn.Sequential(*layers)
        self.objectness = nn.Conv2d(channels, anchors.per_cell, 1)
        self.deltas = nn.Conv2d(channels, 4 * anchors.per_cell, 1)

    @property
    def convs(self) -> list[nn.Conv2d]:
        """The head's 3x3 convolutions, the first first."""
        return [module for module in self.conv.modules() if isinstance(module, nn.Conv2d)]

    def head(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """One level (N, C, H, W) to logits (N, H * W * A) float32, and raw deltas (N, H * W * A, 4) of the network's
        type: what reads some of them widens those alone."""
        hidden = self.conv(feature)
        logits = _in_float32(self.objectness, hidden).permute(0, 2, 3, 1).flatten(1)
        return logits, self.deltas(hidden).permute(0, 2, 3, 1).reshape(feature.shape[0], -1, 4)

    def at(self, features: list[Tensor], images: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """What ``head`` says of S anchors alone: logits (S,) float32, and raw deltas (S, 4) of the network's type.

        Training learns from some hundred anchors of some hundred thousand: its gradients come from the cells around
        these that the convolutions reach, and nothing is kept of the others.

        Args:
            features: levels (N, C, H_l, W_l), finest first.
            images: (S,) the image of each.
            rows: (S,) the place of each in the anchors of all levels.
        """
        per_cell = self.anchors.per_cell
        convs = self.convs
        hidden, inside = _around(features, images, rows // per_cell, len(convs))
        own = rows % per_cell
        for conv in convs:
            hidden = F.relu(_shrinking(conv, hidden * inside))
            inside = inside[:, 1:-1, 1:-1]
        hidden = hidden.permute(0, 3, 1, 2)
        logits = _in_float32(self.objectness, hidden).flatten(1).gather(1, own[:, None])[:, 0]
        deltas = self.deltas(hidden).view(-1, per_cell, 4)
        return logits, deltas.gather(1, own[:, None, None].expand(-1, 1, 4))[:, 0]

    def forward(self, features: list[Tensor], sizes: Tensor) -> Proposals:
        """Levels (N, C, H_l, W_l), finest first, and image sizes (N, 2) to proposals."""
        widths = [f.shape[-1] for f in features]
        return propose([self.head(f) for f in features], widths, sizes, self.anchors, self.rule)

    def anchors_of(self, features: list[Tensor]) -> list[Tensor]:
        """Each level's anchors (H_l * W_l * A, 4), network pixels."""
        return grid_anchors([f.shape[-2:] for f in features], self.anchors, features[0].device)


def _around(features: list[Tensor], images: Tensor, cells: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """The K x K cells around each of S cells, K = 2 * reach + 1: (S, K, K, C), and which lie inside the map, bool
    (S, K, K, 1); those outside hold any cell of it.

    ``cells`` (S,): places in the cells of all levels (N, C, H, W), of ``images`` (S,).
    """
    found, where, order, first = [], [], [], 0
    steps = torch.arange(-reach, reach + 1, device=cells.device)
    for feature in features:
        channels, height, width = feature.shape[1:]
        some = ((cells >= first) & (cells < first + height * width)).nonzero().flatten()
        y = ((cells[some] - first) // width)[:, None, None] + steps[:, None]
        x = ((cells[some] - first) % width)[:, None, None] + steps
        where.append((y >= 0) & (y < height) & (x >= 0) & (x < width))
        place = (images[some, None, None] * height + y.clamp(0, height - 1)) * width + x.clamp(0, width - 1)
        pixels = feature.permute(0, 2, 3, 1).reshape(-1, channels).index_select(0, place.flatten())
        found.append(pixels.view(*place.shape, channels))
        order.append(some)
        first += height * width
    back = torch.cat(order).argsort()
    return torch.cat(found)[back], torch.cat(where)[back, ..., None]


def _shrinking(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A 3x3 convolution of (S, K, K, C) cells to (S, K - 2, K - 2, C), without padding."""
    cells = x.unfold(1, 3, 1).unfold(2, 3, 1).permute(0, 1, 2, 4, 5, 3).flatten(3)
    return F.linear(cells, conv.weight.permute(0, 2, 3, 1).flatten(1), conv.bias)


def _in_float32(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution in float32, whatever the network computes in: half precision makes ties of scores, among which the
    order of the anchors would decide."""
    kind = x.device.type
    with torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext():
        return F.conv2d(x.float(), conv.weight.float(), None if conv.bias is None else conv.bias.float())


def propose(
    outputs: Sequence[tuple[Tensor, Tensor]],
    widths: Sequence[int],
    sizes: Tensor,
    grid: AnchorGrid,
    rule: ProposalRule,
) -> Proposals:
    """The proposals inside images of ``sizes`` (N, 2) height and width, from the logits and deltas of each level, whose
    rows are ``widths`` cells long.

    1. Per level, take the ``pre_nms_top_n`` best anchors.
    2. Move them by their deltas and clip them to the image.
    3. Leave out boxes with a side below ``min_size``.
    4. NMS per level; of all levels together the best ``post_nms_top_n`` remain.
    """
    logits, deltas = zip(*outputs, strict=True)
    found = rpn_select(logits, deltas, widths, sizes, grid, rule)
    keep, counts = grouped_nms(
        found.boxes,
        found.scores,
        found.levels,
        found.valid,
        rule.nms,
        rule.post_nms_top_n,
        group_count=len(outputs),
        group_size=rule.pre_nms_top_n,
    )
    valid = valid_rows(counts, keep.shape[1])
    boxes = found.boxes.gather(1, keep[..., None].expand(-1, -1, 4)) * valid[..., None]
    return Proposals(boxes, found.scores.gather(1, keep) * valid, counts)
