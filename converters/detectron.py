"""Detectron and Detectron-Cascade-RCNN: Faster, Mask and Cascade R-CNN with ResNet or ResNeXt and FPN.

Source: blobs of zhaoweicai/Detectron-Cascade-RCNN, built on Detectron at e8942c8, as ``utils/net.py`` saves them.
Layouts are torch's own.  Class 0 is the background, and every layer has rows for it: its rows of the class logits and
masks move to the end, its rows of box deltas are never used and left out.  Every network was trained on BGR images.

The configuration in a file, a YAML text with Python's own tags, is not read: the tensors alone identify the network.
"""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, BinaryIO

from cascadezoo.converters.converter import Converter, Description, Model
from cascadezoo.converters.keymap import FIRST_ROW_LAST, REVERSE_INPUT_CHANNELS, KeyMap, same, without_first_rows
from cascadezoo.converters.pickle_writer import PYTHON_2, write_pickle

if TYPE_CHECKING:
    from torch import Tensor

# Holes: {p} weight or bias, {affine} scale or shift of a norm, {s} stage, {i} block of a stage, {n} convolution of a
# block, {fine} and {level} pyramid level (by the last block of its stage; {level} has the coarsest level too),
# {fc} fully connected layer, {k} cascade stage, {fcn} mask convolution.
_ROWS = (
    ("conv1_w", "backbone.stem.0.weight"),
    ("res_conv1_bn_{affine}", "backbone.stem.0.norm.{affine}"),
    ("res{s}_{i}_branch{n}_w", "backbone.layer{s}.{i}.conv{n}.weight"),
    ("res{s}_{i}_branch{n}_bn_{affine}", "backbone.layer{s}.{i}.conv{n}.norm.{affine}"),
    ("res{s}_{i}_branch1_w", "backbone.layer{s}.{i}.shortcut.weight"),
    ("res{s}_{i}_branch1_bn_{affine}", "backbone.layer{s}.{i}.shortcut.norm.{affine}"),
    ("fpn_inner_{fine}_sum_lateral_{p}", "neck.lateral.{fine}.{p}"),
    ("fpn_inner_res5_2_sum_{p}", "neck.lateral.3.{p}"),
    ("fpn_{level}_sum_{p}", "neck.output.{level}.{p}"),
    ("conv_rpn_fpn2_{p}", "rpn.conv.{p}"),  # shared by all levels, under the finest one's name
    ("rpn_cls_logits_fpn2_{p}", "rpn.objectness.{p}"),
    ("rpn_bbox_pred_fpn2_{p}", "rpn.deltas.{p}"),
    ("fc{fc}{k}_{p}", "box_heads.{k}.fcs.{fc}.{p}"),
    ("cls_score{k}_{p}", "box_heads.{k}.cls_score.{p}"),
    ("bbox_pred{k}_{p}", "box_heads.{k}.bbox_pred.{p}"),
    ("_[mask]_fcn{fcn}_{p}", "mask_heads.0.convs.{fcn}.{p}"),
    ("conv5_mask_{p}", "mask_heads.0.deconv.{p}"),
    ("mask_fcn_logits_{p}", "mask_heads.0.mask_logits.{p}"),
)

_HOLES = {
    "p": {"w": "weight", "b": "bias"},
    "affine": {"s": "weight", "b": "bias"},
    "s": {"2": "1", "3": "2", "4": "3", "5": "4"},
    "i": same(*map(str, range(36))),
    "n": {"2a": "1", "2b": "2", "2c": "3"},
    "fc": {"6": "0", "7": "1"},
    "k": {"": "0", "_2": "1", "_3": "2"},
    "fcn": {"1": "0", "2": "1", "3": "2", "4": "3"},
}

# by depth of the ResNet: FPN's blobs are named after the last block of each stage
_FINE = {
    "50": {"res2_2": "0", "res3_3": "1", "res4_5": "2"},
    "101": {"res2_2": "0", "res3_3": "1", "res4_22": "2"},
    "152": {"res2_2": "0", "res3_7": "1", "res4_35": "2"},
}

_IMAGENET = "left over from the ImageNet classifier that training began with, and never used"
_IGNORED = (
    ("*_momentum", "the solver's momentum"),
    ("lr", "the solver's learning rate"),
    ("conv1_b", _IMAGENET),
    ("res*_branch1_b", _IMAGENET),  # biases of convolutions: those of the affine norms end with _bn_b
    ("res*_branch2?_b", _IMAGENET),
    ("fc1000_?", _IMAGENET),
    ("pred_?", _IMAGENET),
)

_NO_BOX = without_first_rows(4, "the background's box, which is never decoded")
_TRANSFORMS = {
    "backbone.stem.0.weight": REVERSE_INPUT_CHANNELS,
    **{f"box_heads.{k}.cls_score.{p}": FIRST_ROW_LAST for k in range(3) for p in ("weight", "bias")},
    **{f"box_heads.{k}.bbox_pred.{p}": _NO_BOX for k in range(3) for p in ("weight", "bias")},
    **{f"mask_heads.0.mask_logits.{p}": FIRST_ROW_LAST for p in ("weight", "bias")},
}

_KEY_MAPS = {
    depth: KeyMap(
        rows=_ROWS,
        holes={**_HOLES, "fine": fine, "level": {**fine, "res5_2": "3"}},
        ignored=_IGNORED,
        transforms=_TRANSFORMS,
    )
    for depth, fine in _FINE.items()
}

_DEPTHS = {"r50": "50", "r101": "101", "x101": "101", "x152": "152"}


def _key_map(architecture: str) -> KeyMap:
    (depth,) = (depth for word, depth in _DEPTHS.items() if f"_{word}_" in architecture)
    return _KEY_MAPS[depth]


def _refusal(keys: Collection[str], meta: object) -> str | None:
    if any(key.startswith(("conv_rpn_fpn2_", "rpn_cls_logits_fpn2_", "rpn_bbox_pred_fpn2_")) for key in keys):
        return None
    if "conv1_w" in keys and not {"fc1000_w", "pred_w"}.isdisjoint(keys):
        return "it is an ImageNet classifier, which Detectron begins training with: give a trained detector"
    return "it has no blob conv_rpn_fpn2_w, where Detectron keeps the RPN of its models with FPN"


def _describe(meta: object) -> Description:
    return Description()


def _confused(wanted: str, found: str) -> str | None:
    plain = wanted.removeprefix("cascade_")
    baseline = plain if plain.startswith("mask_") else f"faster_{plain}"
    if plain == wanted or found != baseline:
        return None
    return f"the {'1.44x' if 'x152' in plain else '2x'} baseline that the published table links by mistake"


# What Detectron reads of a file's configuration: without these weights it would take (1, 1, 1, 1).
_CFG = """!!python/object/new:detectron.utils.collections.AttrDict
dictitems:
  MODEL: !!python/object/new:detectron.utils.collections.AttrDict
    dictitems:
      BBOX_REG_WEIGHTS: !!python/tuple [{}]
      TYPE: generalized_rcnn
    state: {{__immutable__: false}}
state: {{__immutable__: false}}
"""


def _write(file: BinaryIO, state: "Mapping[str, Tensor]", model: Model) -> None:
    weights = ", ".join(f"{1 / std:.1f}" for std in model.spec.stages[0].stds)
    write_pickle(file, {"blobs": state, "cfg": _CFG.format(weights)}, PYTHON_2)


CONVERTER = Converter(
    publisher="detectron",
    key_map=_key_map,
    refusal=_refusal,
    describe=_describe,
    confused=_confused,
    suffix=".pkl",
    write=_write,
)
