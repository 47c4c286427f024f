"""mmdetection's table against the tensor lists of its own models, one per architecture."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cascadezoo.converters import CONVERTERS
from cascadezoo.converters.converter import Description
from cascadezoo.modeling.build import canonical_shapes
from cascadezoo.providers import SPECS

CASES = Path(__file__).parents[1] / "parity" / "mmdet"
SLUGS = sorted(path.parent.name for path in CASES.glob("*/tensors.json.gz"))
MMDET = CONVERTERS["mmdet"]

BGR = {name for name in SPECS["mmdet"] if "caffe" in name or "32x8d" in name}  # as the fact tables of 2.x and 3.x say


def architecture(slug: str) -> str:
    return slug.removesuffix("_800")


def listed(slug: str) -> dict[str, tuple[int, ...]]:
    with gzip.open(CASES / slug / "tensors.json.gz", "rt") as file:
        return {key: tuple(shape) for key, shape, *_ in json.load(file)}


def test_the_cases_cover_every_architecture() -> None:
    alike = {f"cascade_mask_{name}_fpn_nuim": f"cascade_mask_{name}_fpn" for name in ("r101", "x101_32x4d")}
    assert {architecture(slug) for slug in SLUGS} == SPECS["mmdet"].keys() - alike.keys()
    for own, coco in alike.items():  # the tensors of COCO's network, except for the classes
        assert canonical_shapes(SPECS["mmdet"][own]) == canonical_shapes(SPECS["mmdet"][coco].with_classes(10))
        assert MMDET.key_map(own) is MMDET.key_map(coco)


@pytest.mark.parametrize("slug", SLUGS)
def test_the_map_is_total_there_and_back(slug: str) -> None:
    name, found = architecture(slug), listed(slug)
    key_map, expected = MMDET.key_map(name), canonical_shapes(SPECS["mmdet"][name])
    fit = key_map.fit(found, expected)
    assert fit.problems == 0, fit.describe()
    assert set(fit.pairs.values()) == expected.keys()
    assert fit.pairs.keys() | fit.ignored.keys() == found.keys()
    assert {key.rsplit(".", 1)[1] for key in fit.ignored} == {"num_batches_tracked"}

    back = key_map.invert({key: torch.empty(shape, device="meta") for key, shape in expected.items()})
    assert {key: tuple(tensor.shape) for key, tensor in back.items()} == found
    assert {key for key, tensor in back.items() if tensor.dtype == torch.int64} == fit.ignored.keys()


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("backbone.conv1.weight", "backbone.stem.0.weight"),
        ("backbone.bn1.running_var", "backbone.stem.0.norm.running_var"),
        ("backbone.layer3.22.conv2.weight", "backbone.layer3.22.conv2.weight"),
        ("backbone.layer3.22.conv2.conv_offset.weight", "backbone.layer3.22.conv2.offset.weight"),
        ("backbone.layer3.22.bn2.bias", "backbone.layer3.22.conv2.norm.bias"),
        ("backbone.layer1.0.downsample.0.weight", "backbone.layer1.0.shortcut.weight"),
        ("backbone.layer1.0.downsample.1.running_mean", "backbone.layer1.0.shortcut.norm.running_mean"),
        ("neck.lateral_convs.3.conv.bias", "neck.lateral.3.bias"),
        ("neck.fpn_convs.0.conv.weight", "neck.output.0.weight"),
        ("rpn_head.rpn_cls.weight", "rpn.objectness.weight"),
        ("roi_head.bbox_head.2.shared_fcs.1.weight", "box_heads.2.fcs.1.weight"),
        ("roi_head.bbox_head.0.fc_reg.bias", "box_heads.0.bbox_pred.bias"),
        ("roi_head.mask_head.1.convs.3.conv.weight", "mask_heads.1.convs.3.weight"),
        ("roi_head.mask_head.1.upsample.bias", "mask_heads.1.deconv.bias"),
    ],
)
def test_names(theirs: str, ours: str) -> None:
    key_map = MMDET.key_map("cascade_mask_r101_fpn")
    assert key_map.claims(theirs) == [ours]
    assert key_map.source_keys(ours) == [theirs]


def test_offsets_are_read_under_the_name_that_they_had_before_too() -> None:
    """As mmcv's layer renames them; where a file has both, something is wrong."""
    name = "cascade_r50_dconv_c3c5_fpn"
    key_map, found = MMDET.key_map(name), listed(name)
    old = {key.replace(".conv_offset.", "_offset."): shape for key, shape in found.items()}
    assert len(old.keys() - found.keys()) == 26  # weight and bias of 4 + 6 + 3 blocks
    fit = key_map.fit(old, canonical_shapes(SPECS["mmdet"][name]))
    assert fit.problems == 0, fit.describe()
    ours = "backbone.layer2.3.conv2.offset.bias"
    assert key_map.claims("backbone.layer2.3.conv2_offset.bias") == [ours]
    assert key_map.source_keys(ours) == ["backbone.layer2.3.conv2.conv_offset.bias"]  # is written as it is now
    both = key_map.fit(found | old, canonical_shapes(SPECS["mmdet"][name]))
    assert len(both.contested) == 52


