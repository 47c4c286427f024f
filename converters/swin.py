"""Swin Transformer: Mask R-CNN and Cascade Mask R-CNN with FPN.

Source: state dicts of SwinTransformer/Swin-Transformer-Object-Detection c7b20110, a fork of mmdetection 2.11; all but
the backbone is mmdetection's own.  Layouts are torch's own, the background class is last and images are RGB.  Files may
hold the states of an optimizer and of apex besides, which are left out.

What is public here holds for every detector whose backbone is made of the same code.
"""

import math
from collections.abc import Collection
from typing import TYPE_CHECKING

from cascadezoo.converters import mmdet, mmdet_config
from cascadezoo.converters.converter import Converter
from cascadezoo.converters.keymap import Derived, same

if TYPE_CHECKING:
    from torch import Tensor


def rows(backbone: str) -> mmdet.Rows:
    """The backbone's rows, by what stands before its tensors.

    Holes: {p} weight or bias, {s} stage, {i} block of a stage, {n} the first or second layer of its kind, {linear}
    linear layer of an attention.
    """
    block, ours = backbone + ".layers.{s}.blocks.{i}", "backbone.stages.{s}.blocks.{i}"
    return (
        (backbone + ".patch_embed.proj.{p}", "backbone.stem.conv.{p}"),
        (backbone + ".patch_embed.norm.{p}", "backbone.stem.norm.{p}"),
        (block + ".norm{n}.{p}", ours + ".norm{n}.{p}"),
        (block + ".attn.relative_position_bias_table", ours + ".attn.relative_position_bias_table"),
        (block + ".attn.{linear}.{p}", ours + ".attn.{linear}.{p}"),
        (block + ".mlp.fc{n}.{p}", ours + ".mlp.fc{n}.{p}"),
        (backbone + ".layers.{s}.downsample.reduction.weight", "backbone.stages.{s}.downsample.reduction.weight"),
        (backbone + ".layers.{s}.downsample.norm.{p}", "backbone.stages.{s}.downsample.norm.{p}"),
        (backbone + ".norm{s}.{p}", "backbone.stages.{s}.norm.{p}"),
    )


HOLES = {"n": same("1", "2"), "linear": same("qkv", "proj"), "s": same("0", "1", "2", "3")}


def _relative_position_index(table: "Tensor") -> "Tensor":
    """The rows (w * w, w * w) int64 of a table ((2 w - 1)**2, heads): cell (y, x) of a window sees cell (v, u) by row
    (y - v + w - 1) * (2 w - 1) + x - u + w - 1."""
    import torch

    sides = math.isqrt(len(table))
    window = (sides + 1) // 2
    cells = torch.cartesian_prod(torch.arange(window), torch.arange(window))
    steps = cells[:, None] - cells + window - 1
    return steps[..., 0] * sides + steps[..., 1]


INDEX = Derived(
    ending=".relative_position_index",
    beside=".relative_position_bias_table",
    formula=_relative_position_index,
    reason="the rows of the table beside it for each pair of cells, held against their formula",
)


def _refusal(keys: Collection[str], meta: object) -> str | None:
    def some(*parts: str) -> bool:
        return any(key.startswith(parts[0]) and all(part in key for part in parts[1:]) for key in keys)

    if some("backbone.layers.", ".attn.") and some("roi_head."):
        return None
    if some("encoder", ".layers."):
        return "it is a pretraining of MoBY, which some of these detectors begin training with: give a trained detector"
    if some("layers.", ".attn."):
        return "it is an ImageNet classifier, which Swin Transformer begins training with: give a trained detector"
    if some("backbone.stages.", ".attn.w_msa."):
        return "its backbone is mmdetection's Swin Transformer, whose tensors are named attn.w_msa."
    if some("backbone.layer1.") and some("roi_head."):
        return "its backbone is a ResNet, with tensors under backbone.layer1."
    return (
        "it has no attn under backbone.layers., or no tensors under roi_head., where Swin Transformer's detectors have "
        "them"
    )


CONVERTER = Converter(
    publisher="swin",
    hallmark="backbone.layers. and roi_head.",
    key_map=mmdet.key_maps(rows("backbone"), HOLES, derived=(INDEX,)),
    refusal=_refusal,
    describe=mmdet_config.describe,
    suffix=".pth",
    write=mmdet.write,
)
