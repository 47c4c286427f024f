"""mmdetection 2.x and 3.x: Cascade (Mask) R-CNN with ResNet, ResNeXt or ConvNeXt and FPN.

Source: state dicts of mmdetection 3.3.0, ConvNeXt's with mmpretrain 1.2.0; since 2.0 no key of these models was renamed
but, in mmcv, those of the offsets of deformable convolutions, which are read under either name.  Layouts are torch's
own and the background class is last, so names change and, for models trained on BGR images, the order of input
channels.

What is public here holds for every detector built on mmdetection, whatever its backbone.
"""

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from cascadezoo.converters.converter import Converter, Model
from cascadezoo.converters.keymap import REVERSE_INPUT_CHANNELS, Derived, KeyMap, same
from cascadezoo.converters.mmdet_config import deformable, describe, texts

if TYPE_CHECKING:
    from torch import Tensor

Rows = tuple[tuple[str, str], ...]

# Holes: {p} weight or bias, {norm} a tensor of a batch norm, {s} stage, {d} stage after a downsampling, {i} block of a
# stage or layer of a head, {n} convolution of a block, {l} pyramid level, {k} cascade stage.
_RESNET = (
    ("backbone.conv1.weight", "backbone.stem.0.weight"),
    ("backbone.bn1.{norm}", "backbone.stem.0.norm.{norm}"),
    ("backbone.layer{s}.{i}.conv{n}.weight", "backbone.layer{s}.{i}.conv{n}.weight"),
    ("backbone.layer{s}.{i}.conv{n}.conv_offset.{p}", "backbone.layer{s}.{i}.conv{n}.offset.{p}"),
    ("backbone.layer{s}.{i}.bn{n}.{norm}", "backbone.layer{s}.{i}.conv{n}.norm.{norm}"),
    ("backbone.layer{s}.{i}.downsample.0.weight", "backbone.layer{s}.{i}.shortcut.weight"),
    ("backbone.layer{s}.{i}.downsample.1.{norm}", "backbone.layer{s}.{i}.shortcut.norm.{norm}"),
)

# mmcv/ops/deform_conv.py, DeformConv2dPack._load_from_state_dict: the names of its version 1
_FORMER = (("backbone.layer{s}.{i}.conv{n}_offset.{p}", "backbone.layer{s}.{i}.conv{n}.offset.{p}"),)


def convnext(depthwise: str, pointwise: str) -> Rows:
    """A ConvNeXt's rows, by the names that its code gives a block's convolutions."""
    block, ours = "backbone.stages.{s}.{i}", "backbone.stages.{s}.blocks.{i}"
    return (
        ("backbone.downsample_layers.0.0.{p}", "backbone.stem.conv.{p}"),
        ("backbone.downsample_layers.0.1.{p}", "backbone.stem.norm.{p}"),
        ("backbone.downsample_layers.{d}.0.{p}", "backbone.stages.{d}.downsample.norm.{p}"),
        ("backbone.downsample_layers.{d}.1.{p}", "backbone.stages.{d}.downsample.conv.{p}"),
        (f"{block}.gamma", f"{ours}.gamma"),
        (f"{block}.{depthwise}.{{p}}", f"{ours}.dwconv.{{p}}"),
        (f"{block}.norm.{{p}}", f"{ours}.norm.{{p}}"),
        (f"{block}.{pointwise}{{n}}.{{p}}", f"{ours}.mlp.fc{{n}}.{{p}}"),
        ("backbone.norm{s}.{p}", "backbone.stages.{s}.norm.{p}"),
    )


CONVNEXT_HOLES = {"d": same("1", "2", "3"), "n": same("1", "2")}

_NECK = (
    ("neck.lateral_convs.{l}.conv.{p}", "neck.lateral.{l}.{p}"),
    ("neck.fpn_convs.{l}.conv.{p}", "neck.output.{l}.{p}"),
    ("rpn_head.rpn_conv.{p}", "rpn.conv.{p}"),
    ("rpn_head.rpn_cls.{p}", "rpn.objectness.{p}"),
    ("rpn_head.rpn_reg.{p}", "rpn.deltas.{p}"),
)

NECK_AND_HEADS = (
    *_NECK,
    ("roi_head.bbox_head.{k}.shared_fcs.{i}.{p}", "box_heads.{k}.fcs.{i}.{p}"),
    ("roi_head.bbox_head.{k}.fc_cls.{p}", "box_heads.{k}.cls_score.{p}"),
    ("roi_head.bbox_head.{k}.fc_reg.{p}", "box_heads.{k}.bbox_pred.{p}"),
    ("roi_head.mask_head.{k}.convs.{i}.conv.{p}", "mask_heads.{k}.convs.{i}.{p}"),
    ("roi_head.mask_head.{k}.upsample.{p}", "mask_heads.{k}.deconv.{p}"),
    ("roi_head.mask_head.{k}.conv_logits.{p}", "mask_heads.{k}.mask_logits.{p}"),
)

BOX_CONVS = (
    ("roi_head.bbox_head.{k}.shared_convs.{i}.conv.weight", "box_heads.{k}.convs.{i}.weight"),
    ("roi_head.bbox_head.{k}.shared_convs.{i}.bn.{norm}", "box_heads.{k}.convs.{i}.norm.{norm}"),
)