def test_plain_and_deformable_files_are_told_apart_by_their_tensors() -> None:
    plain, deformable = "cascade_mask_r50_fpn", "cascade_mask_r50_dconv_c3c5_fpn"
    key_map = MMDET.key_map(plain)
    fit = key_map.fit(listed(deformable), canonical_shapes(SPECS["mmdet"][plain]))
    assert len(fit.unexpected) == 26
    assert "26 unexpected: backbone.layer2.0.conv2.conv_offset.bias" in fit.describe()
    fit = key_map.fit(listed(plain), canonical_shapes(SPECS["mmdet"][deformable]))
    assert "26 missing: backbone.layer2.0.conv2.conv_offset.bias" in fit.describe()


@pytest.mark.parametrize(
    "stranger",
    [
        "roi_head.bbox_head.0.shared_convs.0.conv.weight",
        "roi_head.bbox_head.0.fc_cls.running_var",
        "backbone.layer1.0.downsample.2.weight",
        "backbone.layer2.0.conv2.conv_mask.weight",  # a deformable convolution of another kind
        "backbone.layer2.0.conv2.conv_offset.running_var",
        "backbone.layer2.0.conv4.weight",
        "backbone.stem.0.weight",  # deep stems
    ],
)
def test_other_layers_are_claimed_by_no_row(stranger: str) -> None:
    assert MMDET.key_map("cascade_r50_fpn").claims(stranger) == []


@pytest.mark.parametrize("name", SPECS["mmdet"])
def test_models_of_bgr_images_are_turned_to_rgb(name: str) -> None:
    stem = torch.arange(3.0).reshape(1, 3, 1, 1)
    turned = MMDET.key_map(name).apply("backbone.stem.0.weight", stem).flatten().tolist()
    assert turned == ([2.0, 1.0, 0.0] if name in BGR else [0.0, 1.0, 2.0])


HEAD = "roi_head.bbox_head.0.fc_cls.weight"
MODULATED = """model = dict(backbone=dict(type='ResNet', depth=50,
    dcn=dict(type='DCNv2', deform_groups=1, fallback_on_stride=False), stage_with_dcn=(False, True, True, True)))
"""


