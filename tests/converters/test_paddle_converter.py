"""PaddleDetection's table against the tensor lists of its own models, one per architecture; then small files."""

import gzip
import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cascadezoo import registry
from cascadezoo.checkpoints.conversion import convert, convert_in_memory, to_publisher
from cascadezoo.converters import CONVERTERS
from cascadezoo.converters.canonical import read_canonical
from cascadezoo.converters.converter import Description
from cascadezoo.converters.identify import clues, identify, named
from cascadezoo.errors import (
    CorruptCheckpoint,
    NonFiniteWeights,
    TensorMismatch,
    UnsafeCheckpoint,
    WrongPublisher,
)
from cascadezoo.manifest import ZooEntry
from cascadezoo.modeling.build import canonical_shapes
from cascadezoo.providers import SPECS

from tiny import tiny

CASES = Path(__file__).parents[1] / "parity" / "paddle"
SLUGS = sorted(path.parent.name for path in CASES.glob("*/tensors.json.gz"))
ENTRIES = [entry for entry in registry.entries() if entry.publisher == "paddle"]
PADDLE = CONVERTERS["paddle"]


def architecture(slug: str) -> str:
    return slug.removesuffix("_800")


def listed(slug: str) -> dict[str, tuple[int, ...]]:
    with gzip.open(CASES / slug / "tensors.json.gz", "rt") as file:
        return {key: tuple(shape) for key, shape, *_ in json.load(file)}


def expected() -> dict[str, dict[str, tuple[int, ...]]]:
    return {name: canonical_shapes(spec) for name, spec in SPECS["paddle"].items()}


def test_the_cases_cover_every_architecture_and_entry() -> None:
    assert {architecture(slug) for slug in SLUGS} == SPECS["paddle"].keys()
    assert {entry.architecture for entry in ENTRIES} == SPECS["paddle"].keys()
    assert len(ENTRIES) == 18


@pytest.mark.parametrize("slug", SLUGS)
def test_the_map_is_total_there_and_back(slug: str) -> None:
    name, found = architecture(slug), listed(slug)
    key_map, shapes = PADDLE.key_map(name), canonical_shapes(SPECS["paddle"][name])
    fit = key_map.fit(found, shapes)
    assert fit.problems == 0, fit.describe()
    assert set(fit.pairs.values()) == shapes.keys()
    assert fit.pairs.keys() == found.keys()  # nothing is left out

    back = key_map.invert({key: torch.empty(shape, device="meta") for key, shape in shapes.items()})
    assert {key: tuple(tensor.shape) for key, tensor in back.items()} == found


