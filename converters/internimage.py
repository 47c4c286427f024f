"""InternImage: Mask R-CNN with InternImage-T, -S or -B and FPN; Cascade Mask R-CNN with InternImage-L or -XL, FPN and
convolutional box heads.

Source: state dicts of OpenGVLab/InternImage, ``detection/``, on mmdetection 2.28.1; all but the backbone and the
convolutions of the box heads is mmdetection's own.  Layouts are torch's own, the background class is last and images
are RGB.  The number that ends a norm's name is its place in a sequence whose other steps permute axes.

Files of the 3x schedule hold every tensor twice.  The hook that averages weights swaps them with its ``ema_`` buffers
before a checkpoint is saved: the plain keys are the averaged weights that were evaluated.
"""

from collections.abc import Collection

from cascadezoo.converters import mmdet, mmdet_config
from cascadezoo.converters.converter import Converter
from cascadezoo.converters.keymap import same

# Holes: {p} weight or bias, {s} stage, {i} block of a stage, {n} the first or second layer of its kind, {linear} linear
# layer of a DCNv3 operator.
_INTERNIMAGE = (
    ("backbone.patch_embed.conv{n}.{p}", "backbone.stem.conv{n}.{p}"),
    ("backbone.patch_embed.norm{n}.1.{p}", "backbone.stem.norm{n}.{p}"),
    ("backbone.levels.{s}.blocks.{i}.norm{n}.0.{p}", "backbone.stages.{s}.blocks.{i}.norm{n}.{p}"),
    ("backbone.levels.{s}.blocks.{i}.gamma{n}", "backbone.stages.{s}.blocks.{i}.gamma{n}"),
    ("backbone.levels.{s}.blocks.{i}.mlp.fc{n}.{p}", "backbone.stages.{s}.blocks.{i}.mlp.fc{n}.{p}"),
    ("backbone.levels.{s}.blocks.{i}.dcn.{linear}.{p}", "backbone.stages.{s}.blocks.{i}.dcn.{linear}.{p}"),
    ("backbone.levels.{s}.blocks.{i}.dcn.dw_conv.0.{p}", "backbone.stages.{s}.blocks.{i}.dcn.dw_conv.{p}"),
    ("backbone.levels.{s}.blocks.{i}.dcn.dw_conv.1.1.{p}", "backbone.stages.{s}.blocks.{i}.dcn.dw_norm.{p}"),
    ("backbone.levels.{s}.norm.0.{p}", "backbone.stages.{s}.norm.{p}"),  # of T, whose branches begin with their norms
    ("backbone.levels.{s}.downsample.conv.weight", "backbone.stages.{s}.downsample.conv.weight"),
    ("backbone.levels.{s}.downsample.norm.1.{p}", "backbone.stages.{s}.downsample.norm.{p}"),
)

_HOLES = {"n": same("1", "2"), "linear": same("input_proj", "offset", "mask", "output_proj")}


def _refusal(keys: Collection[str], meta: object) -> str | None:
    def under(prefix: str) -> bool:
        return any(key.startswith(prefix) for key in keys)

    if under("backbone.levels.") and under("roi_head."):
        return None
    if under("levels."):
        return "it is an ImageNet classifier, which InternImage begins training with: give a trained detector"
    if under("backbone.layer1.") and under("roi_head."):
        return "its backbone is a ResNet, with tensors under backbone.layer1."
    return "it has no tensors under backbone.levels. and roi_head., where InternImage keeps those of its detectors"


CONVERTER = Converter(
    publisher="internimage",
    hallmark="backbone.levels. and roi_head.",
    key_map=mmdet.key_maps(_INTERNIMAGE, _HOLES),
    refusal=_refusal,
    describe=mmdet_config.describe,
    suffix=".pth",
    write=mmdet.write,
)