@pytest.mark.parametrize(
    ("keys", "meta", "reason"),
    [
        (["roi_head.bbox_head.0.fc_cls.weight"], {"mmdet_version": "2.3.0+8ef2ca9"}, None),
        (["roi_head.bbox_head.0.fc_cls.weight"], {"mmengine_version": "0.10.7"}, None),
        (["roi_head.bbox_head.0.fc_cls.weight"], None, None),
        (["roi_head.bbox_head.0.fc_cls.weight"], {"cfg": "backbone=dict(dcn=dict(type='DCN'))"}, None),
        (["roi_head.bbox_head.0.fc_cls.weight"], {"config": MODULATED}, "are of version 2 (DCNv2)"),
        (["bbox_head.0.fc_cls.weight", "backbone.conv1.weight"], None, "mmdetection 1.x"),
        (["roi_head.bbox_head.0.fc_cls.weight"], {"mmdet_version": "1.0rc1+d3ca926"}, "mmdetection 1.x"),
        (["bbox_head.retina_cls.weight"], {"mmdet_version": "2.3.0"}, "no tensor under roi_head"),
        (["backbone.res2.res2a.branch2a.conv.weight"], None, "no tensor under roi_head"),
        (["backbone.stages.0.blocks.0.attn.w_msa.qkv.weight", HEAD], None, "mmdetection's own Swin Transformer"),
        (["backbone.layers.0.blocks.0.attn.qkv.weight", HEAD], None, "its authors' own code"),
    ],
)
def test_files_of_others_are_refused(keys: list[str], meta: object, reason: str | None) -> None:
    refusal = MMDET.refusal(keys, meta)
    assert refusal is None if reason is None else refusal is not None and reason in refusal


CONFIG_2 = """model = dict(
    type='CascadeRCNN',
    pretrained='open-mmlab://detectron2/resnet50_caffe',
    backbone=dict(
        type='ResNet',
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        style='caffe'),
    neck=dict(type='FPN', in_channels=[256, 512, 1024, 2048], style='pytorch'))
work_dir = './work_dirs/cascade_rcnn_r50_caffe_fpn_1x_coco'
"""
CONFIG_3 = """model = dict(
    backbone=dict(
        base_width=8,
        depth=101,
        groups=32,
        init_cfg=dict(checkpoint='open-mmlab://detectron2/resnext101_32x8d', type='Pretrained'),
        norm_cfg=dict(requires_grad=False, type='BN'),
        style='pytorch',
        type='ResNeXt'),
    type='CascadeRCNN')
"""


PLAIN = "backbone=dict(type='ResNet', depth=50, style='pytorch')"
CONFIG_DEFORMABLE = """model = dict(
    backbone=dict(
        dcn=dict(deform_groups=1, fallback_on_stride=False, type='DCN'),
        depth=50,
        stage_with_dcn=(
            False,
            True,
            True,
            True,
        ),
        style='pytorch',
        type='ResNet'),
    type='CascadeRCNN')
"""


@pytest.mark.parametrize(
    ("text", "stages"),
    [
        (CONFIG_DEFORMABLE, (2, 3, 4)),
        (
            "backbone={'type': 'ResNet', 'depth': 50, 'dcn': {'type': 'DCN'}, "
            "'stage_with_dcn': [False, False, True, False]}",
            (3,),
        ),
        ("backbone=dict(type='ResNet', depth=50, dcn=None, stage_with_dcn=(False, True, True, True))", ()),
        ("backbone=dict(type='ResNet', depth=50, dcn=dict(type='DCN'))", ()),  # none by its defaults
        ("backbone=dict(type='ResNet', depth=50), neck=dict(dcn=dict(type='DCN'), stage_with_dcn=(True,))", ()),
    ],
)
def test_a_configuration_says_which_stages_are_deformable(text: str, stages: tuple[int, ...]) -> None:
    assert MMDET.describe({"cfg": text}).backbone["deformable_stages"] == stages


def test_what_a_configuration_says_of_deformable_stages_is_held_against_a_network() -> None:
    plain, deformable = (SPECS["mmdet"][name] for name in ("cascade_r50_fpn", "cascade_r50_dconv_c3c5_fpn"))
    for text, agrees, differs in ((CONFIG_DEFORMABLE, deformable, plain), (PLAIN, plain, deformable)):
        found = MMDET.describe({"cfg": text})
        assert found.differences(agrees) == []
        (words,) = found.differences(differs)
        sides = ["deformable convolutions in stages 2, 3, 4", "no deformable convolutions"]
        assert words == ", where the network has ".join(sides if differs is plain else sides[::-1])


