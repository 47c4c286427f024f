"""Names: full, bare and alias, old and new style, shared and refused."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import cascadezoo
from cascadezoo import registry
from cascadezoo.errors import UnknownName, UnsupportedEntry, UsageError

MMDET_CASES = sorted((Path(__file__).parent / "parity" / "mmdet").glob("*/case.json"))

RESOLVED = {
    # bare: mmdet, internimage, paddle, detectron, swin, convnext, detectron2
    "cascade_r50_fpn_1x": "cascade_r50_fpn_1x.mmdet",
    "cascade_mask_x101_64x4d_fpn_3x": "cascade_mask_x101_64x4d_fpn_3x.mmdet",
    "cascade_mask_internimage_l_fpn_3x": "cascade_mask_internimage_l_fpn_3x.internimage",
    "mask_r50_fpn_1x": "mask_r50_fpn_1x.paddle",
    "mask_x101_64x4d_fpn_1x": "mask_x101_64x4d_fpn_1x.detectron",
    "cascade_mask_r50_fpn_1x": "cascade_mask_r50_fpn_1x.mmdet",
    "cascade_mask_r50_fpn_3x": "cascade_mask_r50_fpn_3x.mmdet",
    "cascade_mask_convnext_t_fpn_3x": "cascade_mask_convnext_t_fpn_3x.mmdet",
    "cascade_mask_convnext_b_fpn_3x": "cascade_mask_convnext_b_fpn_3x.convnext",
    "cascade_mask_swin_t_fpn_3x": "cascade_mask_swin_t_fpn_3x.swin",
    "cascade_mask_vitdet_h_75ep": "cascade_mask_vitdet_h_75ep.detectron2",
    # full
    "cascade_r50_fpn_1x.paddle": "cascade_r50_fpn_1x.paddle",
    "cascade_r50_fpn_1x.detectron": "cascade_r50_fpn_1x.detectron",
    # mmdetection: 2.x configs and files, 3.x configs
    "cascade_mask_rcnn_r50_fpn_20e_coco": "cascade_mask_r50_fpn_20e.mmdet",
    "cascade_mask_rcnn_r50_fpn_20e_coco_bbox_mAP-0.419__segm_mAP-0.365_20200504_174711-4af8e66e": (
        "cascade_mask_r50_fpn_20e.mmdet"
    ),
    "cascade_rcnn_r50_fpn_1x_coco_20200316-3dc56deb": "cascade_r50_fpn_1x.mmdet",
    "cascade_rcnn_r50_fpn_1x_coco_20200316-3dc56deb.mmdet": "cascade_r50_fpn_1x.mmdet",
    "cascade-mask-rcnn_r50_fpn_1x_coco": "cascade_mask_r50_fpn_1x.mmdet",
    "cascade-rcnn_r101-caffe_fpn_1x_coco": "cascade_r101_caffe_fpn_1x.mmdet",
    "cascade-rcnn_x101-64x4d_fpn_1x_coco": "cascade_x101_64x4d_fpn_1x.mmdet",
    "cascade-rcnn_x101_64x4d_fpn_20e_coco": "cascade_x101_64x4d_fpn_20e.mmdet",
    "cascade-mask-rcnn_r50_fpn_mstrain_3x_coco": "cascade_mask_r50_fpn_3x.mmdet",
    "cascade-mask-rcnn_r50_fpn_ms-3x_coco": "cascade_mask_r50_fpn_3x.mmdet",
    "cascade-mask-rcnn_r101-caffe_fpn_ms-3x_coco": "cascade_mask_r101_caffe_fpn_3x.mmdet",
    "cascade_mask_rcnn_x101_32x8d_fpn_mstrain_3x_coco": "cascade_mask_x101_32x8d_fpn_3x.mmdet",
    # a stem that two publishers share
    "cascade_rcnn_r50_fpn_1x_coco": "cascade_r50_fpn_1x.mmdet",
    "cascade_rcnn_r50_fpn_1x_coco.mmdet": "cascade_r50_fpn_1x.mmdet",
    "cascade_rcnn_r50_fpn_1x_coco.paddle": "cascade_r50_fpn_1x.paddle",
    "cascade_mask_rcnn_r50_fpn_1x_coco.paddle": "cascade_mask_r50_fpn_1x.paddle",
    # PaddleDetection
    "mask_rcnn_r50_1x_coco": "mask_r50_c4_1x.paddle",
    "cascade_rcnn_r50_vd_fpn_ssld_2x_coco": "cascade_r50_vd_ssld_fpn_2x.paddle",
    # InternImage: the 3x row's link is the 1x file, which is the 1x entry's alone
    "cascade_internimage_xl_fpn_1x_coco": "cascade_mask_internimage_xl_fpn_1x.internimage",
    "cascade_internimage_xl_fpn_3x_coco": "cascade_mask_internimage_xl_fpn_3x.internimage",
    "mask_rcnn_internimage_t_fpn_1x_coco": "mask_internimage_t_fpn_1x.internimage",
    # Swin Transformer: the 3x files have no schedule in their names; two trainings share a configuration
    "cascade_mask_rcnn_swin_tiny_patch4_window7": "cascade_mask_swin_t_fpn_3x.swin",
    "moby_mask_rcnn_swin_tiny_patch4_window7_3x": "mask_swin_t_moby_fpn_3x.swin",
    "mask_rcnn_swin_tiny_patch4_window7_mstrain_480-800_adamw_3x_coco": "mask_swin_t_fpn_3x.swin",
    # ConvNeXt: 1k and 22k in the files' names, in1k and in22k in the configurations'
    "cascade_mask_rcnn_convnext_base_22k_3x": "cascade_mask_convnext_b_22k_fpn_3x.convnext",
    "cascade_mask_rcnn_convnext_base_patch4_window7_mstrain_480-800_giou_4conv1f_adamw_3x_coco_in1k": (
        "cascade_mask_convnext_b_fpn_3x.convnext"
    ),
    # detectron2: capitals, as in its configurations; a file's digits make its name
    "cascade_mask_rcnn_R_50_FPN_3x": "cascade_mask_r50_fpn_3x.detectron2",
    "model_final_480dd8": "cascade_mask_r50_fpn_3x.detectron2",
    "cascade_mask_rcnn_vitdet_l_100ep": "cascade_mask_vitdet_l_100ep.detectron2",
    # mmdetection's other pages: the metafile's name, 2.x and 3.x
    "cascade-rcnn_r50_fpn_dconv_c3-c5_1x_coco": "cascade_r50_dconv_c3c5_fpn_1x.mmdet",
    "cascade_rcnn_r50_fpn_dconv_c3-c5_1x_coco": "cascade_r50_dconv_c3c5_fpn_1x.mmdet",
    "cascade-rcnn_r50-dconv-c3-c5_fpn_1x_coco": "cascade_r50_dconv_c3c5_fpn_1x.mmdet",
    # Detectron: baselines by the configuration in their link, cascades by their configuration or corrected file
    "e2e_faster_rcnn_R-50-FPN_1x": "faster_r50_fpn_1x.detectron",
    "e2e_mask_rcnn_X-152-32x8d-FPN-IN5k_1.44x": "mask_x152_32x8d_in5k_fpn_s1x.detectron",
    "e2e_mask_cascade_rcnn_R-101-FPN_1x": "cascade_mask_r101_fpn_1x.detectron",
    "R50-FPN-cascade-rcnn": "cascade_r50_fpn_1x.detectron",
    "X152-32x8d-FPN-cascade-rcnn-mask-aug": "cascade_mask_x152_32x8d_in5k_fpn_s1x.detectron",
}


@pytest.mark.parametrize(("name", "entry"), RESOLVED.items())
def test_a_name_means(name, entry):
    assert cascadezoo.info(name).name == entry


def test_every_full_name_means_itself_and_every_alias_its_entry():
    for entry in registry.entries():
        assert registry.info(entry.name) is entry
        for alias in entry.aliases:
            assert entry in registry.namesakes(f"{alias}.{entry.publisher}")


def test_an_alias_never_hides_a_bare_name():
    bare = {entry.bare_name for entry in registry.entries()}
    assert not bare & {alias for entry in registry.entries() for alias in entry.aliases}


@pytest.mark.parametrize(
    "name",
    [
        "model_final",
        "model_final.detectron",
        "model_final.detectron2",
        "model_final_a54504",  # detectron2's plain Mask R-CNN
        "e2e_faster_rcnn_R-50-FPN_2x",  # what the table links for a cascade
        "e2e_mask_rcnn_R-101-FPN_2x",
        "cascade_rcnn_r50_fpn_1x_coco.internimage",
        "cascade_r50_fpn_20e.paddle",
        "cascade_r50_fpn_1x.other",
        "cascade_rcnn_r50_fpn_1x_coco.py",
        "Cascade_R50_FPN_1x",
        "",
        ".mmdet",
    ],
)
def test_no_entry_is_called(name):
    with pytest.raises(UnknownName, match="no entry is called"):
        cascadezoo.info(name)


def test_an_unknown_name_is_answered_with_close_ones():
    with pytest.raises(UnknownName, match=r"did you mean .*cascade_mask_r50_fpn_1x"):
        cascadezoo.info("cascade_mask_r50_fnp_1x")
    with pytest.raises(UnknownName, match="cascadezoo list"):
        cascadezoo.info("yolo")


def test_listing():
    assert len(cascadezoo.list_models()) == 109 + 1  # the published ones and our own, last
    assert cascadezoo.list_models()[-1] == "cascade_mask_r18_fpn_shapes.cascadezoo"
    assert cascadezoo.info("cascade_mask_r18_fpn_shapes").availability == "embedded"
    assert cascadezoo.list_models("*x101_32x8d*", publisher="mmdet") == ["cascade_mask_x101_32x8d_fpn_3x.mmdet"]
    assert cascadezoo.list_models("cascade_r50_fpn_1x") == [
        "cascade_r50_fpn_1x.mmdet",
        "cascade_r50_fpn_1x.paddle",
        "cascade_r50_fpn_1x.detectron",
    ]
    assert cascadezoo.list_models("cascade_r50_fpn_1x.p*") == ["cascade_r50_fpn_1x.paddle"]
    assert cascadezoo.list_models("*internimage_xl*") == [
        "cascade_mask_internimage_xl_fpn_1x.internimage",
        "cascade_mask_internimage_xl_fpn_3x.internimage",
    ]
    assert cascadezoo.list_models("x101") == []
    families = {"faster": 4, "mask": 29, "cascade": 19, "cascade_mask": 58}
    assert {family: len(cascadezoo.list_models(family=family)) for family in families} == families
    publishers = {"mmdet": 38, "internimage": 10, "paddle": 18, "detectron": 18, "swin": 11, "convnext": 7}
    publishers |= {"detectron2": 7, "cascadezoo": 1}
    assert {publisher: len(cascadezoo.list_models(publisher=publisher)) for publisher in publishers} == publishers
    assert len(cascadezoo.list_models(masks=True)) == 87
    assert len(cascadezoo.list_models(masks=False)) == 23
    assert len(cascadezoo.list_models(available=True)) == 106


def test_namesakes_come_in_the_order_of_the_publishers_and_of_their_tables():
    def named(name):
        return [entry.name for entry in registry.namesakes(name)]

    bare = "cascade_mask_r50_fpn_1x"
    assert named(bare) == [f"{bare}.{publisher}" for publisher in ("mmdet", "paddle", "detectron", "detectron2")]
    assert named(f"{bare}.detectron2") == [f"{bare}.detectron2"]
    assert named("cascade_mask_convnext_s_fpn_3x") == [
        "cascade_mask_convnext_s_fpn_3x.mmdet",
        "cascade_mask_convnext_s_fpn_3x.convnext",
    ]
    config = "cascade_mask_rcnn_swin_tiny_patch4_window7_mstrain_480-800_giou_4conv1f_adamw_1x_coco"
    assert (
        named(config)
        == named(f"{config}.swin")
        == [
            "cascade_mask_swin_t_fpn_1x.swin",
            "cascade_mask_swin_t_moby_fpn_1x.swin",
        ]
    )


def test_what_cannot_be_had():
    assert cascadezoo.list_models(available=False) == [
        "cascade_x101_64x4d_fpn_1x.detectron",
        "cascade_x101_32x8d_fpn_1x.detectron",
        "cascade_mask_x101_64x4d_fpn_1x.detectron",
        "cascade_mask_x101_32x8d_fpn_1x.detectron",
    ]


def test_listing_refuses_what_does_not_exist():
    with pytest.raises(UsageError, match="no publisher is called 'mmdetection'; choose one of mmdet, internimage"):
        cascadezoo.list_models(publisher="mmdetection")
    with pytest.raises(UsageError, match="no family is called 'retina'; choose one of faster"):
        cascadezoo.list_models(family="retina")


def test_the_recorded_architectures_have_networks():
    assert MMDET_CASES
    for path in MMDET_CASES:
        case = json.loads(path.read_text("utf-8"))
        for name in case["entries"]:
            entry = registry.info(name)
            assert entry.architecture == case["slug"].removesuffix("_800")
            assert (registry.spec_of(entry).mask is not None) == entry.has_masks


def test_an_entry_without_a_network_says_so(monkeypatch):
    monkeypatch.setattr("cascadezoo.providers.SPECS", {"mmdet": {}})
    with pytest.raises(UnsupportedEntry, match=r"mask_r50_c4_1x\.paddle is listed, but"):
        registry.spec_of(registry.info("mask_r50_c4_1x"))


@pytest.mark.parametrize(
    "program",
    [
        "import cascadezoo; cascadezoo.list_models(); cascadezoo.info('cascade_r50_fpn_1x')",
        "run('list')",
        "run('info', 'cascade_r50_fpn_1x')",
        "run('--help')",
    ],
)
def test_listing_and_help_never_import_torch(program):
    prelude = """
