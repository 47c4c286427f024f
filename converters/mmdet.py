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

from cascadezoo.converters.converter import Converter, Description, Model, class_names
from cascadezoo.converters.keymap import REVERSE_INPUT_CHANNELS, Derived, KeyMap, same

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
    if "DCNv2" in (_deformable(text)[0] for text in _texts(meta)):
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


_RESNEXT = {"groups": 1, "base_width": 4}  # with the defaults of mmdet/models/backbones/resnext.py
_DIGITS = 4  # of a number that can be a ResNeXt's: Python refuses to read one of 5000
_BLOCKS = {"50": (3, 4, 6, 3), "101": (3, 4, 23, 3)}


def describe(meta: object) -> Description:
    """The ResNet, if it is one, the pixels it takes, the names of the configuration, and those of the classes."""
    if not isinstance(meta, dict):
        return Description()
    texts = _texts(meta)
    names = [name for name in (meta.get("experiment_name"), meta.get("exp_name")) if isinstance(name, str)]
    folders = (re.search(r"^work_dir\s*=\s*['\"]([^'\"\n]+)", text, re.MULTILINE) for text in texts)
    names += [folder[1] for folder in folders if folder]
    data_set = meta.get("dataset_meta")
    lists = [data_set.get("classes"), data_set.get("CLASSES")] if isinstance(data_set, dict) else []
    return Description(
        backbone=next((found for found in map(_backbone, texts) if found), {}),
        pixels=next((found for found in map(_pixels, texts) if found), {}),
        stems=tuple(PurePosixPath(name).name.removesuffix(".py") for name in names),
        classes=class_names(meta.get("CLASSES"), *lists),
    )


def _texts(meta: object) -> list[str]:
    """The whole configurations in a file's metadata.

    Files of early 2020 hold the texts of a configuration and of all those that it inherits from, one after another:
    what holds is in none of them.
    """
    found = (meta.get("cfg"), meta.get("config")) if isinstance(meta, dict) else ()  # 3.x, 2.x
    return [text for text in found if isinstance(text, str) and not re.search(r"^_base_\s*=", text, re.MULTILINE)]


def _block(name: str, text: str) -> str:
    """What stands in the brackets of ``name=dict(...)`` or ``'name': {...}``; nothing where there is none."""
    start = re.search(rf"\b{name}['\"]?\s*[=:]\s*(dict\(|\{{)", text)
    return _balanced(text[start.end() :]) if start else ""


def _deformable(text: str) -> tuple[str | None, tuple[int, ...]]:
    """The type of a configuration's deformable convolutions, and the stages that have them, counted from 1."""
    block = _block("backbone", text)
    kind = re.search(r"\btype['\"]?\s*[=:]\s*['\"](\w+)", _block("dcn", block))
    stages = re.search(r"\bstage_with_dcn['\"]?\s*[=:]\s*[(\[]([^()\[\]]*)", block)
    if kind is None or stages is None:
        return None, ()
    words = re.findall(r"\w+", stages[1])
    return kind[1], tuple(stage for stage, word in enumerate(words, 1) if word == "True")


def _backbone(text: str) -> dict[str, object]:
    """What a configuration, read as text and never executed, says of a ResNet: fields of ``ResNetSpec``."""
    block = _block("backbone", text)

    def value(key: str, pattern: str) -> str | None:
        found = re.search(rf"\b{key}['\"]?\s*[=:]\s*['\"]?({pattern})\b", block)
        return found[1] if found else None

    kind, depth, style = value("type", "ResNet|ResNeXt"), value("depth", "50|101"), value("style", "pytorch|caffe")
    if kind is None or depth is None:
        return {}
    groups, width = 1, 64
    if kind == "ResNeXt":
        sizes = [value(key, r"\d+") or str(default) for key, default in _RESNEXT.items()]
        if any(len(size) > _DIGITS for size in sizes):
            return {}
        groups, width = map(int, sizes)
    return {
        "blocks": _BLOCKS[depth],
        "groups": groups,
        "width_per_group": width,
        "stride_in_1x1": style == "caffe",
        "deformable_stages": _deformable(text)[1],
    }


_NUMBER = r"\s*([\d.]{1,12})\s*"
_TRIPLE = rf"['\"]?\s*[=:]\s*\[{_NUMBER},{_NUMBER},{_NUMBER},?\s*\]"


def _pixels(text: str) -> dict[str, tuple[float, float, float]]:
    """The pixel means and deviations that a configuration states, in RGB order; empty where it states none plainly."""
    mean, std = (re.search(rf"\b{name}{_TRIPLE}", text) for name in ("mean", "std"))
    order = re.search(r"\b(?:bgr_)?to_rgb['\"]?\s*[=:]\s*(True|False)", text)
    if mean is None or std is None or order is None:
        return {}
    stated = {}
    for name, match in (("mean", mean), ("std", std)):
        try:
            first, second, third = (float(number) for number in match.groups())
        except ValueError:  # several points in a number
            return {}
        stated[name] = (first, second, third) if order[1] == "True" else (third, second, first)
    return stated


def _balanced(text: str) -> str:
    """``text`` up to the bracket that closes the one before it."""
    depth = 1
    for end, character in enumerate(text):
        depth += (character in "({") - (character in ")}")
        if depth == 0:
            return text[:end]
    return text


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