RAW = """/x/_base_/models/cascade_rcnn_r50_fpn.py
model = dict(type='CascadeRCNN', backbone=dict(type='ResNet', depth=50, style='pytorch'))
/x/_base_/datasets/coco_detection.py
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
work_dir = './work_dirs/cascade_rcnn_r50_fpn_1x'
/x/cascade_rcnn_r50_fpn_1x_coco.py
_base_ = ['../_base_/models/cascade_rcnn_r50_fpn.py', '../_base_/datasets/coco_detection.py']
/x/cascade_rcnn_r50_caffe_fpn_1x_coco.py
_base_ = './cascade_rcnn_r50_fpn_1x_coco.py'
model = dict(pretrained='open-mmlab://detectron2/resnet50_caffe', backbone=dict(style='caffe'))
img_norm_cfg = dict(mean=[103.530, 116.280, 123.68], std=[1.0, 1.0, 1.0], to_rgb=False)
"""


def test_of_texts_that_inherit_the_last_holds() -> None:
    """Files of early 2020 have all of them, one after another."""
    found = MMDET.describe({"config": RAW})
    assert found == Description(
        backbone={"stride_in_1x1": True},
        pixels={"mean": (123.68, 116.28, 103.53), "std": (1.0, 1.0, 1.0)},
        stems=("cascade_rcnn_r50_caffe_fpn_1x_coco",),
    )
    silent = RAW[: RAW.rindex("model = ")]
    assert (MMDET.describe({"config": silent}).backbone, MMDET.describe({"config": silent}).pixels) == ({}, {})
    resolved = RAW.split("/x/_base_/datasets")[0]
    assert MMDET.describe({"config": resolved}).backbone["stride_in_1x1"] is False


def test_a_configuration_is_read_as_text() -> None:
    found = MMDET.describe({"config": CONFIG_2, "exp_name": "cascade_rcnn_r50_caffe_fpn_1x_coco.py"})
    assert found.backbone == {
        "blocks": (3, 4, 6, 3),
        "groups": 1,
        "width_per_group": 64,
        "stride_in_1x1": True,
        "deformable_stages": (),
    }
    assert found.stems == ("cascade_rcnn_r50_caffe_fpn_1x_coco", "cascade_rcnn_r50_caffe_fpn_1x_coco")
    found = MMDET.describe({"cfg": CONFIG_3, "experiment_name": "cascade-mask-rcnn_x101-32x8d_fpn_ms-3x_coco_20230101"})
    assert found.backbone == {
        "blocks": (3, 4, 23, 3),
        "groups": 32,
        "width_per_group": 8,
        "stride_in_1x1": False,
        "deformable_stages": (),
    }
    assert found.stems == ("cascade-mask-rcnn_x101-32x8d_fpn_ms-3x_coco_20230101",)


MAPPING = {
    "model": {
        "type": "CascadeRCNN",
        "backbone": {
            "init_cfg": {"type": "Pretrained"},
            "type": "ResNet",
            "depth": 50,
            "style": "caffe",
            "dcn": {"type": "DCN"},
            "stage_with_dcn": (False, True, True, True),
        },
    },
    "img_norm_cfg": {"mean": (103.53, 116.28, 123.68), "std": (1.0, 1.0, 1.0), "to_rgb": False},
    "work_dir": "./work_dirs/cascade_rcnn_r50_caffe_fpn_1x_coco",
}


@pytest.mark.parametrize(
    "config", [MAPPING, json.dumps(MAPPING), json.dumps(MAPPING).encode(), str(MAPPING)], ids=lambda c: str(type(c))
)
@pytest.mark.parametrize("field", ["cfg", "config"])
def test_a_configuration_may_be_a_mapping_or_bytes(config: object, field: str) -> None:
    found = MMDET.describe({field: config})
    assert found.backbone == {
        "blocks": (3, 4, 6, 3),
        "groups": 1,
        "width_per_group": 64,
        "stride_in_1x1": True,
        "deformable_stages": (2, 3, 4),
    }
    assert found.pixels == {"mean": (123.68, 116.28, 103.53), "std": (1.0, 1.0, 1.0)}
    if not isinstance(config, str) or config.startswith('{"'):
        assert found.stems == ("cascade_rcnn_r50_caffe_fpn_1x_coco",)


