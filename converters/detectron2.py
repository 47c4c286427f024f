"""detectron2: Cascade Mask R-CNN with ResNet and FPN, and the networks of its ViTDet project (``vitdet.py``).

Source: state dicts of facebookresearch/detectron2 02b5c4e.  Published files are a pickle of {"model": the state dict as
numpy arrays, "__author__": text}; its own trainer writes {"model": tensors, "optimizer": …, "iteration": …} with torch.
Layouts are torch's own and the background class is last, so names change and, for models trained on BGR images, the
order of input channels.  Files of 2019 and 2020 hold anchors and pixel means as well.
"""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, BinaryIO

from cascadezoo.converters import vitdet
from cascadezoo.converters.converter import Converter, Description, Model
from cascadezoo.converters.keymap import REVERSE_INPUT_CHANNELS, KeyMap, same
from cascadezoo.converters.pickle_writer import PYTHON_3, write_pickle

if TYPE_CHECKING:
    from torch import Tensor

# Holes: {p} weight or bias, {norm} a tensor of a batch norm, {s} stage, {i} block of a stage, {n} convolution of a
# block, {l} pyramid level, {k} cascade stage, {fc} fully connected layer, {fcn} mask convolution.
_RESNET = (
    ("backbone.bottom_up.stem.conv1.weight", "backbone.stem.0.weight"),
    ("backbone.bottom_up.stem.conv1.norm.{norm}", "backbone.stem.0.norm.{norm}"),
    ("backbone.bottom_up.res{s}.{i}.conv{n}.weight", "backbone.layer{s}.{i}.conv{n}.weight"),
    ("backbone.bottom_up.res{s}.{i}.conv{n}.norm.{norm}", "backbone.layer{s}.{i}.conv{n}.norm.{norm}"),
    ("backbone.bottom_up.res{s}.{i}.shortcut.weight", "backbone.layer{s}.{i}.shortcut.weight"),
    ("backbone.bottom_up.res{s}.{i}.shortcut.norm.{norm}", "backbone.layer{s}.{i}.shortcut.norm.{norm}"),
)
_NECK_AND_HEADS = (
    ("backbone.fpn_lateral{l}.{p}", "neck.lateral.{l}.{p}"),
    ("backbone.fpn_output{l}.{p}", "neck.output.{l}.{p}"),
    ("proposal_generator.rpn_head.conv.{p}", "rpn.conv.{p}"),
    ("proposal_generator.rpn_head.objectness_logits.{p}", "rpn.objectness.{p}"),
    ("proposal_generator.rpn_head.anchor_deltas.{p}", "rpn.deltas.{p}"),
    ("roi_heads.box_head.{k}.fc{fc}.{p}", "box_heads.{k}.fcs.{fc}.{p}"),
    ("roi_heads.box_predictor.{k}.cls_score.{p}", "box_heads.{k}.cls_score.{p}"),
    ("roi_heads.box_predictor.{k}.bbox_pred.{p}", "box_heads.{k}.bbox_pred.{p}"),
    ("roi_heads.mask_head.mask_fcn{fcn}.{p}", "mask_heads.0.convs.{fcn}.{p}"),
    ("roi_heads.mask_head.deconv.{p}", "mask_heads.0.deconv.{p}"),
    ("roi_heads.mask_head.predictor.{p}", "mask_heads.0.mask_logits.{p}"),
)

_HOLES = {
    "p": same("weight", "bias"),
    "norm": same("weight", "bias", "running_mean", "running_var"),
    "s": {"2": "1", "3": "2", "4": "3", "5": "4"},
    "n": same("1", "2", "3"),
    "l": {"2": "0", "3": "1", "4": "2", "5": "3"},
    "k": same("0", "1", "2"),
    "fc": {"1": "0", "2": "1"},
    "fcn": {"1": "0", "2": "1", "3": "2", "4": "3"},
}

_IGNORED = (
    ("proposal_generator.anchor_generator.cell_anchors.?", "anchors, which the configuration gives"),
    ("pixel_mean", "the mean that is taken off pixels, which the configuration gives"),
    ("pixel_std", "the deviation that pixels are divided by, which the configuration gives"),
    ("*.num_batches_tracked", "a counter that inference never uses"),
)

_BGR = KeyMap(
    rows=(*_RESNET, *_NECK_AND_HEADS),
    holes=_HOLES,
    ignored=_IGNORED,
    transforms={"backbone.stem.0.weight": REVERSE_INPUT_CHANNELS},
)
_VIT, _SWIN = (
    KeyMap(
        rows=(*backbone, *_NECK_AND_HEADS, *vitdet.NORMED_NECK_AND_HEADS),
        holes={**_HOLES, **vitdet.HOLES},
        ignored=_IGNORED,
        derived=derived,
    )
    for backbone, derived in ((vitdet.VIT, ()), (vitdet.SWIN, vitdet.DERIVED))
)
_KEY_MAPS = {
    "cascade_mask_r50_fpn": _BGR,
    **{f"cascade_mask_vitdet_{size}": _VIT for size in ("b", "l", "h")},
    **{f"cascade_mask_swin_{size}": _SWIN for size in ("b", "l")},
}

_HEADS = ("proposal_generator.rpn_head.", "roi_heads.box_predictor.0.")


def _refusal(keys: Collection[str], meta: object) -> str | None:
    def some(prefix: str) -> bool:
        return any(key.startswith(prefix) for key in keys)

    if all(some(head) for head in _HEADS):
        return None
    if begun := vitdet.pretraining(keys):
        return f"{begun}: give a trained detector"
    if some("stem.conv1.") and some("res2."):
        return "it is a backbone, which detectron2 begins training with: give a trained detector"
    if some("proposal_generator.") and some("roi_heads.box_predictor."):
        return "it is a detector of one stage of heads, and the zoo has detectron2's cascades only"
    return f"it has no tensors under {' and '.join(_HEADS)}, where detectron2 keeps the heads of its cascades"


# projects/ViTDet/configs/LVIS: FastRCNNOutputLayers with use_sigmoid_ce, a threshold of 0.02 and 300 detections
_LVIS = {1203: "these are LVIS's classes, which detectron2's ViTDet scores by sigmoid, where the zoo's take a softmax"}


def _describe(meta: object) -> Description:
    return Description()  # nothing lies beside the tensors that tells about the network


def _write(file: BinaryIO, state: "Mapping[str, Tensor]", model: Model) -> None:
    write_pickle(file, {"model": state, "__author__": "cascadezoo"}, PYTHON_3)


CONVERTER = Converter(
    publisher="detectron2",
    hallmark=" and ".join(_HEADS),
    key_map=lambda architecture: _KEY_MAPS[architecture],
    refusal=_refusal,
    describe=_describe,
    scored_otherwise=_LVIS,
    suffix=".pkl",
    write=_write,
)
