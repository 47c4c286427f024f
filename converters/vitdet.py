"""What the networks of detectron2's ViTDet project have in place of its R50's: backbones, necks, norms in their heads.

Source: state dicts of facebookresearch/detectron2 02b5c4e ``projects/ViTDet``.  Its Swin Transformer is that of
``swin.py``, whose index buffers a published file holds.
"""

from collections.abc import Collection

from cascadezoo.converters import swin
from cascadezoo.converters.keymap import same

# Holes as in ``detectron2.py``, and {axis} rows or columns, {linear} linear layer of an attention.
VIT = (
    ("backbone.net.pos_embed", "backbone.pos_embed"),
    ("backbone.net.patch_embed.proj.{p}", "backbone.patch_embed.{p}"),
    ("backbone.net.blocks.{i}.norm{n}.{p}", "backbone.blocks.{i}.norm{n}.{p}"),
    ("backbone.net.blocks.{i}.attn.{linear}.{p}", "backbone.blocks.{i}.attn.{linear}.{p}"),
    ("backbone.net.blocks.{i}.attn.rel_pos_{axis}", "backbone.blocks.{i}.attn.rel_pos_{axis}"),
    ("backbone.net.blocks.{i}.mlp.fc{n}.{p}", "backbone.blocks.{i}.mlp.fc{n}.{p}"),
    ("backbone.simfp_{l}.{i}.{p}", "neck.levels.{l}.{i}.{p}"),
    ("backbone.simfp_{l}.{i}.norm.{p}", "neck.levels.{l}.{i}.norm.{p}"),
)
SWIN = swin.rows("backbone.bottom_up")

NORMED_NECK_AND_HEADS = (
    ("backbone.fpn_lateral{l}.norm.{p}", "neck.lateral.{l}.norm.{p}"),
    ("backbone.fpn_output{l}.norm.{p}", "neck.output.{l}.norm.{p}"),
    ("proposal_generator.rpn_head.conv.conv{i}.{p}", "rpn.conv.{i}.{p}"),
    ("roi_heads.box_head.{k}.conv{fcn}.{p}", "box_heads.{k}.convs.{fcn}.{p}"),
    ("roi_heads.box_head.{k}.conv{fcn}.norm.{p}", "box_heads.{k}.convs.{fcn}.norm.{p}"),
    ("roi_heads.mask_head.mask_fcn{fcn}.norm.{p}", "mask_heads.0.convs.{fcn}.norm.{p}"),
)

HOLES = {**swin.HOLES, "axis": same("h", "w")}
DERIVED = (swin.INDEX,)


def pretraining(keys: Collection[str]) -> str | None:
    """Whether a file with these keys is one that these detectors begin training with, and which; else None."""
    if "pos_embed" in keys and any(key.startswith("blocks.") for key in keys):
        return "it is a ViT without a detector, as MAE pretrains them, which ViTDet begins training with"
    if any(key.startswith("layers.") and ".attn." in key for key in keys):
        return "it is an ImageNet classifier, which detectors on a Swin Transformer begin training with"
    return None
