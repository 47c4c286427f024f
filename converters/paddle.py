"""PaddleDetection: Cascade (Mask) R-CNN and Mask R-CNN with ResNet, ResNet-vd or ResNeXt-vd, on FPN or C4.

Source: state dicts of PaddleDetection 2.6.0; no key of these models was renamed since 2.0.  Linear layers hold their
weights transposed; all other layouts are torch's own, the background class is last and images are RGB.
"""

from collections.abc import Collection, Mapping
from functools import cache
from typing import TYPE_CHECKING, BinaryIO

from cascadezoo.converters.converter import Converter, Description, Model
from cascadezoo.converters.keymap import TRANSPOSE, KeyMap, same
from cascadezoo.converters.pickle_writer import PYTHON_3, write_pickle

if TYPE_CHECKING:
    from torch import Tensor

Rows = tuple[tuple[str, str], ...]


def _conv_norm(theirs: str, ours: str) -> Rows:
    return (f"{theirs}.conv.weight", f"{ours}.weight"), (f"{theirs}.norm.{{norm}}", f"{ours}.norm.{{norm}}")


# Holes: {p} weight or bias, {norm} a tensor of a batch norm, {s}, {t}, {u} stage (all but res4; all; all after res2),
# {i} block of a stage, {i4} block of res4, {n} convolution of a block, {n0} convolution of the stem, {lateral} and
# {output} pyramid level of FPN's two kinds of convolutions, {k} cascade stage, {fc} fully connected layer, {feat} mask
# convolution.  Blocks are named by letters, but in res4 of the deeper networks by numbers: it has too many for letters.
_BACKBONE = (
    *_conv_norm("backbone.res{s}.res{s}{i}.branch2{n}", "backbone.layer{s}.{i}.conv{n}"),
    *_conv_norm("backbone.res4.res4{i4}.branch2{n}", "backbone.layer3.{i4}.conv{n}"),
)
_PLAIN_RESNET = (
    *_conv_norm("backbone.conv1.conv1", "backbone.stem.0"),
    *_conv_norm("backbone.res{t}.res{t}a.short", "backbone.layer{t}.0.shortcut"),
)
_RESNET_VD = (
    *_conv_norm("backbone.conv1.conv1_{n0}", "backbone.stem.{n0}"),
    *_conv_norm("backbone.res2.res2a.short", "backbone.layer1.0.shortcut"),
    *_conv_norm("backbone.res{u}.res{u}a.short.conv", "backbone.layer{u}.0.shortcut"),  # after an average pool
)
_RPN = (
    ("rpn_head.rpn_feat.rpn_conv.{p}", "rpn.conv.{p}"),
    ("rpn_head.rpn_rois_score.{p}", "rpn.objectness.{p}"),
    ("rpn_head.rpn_rois_delta.{p}", "rpn.deltas.{p}"),
)
_FPN = (
    ("neck.fpn_inner_{lateral}.{p}", "neck.lateral.{lateral}.{p}"),
    ("neck.fpn_{output}.{p}", "neck.output.{output}.{p}"),
)
_CASCADE = (
    ("bbox_head.head.{k}.{fc}.{p}", "box_heads.{k}.fcs.{fc}.{p}"),
    ("bbox_head.bbox_score_stage{k}.{p}", "box_heads.{k}.cls_score.{p}"),
    ("bbox_head.bbox_delta_stage{k}.{p}", "box_heads.{k}.bbox_pred.{p}"),
)
_ONE_HEAD = (
    ("bbox_head.head.{fc}.{p}", "box_heads.0.fcs.{fc}.{p}"),
    ("bbox_head.bbox_score.{p}", "box_heads.0.cls_score.{p}"),
    ("bbox_head.bbox_delta.{p}", "box_heads.0.bbox_pred.{p}"),
)
_C4 = (
    *_conv_norm("bbox_head.head.res5.res5{i}.branch2{n}", "box_heads.0.layer4.{i}.conv{n}"),
    *_conv_norm("bbox_head.head.res5.res5a.short", "box_heads.0.layer4.0.shortcut"),
)
_MASK = (
    ("mask_head.head.upsample.mask_inter_feat_{feat}.{p}", "mask_heads.0.convs.{feat}.{p}"),
    ("mask_head.head.upsample.conv5_mask.{p}", "mask_heads.0.deconv.{p}"),
    ("mask_head.mask_fcn_logits.{p}", "mask_heads.0.mask_logits.{p}"),
)

_LETTERS = {letter: str(i) for i, letter in enumerate("abcdef")}
_NUMBERS = {"a": "0", **{f"b{i}": str(i) for i in range(1, 23)}}

_HOLES = {
    "p": same("weight", "bias"),
    "norm": {**same("weight", "bias"), "_mean": "running_mean", "_variance": "running_var"},
    "s": {"2": "1", "3": "2", "5": "4"},
    "t": {"2": "1", "3": "2", "4": "3", "5": "4"},
    "u": {"3": "2", "4": "3", "5": "4"},
    "i": _LETTERS,
    "n": {"a": "1", "b": "2", "c": "3"},
    "n0": {"1": "0", "2": "1", "3": "2"},
    "lateral": {"res2_sum_lateral": "0", "res3_sum_lateral": "1", "res4_sum_lateral": "2", "res5_sum": "3"},
    "output": {"res2_sum": "0", "res3_sum": "1", "res4_sum": "2", "res5_sum": "3"},
    "k": same("0", "1", "2"),
    "fc": {"fc6": "0", "fc7": "1"},
    "feat": {"1": "0", "2": "1", "3": "2", "4": "3"},
}

_LINEAR = ("fcs.0", "fcs.1", "cls_score", "bbox_pred")
_TRANSFORMS = {f"box_heads.{k}.{layer}.weight": TRANSPOSE for k in range(3) for layer in _LINEAR}


def _key_map(architecture: str) -> KeyMap:
    return _map_of("_vd_" in architecture, architecture.startswith("cascade_"), "101" in architecture)


@cache
def _map_of(vd: bool, cascade: bool, deep: bool) -> KeyMap:
    return KeyMap(
        rows=(
            *_BACKBONE,
            *(_RESNET_VD if vd else _PLAIN_RESNET),
            *_RPN,
            *_FPN,
            *(_CASCADE if cascade else _ONE_HEAD),
            *_C4,
            *_MASK,
        ),
        holes={**_HOLES, "i4": _NUMBERS if deep else _LETTERS},
        transforms=_TRANSFORMS,
    )


_HEADS = ("rpn_head.rpn_feat.", "bbox_head.bbox_")


def _refusal(keys: Collection[str], meta: object) -> str | None:
    if all(any(key.startswith(head) for key in keys) for head in _HEADS):
        return None
    if any("branch2a.conv.weight" in key for key in keys):
        return "it is a backbone, which PaddleDetection begins training with: give a trained detector"
    return f"it has no tensors under {' and '.join(_HEADS)}, where PaddleDetection keeps the heads of its detectors"


def _describe(meta: object) -> Description:
    return Description()  # nothing lies beside the tensors but their internal names


def _write(file: BinaryIO, state: "Mapping[str, Tensor]", model: Model) -> None:
    names = {key: key for key in state}  # of variables, in Paddle's own files such as conv2d_0.w_0; only listed
    write_pickle(file, {**state, "StructuredToParameterName@@": names}, PYTHON_3)


CONVERTER = Converter(
    publisher="paddle", key_map=_key_map, refusal=_refusal, describe=_describe, suffix=".pdparams", write=_write
)