@pytest.mark.parametrize(
    ("name", "theirs", "ours"),
    [
        ("mask_r50_fpn", "backbone.conv1.conv1.conv.weight", "backbone.stem.0.weight"),
        ("mask_r50_fpn", "backbone.conv1.conv1.norm._mean", "backbone.stem.0.norm.running_mean"),
        ("mask_r50_vd_fpn", "backbone.conv1.conv1_3.norm._variance", "backbone.stem.2.norm.running_var"),
        ("mask_r50_fpn", "backbone.res2.res2c.branch2b.conv.weight", "backbone.layer1.2.conv2.weight"),
        ("mask_r50_fpn", "backbone.res4.res4f.branch2a.norm.bias", "backbone.layer3.5.conv1.norm.bias"),
        ("mask_r101_fpn", "backbone.res4.res4a.branch2a.norm.bias", "backbone.layer3.0.conv1.norm.bias"),
        ("mask_r101_fpn", "backbone.res4.res4b22.branch2c.conv.weight", "backbone.layer3.22.conv3.weight"),
        ("mask_r101_fpn", "backbone.res3.res3d.branch2c.conv.weight", "backbone.layer2.3.conv3.weight"),
        ("mask_r50_fpn", "backbone.res3.res3a.short.norm.weight", "backbone.layer2.0.shortcut.norm.weight"),
        ("mask_r50_vd_fpn", "backbone.res2.res2a.short.conv.weight", "backbone.layer1.0.shortcut.weight"),
        ("mask_r50_vd_fpn", "backbone.res5.res5a.short.conv.conv.weight", "backbone.layer4.0.shortcut.weight"),
        (
            "mask_r50_vd_fpn",
            "backbone.res5.res5a.short.conv.norm._mean",
            "backbone.layer4.0.shortcut.norm.running_mean",
        ),
        ("mask_r50_fpn", "neck.fpn_inner_res4_sum_lateral.bias", "neck.lateral.2.bias"),
        ("mask_r50_fpn", "neck.fpn_inner_res5_sum.weight", "neck.lateral.3.weight"),
        ("mask_r50_fpn", "neck.fpn_res2_sum.weight", "neck.output.0.weight"),
        ("mask_r50_fpn", "rpn_head.rpn_rois_score.bias", "rpn.objectness.bias"),
        ("mask_r50_fpn", "bbox_head.head.fc7.weight", "box_heads.0.fcs.1.weight"),
        ("mask_r50_fpn", "bbox_head.bbox_delta.bias", "box_heads.0.bbox_pred.bias"),
        ("cascade_r50_fpn", "bbox_head.head.2.fc6.bias", "box_heads.2.fcs.0.bias"),
        ("cascade_r50_fpn", "bbox_head.bbox_score_stage1.weight", "box_heads.1.cls_score.weight"),
        ("mask_r50_c4", "bbox_head.head.res5.res5a.short.conv.weight", "box_heads.0.layer4.0.shortcut.weight"),
        ("mask_r50_c4", "bbox_head.head.res5.res5c.branch2b.norm.bias", "box_heads.0.layer4.2.conv2.norm.bias"),
        ("mask_r50_fpn", "mask_head.head.upsample.mask_inter_feat_4.bias", "mask_heads.0.convs.3.bias"),
        ("mask_r50_fpn", "mask_head.mask_fcn_logits.weight", "mask_heads.0.mask_logits.weight"),
    ],
)
def test_names(name: str, theirs: str, ours: str) -> None:
    key_map = PADDLE.key_map(name)
    assert key_map.claims(theirs) == [ours]
    assert key_map.source_keys(ours) == [theirs]


@pytest.mark.parametrize(
    ("name", "stranger"),
    [
        ("mask_r50_fpn", "backbone.res4.res4b1.branch2a.conv.weight"),  # depth 101
        ("mask_r101_fpn", "backbone.res4.res4b.branch2a.conv.weight"),  # depth 50
        ("mask_r101_fpn", "backbone.res4.res4b23.branch2a.conv.weight"),  # depth 152
        ("mask_r50_fpn", "backbone.res3.res4a.branch2a.conv.weight"),
        ("mask_r50_fpn", "backbone.conv1.conv1_1.conv.weight"),
        ("mask_r50_vd_fpn", "backbone.conv1.conv1.conv.weight"),
        ("mask_r50_fpn", "bbox_head.bbox_score_stage0.weight"),
        ("cascade_r50_fpn", "bbox_head.bbox_score.weight"),
        ("mask_r50_fpn", "backbone.res3.res3b.branch2b.conv.conv_offset.weight"),  # deformable convolutions
        ("mask_r50_fpn", "neck.fpn_res5_sum.norm.weight"),
    ],
)
def test_other_layers_are_claimed_by_no_row(name: str, stranger: str) -> None:
    assert PADDLE.key_map(name).claims(stranger) == []


def test_linear_weights_are_transposed() -> None:
    key_map = PADDLE.key_map("cascade_mask_r50_fpn")
    theirs = torch.arange(6.0).reshape(2, 3)
    for layer in ("fcs.0", "fcs.1", "cls_score", "bbox_pred"):
        ours = key_map.apply(f"box_heads.2.{layer}.weight", theirs)
        assert ours.tolist() == [[0, 3], [1, 4], [2, 5]]
        assert ours.is_contiguous()
    assert key_map.apply("mask_heads.0.mask_logits.weight", theirs).tolist() == theirs.tolist()