import runpy, sys
def run(*arguments):
    sys.argv = ["cascadezoo", *arguments]
    try:
        runpy.run_module("cascadezoo", run_name="__main__")
    except SystemExit as end:
        assert not end.code, end.code
"""
    check = "\nassert 'cascadezoo.registry' in sys.modules\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", prelude + program + check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("Misc/cascade_mask_rcnn_R_50_FPN_3x.yaml", "cascade_mask_r50_fpn_3x.detectron2"),
        ("configs/dcn/cascade-rcnn_r50-dconv-c3-c5_fpn_1x_coco.py", "cascade_r50_dconv_c3c5_fpn_1x.mmdet"),
        ("cascade_rcnn_r50_fpn_1x_coco.yml", "cascade_r50_fpn_1x.mmdet"),
    ],
)
def test_a_configuration_is_answered_with_its_entry(name: str, entry: str) -> None:
    with pytest.raises(UnknownName, match=f"no entry is called '{name}': the entry of this configuration is {entry}$"):
        registry.info(name)


@pytest.mark.parametrize(
    "name",
    [
        "model_final",
        "model_final.detectron2",
        "my.pth",
        "runs/best.safetensors",
        "MODEL_FINAL.PKL",
        "runs/1/model",
        "a.pdparams",
    ],
)
def test_V6_a_file_of_weights_is_no_name_and_its_option_is_told(name: str) -> None:
    with pytest.raises(
        UnknownName, match=f"no entry is called '{name}', which looks like a file of weights.*--weights"
    ):
        registry.info(name)