def test_a_mapping_whose_parts_share_theirs_is_read_to_a_bound() -> None:
    """Written out, it would have 10^30 parts."""
    shared: object = "x"
    for _ in range(30):
        shared = [shared] * 10
    config = {"model": {"backbone": {"style": "caffe"}, "more": shared}, "work_dir": "unread"}
    assert MMDET.describe({"cfg": config}) == Description(backbone={"stride_in_1x1": True})


@pytest.mark.parametrize(
    ("meta", "stem"),
    [
        ({"config_name": "configs/cascade_rcnn/x_caffe.py"}, "x_caffe"),
        ({"config_path": r"C:\configs\x_caffe.py"}, "x_caffe"),
        ({"hook_msgs": {"best_ckpt": "/runs/x_caffe/best_bbox_mAP_epoch_9.pth"}}, "x_caffe"),
        ({"cfg": "experiment_name = 'x_caffe'"}, "x_caffe"),
        ({"config": b"work_dir = '/runs/x_caffe'"}, "x_caffe"),
    ],
)
def test_what_names_a_configuration(meta: object, stem: str) -> None:
    assert MMDET.describe(meta).stems == (stem,)


@pytest.mark.parametrize(
    ("text", "backbone"),
    [
        ("model = dict(backbone=dict(style='caffe'))", {"stride_in_1x1": True}),
        ("backbone=dict(type='ResNet', style='pytorch')", {"stride_in_1x1": False}),
        ("backbone=dict(depth=101, style='caffe')", {"blocks": (3, 4, 23, 3), "stride_in_1x1": True}),
        ("backbone=dict(type='Res2Net', depth=101, style='caffe')", {}),
        ("backbone=dict(plugins=[dict(style='caffe')])", {}),
    ],
)
def test_a_part_of_a_configuration_counts_for_what_it_says(text: str, backbone: dict[str, object]) -> None:
    assert MMDET.describe({"cfg": text}).backbone == backbone


@pytest.mark.parametrize(
    ("text", "pixels"),
    [
        ("mean=(1, 2, 3), std=(4, 5, 6), to_rgb=True", {"mean": (1, 2, 3), "std": (4, 5, 6)}),
        ("mean=(1, 2, 3), std=(4, 5, 6), bgr_to_rgb=False", {"mean": (3, 2, 1), "std": (6, 5, 4)}),
        ("std=(1.0, 1.0, 1.0)", {"std": (1, 1, 1)}),
        ("mean=[1, 2, 3], std=[1.0, 1.0, 1.0]", {"std": (1, 1, 1)}),  # means in an unknown order
        ("mean=[1.2.3, 2, 3], to_rgb=True", {}),
    ],
)
def test_what_a_configuration_says_of_pixels(text: str, pixels: dict[str, object]) -> None:
    assert MMDET.describe({"cfg": text}).pixels == pixels


@pytest.mark.parametrize(
    "meta",
    [
        None,
        [],
        {},
        {"config": 3},
        {"config": "import os"},
        {"cfg": "backbone=dict(type='ResNet'"},
        {"cfg": "backbone=dict(depth=18, type='ResNet')"},
        {"cfg": "backbone=dict(depth=50, type='Res2Net')"},
        {"cfg": "backbone=dict(type='ResNet'), depth=50"},
    ],
)
def test_a_configuration_that_says_nothing(meta: object) -> None:
    assert MMDET.describe(meta).backbone == {}


@pytest.mark.parametrize(
    ("given", "unread"), [(np.zeros(3), False), (["cat", 1], True), ({0: "cat"}, True), ([], False), (None, False)]
)
def test_lists_of_classes_that_are_left_aside(given: object, unread: bool) -> None:
    found = MMDET.describe({"CLASSES": given})
    assert (found.classes, found.unread_classes) == (None, unread)