@pytest.mark.parametrize("slug", SLUGS)
def test_shapes_alone_tell_every_architecture(slug: str) -> None:
    hints = clues(Path("model_final.pdparams"), "0" * 64, Description(), ENTRIES, SPECS["paddle"])
    identity = identify(Path("model_final.pdparams"), listed(slug), PADDLE, ENTRIES, expected(), hints)
    assert identity.architecture == architecture(slug)
    assert identity.found_by == "the shapes of its tensors"
    recorded = json.loads((CASES / slug / "case.json").read_text())["entries"]
    later = [f"mask_r50_vd_ssld_fpn_{n}x.paddle" for n in (1, 2)] if architecture(slug) == "mask_r50_vd_fpn" else []
    assert [entry.name for entry in identity.entries] == recorded + later


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_published_file_names_mean_their_entry(entry: ZooEntry) -> None:
    assert entry.source.checkpoint_url is not None
    file = entry.source.checkpoint_url.rsplit("/", 1)[1]
    assert file.endswith(".pdparams")
    assert named([file.removesuffix(".pdparams")], ENTRIES) == (entry,)
    slug = next(slug for slug in SLUGS if architecture(slug) == entry.architecture)
    hints = clues(Path(file), "0" * 64, Description(), ENTRIES, SPECS["paddle"])
    assert identify(Path(file), listed(slug), PADDLE, ENTRIES, expected(), hints).entries == (entry,)


def test_shapes_have_the_last_word_over_the_name() -> None:
    path = Path("mask_rcnn_r50_fpn_2x_coco.pdparams")
    hints = clues(path, "0" * 64, Description(), ENTRIES, SPECS["paddle"])
    with pytest.raises(TensorMismatch, match=r"they fit mask_r50_vd_fpn_1x\.paddle, mask_r50_vd_fpn_2x\.paddle"):
        identify(path, listed("mask_r50_vd_fpn"), PADDLE, ENTRIES, expected(), hints)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        (["rpn_head.rpn_feat.rpn_conv.weight", "bbox_head.bbox_score.weight"], None),
        (["rpn_head.rpn_feat.rpn_conv.weight", "bbox_head.bbox_score_stage0.weight"], None),
        (["conv1.conv1_1.conv.weight", "res2.res2a.branch2a.conv.weight", "out.weight"], "it is a backbone"),
        (["rpn_head.rpn_conv.weight", "roi_head.bbox_head.0.fc_cls.weight"], "no tensors under rpn_head.rpn_feat."),
        (["backbone.0.weight", "yolo_head.yolo_output.0.weight"], "no tensors under rpn_head.rpn_feat."),
        (["conv2d_0.w_0_moment1_0"], "no tensors under rpn_head.rpn_feat."),
    ],
)
def test_files_of_others_are_refused(keys: list[str], reason: str | None) -> None:
    refusal = PADDLE.refusal(keys, None)
    assert refusal is None if reason is None else refusal is not None and reason in refusal


@pytest.mark.parametrize("slug", SLUGS)
def test_no_other_publisher_takes_the_files(slug: str) -> None:
    keys = listed(slug).keys()
    assert [name for name, converter in CONVERTERS.items() if converter.refusal(keys, None) is None] == ["paddle"]


# Files of small stand-ins


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """The state of a small Mask R-CNN C4, under Paddle's names and in its layouts."""
    spec = tiny("mask_r50_c4", "paddle")
    monkeypatch.setitem(SPECS["paddle"], "mask_r50_c4", spec)
    generator = torch.Generator().manual_seed(1)
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in canonical_shapes(spec).items()}
    return {key: tensor.numpy() for key, tensor in to_publisher(tensors, "mask_r50_c4_1x.paddle").items()}