_NECK_AND_PLAIN_HEADS = (
    *_NECK,
    ("roi_head.bbox_head.shared_fcs.{i}.{p}", "box_heads.0.fcs.{i}.{p}"),
    ("roi_head.bbox_head.fc_cls.{p}", "box_heads.0.cls_score.{p}"),
    ("roi_head.bbox_head.fc_reg.{p}", "box_heads.0.bbox_pred.{p}"),
    ("roi_head.mask_head.convs.{i}.conv.{p}", "mask_heads.0.convs.{i}.{p}"),
    ("roi_head.mask_head.upsample.{p}", "mask_heads.0.deconv.{p}"),
    ("roi_head.mask_head.conv_logits.{p}", "mask_heads.0.mask_logits.{p}"),
)

HOLES = {
    "p": same("weight", "bias"),
    "norm": same("weight", "bias", "running_mean", "running_var"),
}

IGNORED = (
    ("*.num_batches_tracked", "a counter that inference never uses"),
    ("ema_*", "the raw twin that an averaging hook keeps: the plain keys hold the averaged weights"),
)

COUNTERS = ((".running_var", ".num_batches_tracked"),)


def key_maps(
    backbone: Rows,
    holes: Mapping[str, Mapping[str, str]],
    ignored: Rows = IGNORED,
    derived: tuple[Derived, ...] = (),
) -> Callable[[str], KeyMap]:
    """The key map of an architecture on a backbone of these rows and holes: those named ``mask_`` are Mask R-CNN, whose
    heads have no number (StandardRoIHead); all others are cascades with convolutional box heads."""

    def with_heads(heads: Rows) -> KeyMap:
        return KeyMap(
            rows=(*backbone, *heads),
            holes={**HOLES, **holes},
            ignored=ignored,
            counters=COUNTERS,
            derived=derived,
        )

    cascade, plain = with_heads((*NECK_AND_HEADS, *BOX_CONVS)), with_heads(_NECK_AND_PLAIN_HEADS)
    return lambda architecture: plain if architecture.startswith("mask_") else cascade


_ROWS = (*_RESNET, *NECK_AND_HEADS)
_HOLES = {**HOLES, "n": same("1", "2", "3")}
_RGB = KeyMap(rows=_ROWS, former=_FORMER, holes=_HOLES, ignored=IGNORED, counters=COUNTERS)
_BGR = KeyMap(
    rows=_ROWS,
    former=_FORMER,
    holes=_HOLES,
    ignored=IGNORED,
    counters=COUNTERS,
    transforms={"backbone.stem.0.weight": REVERSE_INPUT_CHANNELS},
)

# trained on BGR images: the caffe style, and the ResNeXt whose pretraining came from Caffe2
_BGR_ARCHITECTURES = frozenset(
    {
        "cascade_r50_caffe_fpn",
        "cascade_r101_caffe_fpn",
        "cascade_mask_r50_caffe_fpn",
        "cascade_mask_r101_caffe_fpn",
        "cascade_mask_x101_32x8d_fpn",
    }
)

_convnext = key_maps(convnext("depthwise_conv", "pointwise_conv"), CONVNEXT_HOLES)


def _key_map(architecture: str) -> KeyMap:
    if "_convnext_" in architecture:
        return _convnext(architecture)
    return _BGR if architecture in _BGR_ARCHITECTURES else _RGB


# tensors of backbones that other publishers' detectors on mmdetection have
_OTHERS = (
    (r"backbone\.levels\.", "an InternImage, with tensors under backbone.levels."),
    (r"backbone\.layers\.", "a Swin Transformer of its authors' own code, with tensors under backbone.layers."),
    (r"backbone\.stages\.\d+\.\d+\.dwconv\.", "a ConvNeXt of its authors' own code, with tensors named dwconv"),
    (r"backbone\.stages\.\d+\.blocks\.", "mmdetection's own Swin Transformer, of which the zoo has no entry"),
)


def _refusal(keys: Collection[str], meta: object) -> str | None:
    for pattern, backbone in _OTHERS:
        if any(re.match(pattern, key) for key in keys):
            return f"its backbone is {backbone}"
    version = meta.get("mmdet_version") if isinstance(meta, dict) else None
    heads = any(key.startswith("roi_head.") for key in keys)
    if "DCNv2" in (deformable(text)[0] for text in texts(meta)):
        return (
            "its deformable convolutions are of version 2 (DCNv2), which weighs each point as well as moving it: the "
            "networks here have version 1 (DCN)"
        )
    if (isinstance(version, str) and version.startswith(("0.", "1."))) or (
        not heads and any(key.startswith("bbox_head.0.") for key in keys)
    ):
        return (
            "it is of mmdetection 1.x, which computes otherwise (boxes one pixel wider, rounded anchors, unaligned "
            "RoIAlign, background class first): give a file of version 2.0 or later"
        )
    if not heads:
        return "it has no tensor under roi_head., where mmdetection keeps the heads of its two-stage detectors"
    return None


def write(file: BinaryIO, state: "Mapping[str, Tensor]", model: Model) -> None:
    """A checkpoint as the runner of either version loads it."""
    import torch

    meta: dict[str, object] = {"CLASSES": model.classes}  # read by 2.x and 3.x alike
    if model.entry.source.config_url is not None:
        meta["exp_name"] = PurePosixPath(model.entry.source.config_url).name
    try:
        torch.save({"meta": meta, "state_dict": dict(state)}, file)
    except RuntimeError as error:  # torch's own complaint when the file could not be written
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


CONVERTER = Converter(
    publisher="mmdet",
    hallmark="backbone. and roi_head., as mmdetection names them",
    key_map=_key_map,
    refusal=_refusal,
    describe=describe,
    suffix=".pth",
    write=write,
)