def save(path: Path, state: dict[str, Any], protocol: int = 4) -> Path:
    names = {key: f"param_{i}" for i, key in enumerate(state)}
    path.write_bytes(pickle.dumps({**state, "StructuredToParameterName@@": names}, protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_file_becomes_canonical(tmp_path: Path, stand_in: dict[str, np.ndarray], protocol: int) -> None:
    path = save(tmp_path / "model_final.pdparams", stand_in, protocol)
    report = convert(path, source="paddle")
    assert report.entries == ("mask_r50_c4_1x.paddle", "mask_r50_c4_2x.paddle")
    assert report.output == tmp_path / "mask_r50_c4.paddle.safetensors"
    assert report.container == "pickle"
    assert (report.ignored, report.refused, report.casts) == ({}, (), {})
    assert report.ignored_entries == ("StructuredToParameterName@@",)
    tensors, _ = read_canonical(report.output)
    assert len(tensors) == len(stand_in)
    delta = stand_in["bbox_head.bbox_delta.weight"]
    np.testing.assert_array_equal(tensors["box_heads.0.bbox_pred.weight"].numpy(), delta.T)
    variance = stand_in["bbox_head.head.res5.res5a.short.norm._variance"]
    np.testing.assert_array_equal(tensors["box_heads.0.layer4.0.shortcut.norm.running_var"].numpy(), variance)
    back = to_publisher(tensors, report.entries[0])
    assert back.keys() == stand_in.keys()
    for key, array in stand_in.items():
        np.testing.assert_array_equal(back[key].numpy(), array)


def test_the_file_name_tells_the_schedule(tmp_path: Path, stand_in: dict[str, np.ndarray]) -> None:
    report = convert(save(tmp_path / "mask_rcnn_r50_2x_coco.pdparams", stand_in), source="paddle")
    assert report.entries == ("mask_r50_c4_2x.paddle",)
    assert report.found_by == "the file name"


def test_half_precision_is_widened_exactly(tmp_path: Path, stand_in: dict[str, np.ndarray]) -> None:
    halved = {key: array.astype(np.float16) for key, array in stand_in.items()}
    tensors, report = convert_in_memory(save(tmp_path / "x.pdparams", halved), source="paddle")
    assert report.casts == dict.fromkeys(halved, "float16")
    score = halved["bbox_head.bbox_score.weight"].astype(np.float32).T
    np.testing.assert_array_equal(tensors["box_heads.0.cls_score.weight"].numpy(), score)


class Hostile:
    """Pickles as a call of ``os.getenv``."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.getenv, ("HOME",)


def test_files_that_cannot_be_converted(tmp_path: Path, stand_in: dict[str, np.ndarray]) -> None:
    key = "bbox_head.bbox_score.bias"
    for change, error, said in (
        ({key: Hostile()}, UnsafeCheckpoint, r"bbox_score\.bias could only be read by running os\.getenv"),
        ({key: stand_in[key][:-1]}, TensorMismatch, r"bbox_score\.bias is \(5,\), expected \(6,\)"),
        ({key: stand_in[key].astype(np.uint16)}, TensorMismatch, r"bbox_score\.bias holds uint16"),
        ({key: np.full(6, np.nan, np.float32)}, NonFiniteWeights, r"bbox_score\.bias"),
        ({"extra": np.zeros(1)}, TensorMismatch, "1 unexpected: extra"),
    ):
        path = save(tmp_path / "x.pdparams", {**stand_in, **change})
        with pytest.raises(error, match=said):
            convert(path, source="paddle", entry="mask_r50_c4_1x.paddle")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CorruptCheckpoint):
        convert(path, source="paddle")
    with pytest.raises(WrongPublisher, match="it is a backbone"):
        convert(save(path, {"res2.res2a.branch2a.conv.weight": np.zeros(1)}), source="paddle")
    with pytest.raises(WrongPublisher, match="cannot be converted from mmdet"):
        convert(save(path, stand_in), source="mmdet")
    assert os.listdir(tmp_path) == ["x.pdparams"]
