"""ConvNeXt's tables, its authors' and mmdetection's, against the tensor lists of their own models; then files."""

import gzip
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cascadezoo import registry
from cascadezoo.checkpoints.conversion import convert, convert_in_memory, to_publisher
from cascadezoo.checkpoints.exporting import export
from cascadezoo.checkpoints.shapes import shapes_of
from cascadezoo.converters import CONVERTERS
from cascadezoo.converters.converter import Description
from cascadezoo.converters.identify import Identity, clues, identify
from cascadezoo.converters.keymap import KeyMap
from cascadezoo.errors import TensorMismatch, WrongEntry, WrongPublisher
from cascadezoo.modeling.build import canonical_shapes
from cascadezoo.providers import SPECS
from cascadezoo.spec.model import ModelSpec

from stand_in import save_with_apex, stand_in

PARITY = Path(__file__).parents[1] / "parity"
CASES = [  # the folders of both publishers, each of which lists the tensors of its own model
    *(("convnext", path.parent.name) for path in sorted((PARITY / "convnext").glob("*/tensors.json.gz"))),
    *(("mmdet", path.parent.name) for path in sorted((PARITY / "mmdet").glob("*convnext*/tensors.json.gz"))),
]
CONVNEXT = CONVERTERS["convnext"]
ENTRIES = [entry for entry in registry.entries() if entry.publisher == "convnext"]
T, S, B, MASK_T = (f"{name}_fpn" for name in (*(f"cascade_mask_convnext_{s}" for s in "tsb"), "mask_convnext_t"))


def listed(publisher: str, slug: str) -> dict[str, tuple[int, ...]]:
    with gzip.open(PARITY / publisher / slug / "tensors.json.gz", "rt") as file:
        return {key: tuple(shape) for key, shape, *_ in json.load(file)}


def architecture(slug: str) -> str:
    return slug.removesuffix("_800")


def found(slug: str, file: str = "epoch_36.pth", meta: object = None) -> Identity:
    shapes = {name: shapes_of(spec) for name, spec in SPECS["convnext"].items()}
    hints = clues(Path(file), "0" * 64, CONVNEXT.describe(meta), ENTRIES, SPECS["convnext"])
    return identify(Path(file), listed("convnext", slug), CONVNEXT, ENTRIES, shapes, hints)


def test_the_cases_cover_every_architecture_and_entry() -> None:
    assert {architecture(slug) for publisher, slug in CASES if publisher == "convnext"} == SPECS["convnext"].keys()
    assert {entry.architecture for entry in ENTRIES} == SPECS["convnext"].keys()
    assert len(ENTRIES) == 7
    ours = {name for name in SPECS["mmdet"] if "convnext" in name}
    assert {slug for publisher, slug in CASES if publisher == "mmdet"} == ours == {T, S}


@pytest.mark.parametrize(("publisher", "slug"), CASES)
def test_the_map_is_total_there_and_back(publisher: str, slug: str) -> None:
    name, theirs = architecture(slug), listed(publisher, slug)
    key_map, expected = CONVERTERS[publisher].key_map(name), canonical_shapes(SPECS[publisher][name])
    fit = key_map.fit(theirs, expected)
    assert fit.problems == 0, fit.describe()
    assert set(fit.pairs.values()) == expected.keys()
    counters = {key for key in theirs if key.endswith(".num_batches_tracked")}
    assert len(counters) == (12 if name.startswith("cascade") else 0)
    assert fit.ignored.keys() == counters
    back = key_map.invert({name: torch.empty(shape, device="meta") for name, shape in expected.items()})
    assert {key: tuple(tensor.shape) for key, tensor in back.items()} == theirs
    assert {key for key, tensor in back.items() if tensor.dtype == torch.int64} == counters


NAMES = [
    ("backbone.downsample_layers.0.0.weight", "backbone.stem.conv.weight"),
    ("backbone.downsample_layers.0.1.bias", "backbone.stem.norm.bias"),
    ("backbone.downsample_layers.1.0.weight", "backbone.stages.1.downsample.norm.weight"),
    ("backbone.downsample_layers.3.1.bias", "backbone.stages.3.downsample.conv.bias"),
    ("backbone.stages.2.26.gamma", "backbone.stages.2.blocks.26.gamma"),
    ("backbone.stages.2.26.norm.weight", "backbone.stages.2.blocks.26.norm.weight"),
    ("backbone.norm3.bias", "backbone.stages.3.norm.bias"),
    ("neck.fpn_convs.0.conv.bias", "neck.output.0.bias"),
    ("rpn_head.rpn_cls.weight", "rpn.objectness.weight"),
]
OFFICIAL = [
    ("backbone.stages.0.2.dwconv.weight", "backbone.stages.0.blocks.2.dwconv.weight"),
    ("backbone.stages.0.2.pwconv1.bias", "backbone.stages.0.blocks.2.mlp.fc1.bias"),
    ("backbone.stages.0.2.pwconv2.weight", "backbone.stages.0.blocks.2.mlp.fc2.weight"),
]
OF_MMDET = [
    ("backbone.stages.0.2.depthwise_conv.weight", "backbone.stages.0.blocks.2.dwconv.weight"),
    ("backbone.stages.0.2.pointwise_conv1.bias", "backbone.stages.0.blocks.2.mlp.fc1.bias"),
    ("backbone.stages.0.2.pointwise_conv2.weight", "backbone.stages.0.blocks.2.mlp.fc2.weight"),
]
CASCADE = [
    ("roi_head.bbox_head.2.shared_convs.3.conv.weight", "box_heads.2.convs.3.weight"),
    ("roi_head.bbox_head.2.shared_convs.3.bn.running_var", "box_heads.2.convs.3.norm.running_var"),
    ("roi_head.bbox_head.1.shared_fcs.0.bias", "box_heads.1.fcs.0.bias"),
    ("roi_head.mask_head.2.upsample.weight", "mask_heads.2.deconv.weight"),
]
PLAIN = [
    ("roi_head.bbox_head.shared_fcs.1.bias", "box_heads.0.fcs.1.bias"),
    ("roi_head.bbox_head.fc_cls.weight", "box_heads.0.cls_score.weight"),
    ("roi_head.bbox_head.fc_reg.bias", "box_heads.0.bbox_pred.bias"),
    ("roi_head.mask_head.convs.3.conv.weight", "mask_heads.0.convs.3.weight"),
    ("roi_head.mask_head.upsample.weight", "mask_heads.0.deconv.weight"),
    ("roi_head.mask_head.conv_logits.bias", "mask_heads.0.mask_logits.bias"),
]


@pytest.mark.parametrize(
    ("key_map", "claimed", "strange"),
    [
        (CONVNEXT.key_map(S), [*NAMES, *OFFICIAL, *CASCADE], [*OF_MMDET, *PLAIN]),
        (CONVNEXT.key_map(MASK_T), [*NAMES, *OFFICIAL, *PLAIN], [*OF_MMDET, *CASCADE]),
        (CONVERTERS["mmdet"].key_map(S), [*NAMES, *OF_MMDET, *CASCADE], [*OFFICIAL, *PLAIN]),
    ],
    ids=["cascade", "plain", "mmdet"],
)
def test_names(key_map: KeyMap, claimed: list[tuple[str, str]], strange: list[tuple[str, str]]) -> None:
    for theirs, ours in claimed:
        assert key_map.claims(theirs) == [ours]
        assert key_map.source_keys(ours) == [theirs]
    for theirs, _ in strange:
        assert key_map.claims(theirs) == []


@pytest.mark.parametrize(
    "stranger",
    [
        "backbone.stages.0.0.grn.gamma",  # ConvNeXt V2
        "backbone.downsample_layers.4.1.weight",
        "backbone.stages.0.0.pwconv3.weight",
        "backbone.stages.0.blocks.0.gamma",
        "backbone.norm.weight",
        "head.weight",
    ],
)
def test_other_layers_are_claimed_by_no_row(stranger: str) -> None:
    key_map = CONVNEXT.key_map(T)
    assert key_map.claims(stranger) == []
    assert key_map.ignored_because(stranger) is None


# ---------------------------------------------------------------------------------------------- which entry


@pytest.mark.parametrize("slug", sorted({slug for publisher, slug in CASES if publisher == "convnext"}))
def test_shapes_tell_the_network_and_never_the_pretraining(slug: str) -> None:
    identity = found(slug)
    assert identity.architecture == architecture(slug)
    names = [entry.name for entry in identity.entries]
    both = ["cascade_mask_convnext_b_fpn_3x.convnext", "cascade_mask_convnext_b_22k_fpn_3x.convnext"]
    assert names == both if slug == B else len(names) == 1
    assert identity.found_by == "the shapes of its tensors"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_published_files_are_known_by_their_names(entry) -> None:
    identity = found(entry.architecture, file=Path(entry.source.checkpoint_url).name)
    assert identity.entries == (entry,)
    assert identity.found_by == "the file name"


def test_shapes_have_the_last_word() -> None:
    with pytest.raises(TensorMismatch, match="as the file name would have it") as error:
        found(T, file="cascade_mask_rcnn_convnext_small_1k_3x.pth")
    assert str(error.value).endswith("they fit cascade_mask_convnext_t_fpn_3x.convnext")


# ------------------------------------------------------------------------------------------------ whose file


def test_files_of_other_publishers_are_refused_both_ways() -> None:
    meta = {"mmdet_version": "2.11.0"}
    for publisher, slug in CASES:
        for other, converter in CONVERTERS.items():
            assert (converter.refusal(listed(publisher, slug).keys(), meta) is None) == (other == publisher), other
    for other in CONVERTERS.keys() - {"convnext"}:
        for name, spec in SPECS[other].items():
            empty = {key: torch.empty(shape, device="meta") for key, shape in shapes_of(spec).items()}
            assert CONVNEXT.refusal(CONVERTERS[other].key_map(name).invert(empty).keys(), meta) is not None


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        (["downsample_layers.0.0.weight", "stages.0.0.dwconv.weight", "norm.weight", "head.weight"], "an ImageNet"),
        (["stages.0.0.dwconv.weight"], "an ImageNet classifier"),
        (["backbone.stages.0.0.depthwise_conv.weight", "roi_head.bbox_head.0.fc_cls.weight"], "named depthwise_conv"),
        (["backbone.layer1.0.conv1.weight", "roi_head.bbox_head.0.fc_cls.weight"], "its backbone is a ResNet"),
        (["backbone.layers.0.blocks.0.attn.qkv.weight", "roi_head.bbox_head.0.fc_cls.weight"], "it has no dwconv"),
        (["backbone.stages.0.0.dwconv.weight", "decode_head.conv_seg.weight"], "no tensor under roi_head."),
        ([], "no tensor under roi_head."),
    ],
)
def test_files_of_others_are_refused(keys: list[str], reason: str) -> None:
    assert reason in str(CONVNEXT.refusal(keys, None))


# ----------------------------------------------------------------------------------------------------- files


def tiny(publisher: str, name: str) -> ModelSpec:
    record = SPECS[publisher][name].model_dump()
    record["backbone"].update(blocks=(1, 1, 2, 1), width=8 if "_t_" in name else 16)
    record["box_head"].update(
        convs=(16,) * len(record["box_head"]["convs"]), fcs=(32,) * len(record["box_head"]["fcs"])
    )
    record["neck"].update(channels=16)
    record["mask"].update(convs=(16,), deconv=16)
    return ModelSpec.model_validate({**record, "num_classes": 5})


@pytest.fixture
def _small_zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    for publisher in ("convnext", "mmdet"):
        for name in [name for name in SPECS[publisher] if "convnext" in name]:
            monkeypatch.setitem(SPECS[publisher], name, tiny(publisher, name))


@pytest.mark.usefixtures("_small_zoo")
@pytest.mark.parametrize(
    "name",
    [
        "cascade_mask_convnext_t_fpn_3x.convnext",
        "mask_convnext_t_fpn_3x.convnext",
        "cascade_mask_convnext_t_fpn_3x.mmdet",
    ],
)
def test_tensors_come_back_as_they_were(tmp_path: Path, name: str) -> None:
    plain, entry = stand_in(name), registry.info(name)
    tensors, report = convert_in_memory(save_with_apex(tmp_path / "epoch_36.pth", plain))
    assert report.publisher == entry.publisher
    assert report.entries == (name,)
    assert report.ignored_entries == ("optimizer", "amp")
    for key, canonical in report.mapped.items():
        assert torch.equal(tensors[canonical], plain[key]), key
    back = to_publisher(tensors, name)
    assert back.keys() == plain.keys()
    assert all(torch.equal(back[key], plain[key]) for key in report.mapped)


@pytest.mark.usefixtures("_small_zoo")
@pytest.mark.parametrize(
    "name", ["cascade_mask_convnext_b_22k_fpn_3x.convnext", "cascade_mask_convnext_s_fpn_3x.mmdet"]
)
def test_exported_files_convert_to_their_entry(tmp_path: Path, name: str) -> None:
    entry = registry.info(name)
    first = convert(save_with_apex(tmp_path / "epoch_36.pth", stand_in(name)), entry=name)
    exported = export(name, entry.publisher, first.output, tmp_path / "model.pth")
    file = torch.load(exported.output, weights_only=True)
    assert file["state_dict"].keys() == stand_in(name).keys()
    _, second = convert_in_memory(exported.output, entry=name)
    assert second.content_digest == first.content_digest


@pytest.mark.usefixtures("_small_zoo")
def test_each_publishers_files_are_the_others_no_more_than_any(tmp_path: Path) -> None:
    own = save_with_apex(tmp_path / "own.pth", stand_in("cascade_mask_convnext_t_fpn_3x.convnext"))
    with pytest.raises(
        WrongPublisher, match=r"cannot be converted from mmdet: .* named dwconv; it is a file of convnext"
    ):
        convert(own, source="mmdet")
    other = save_with_apex(tmp_path / "other.pth", stand_in("cascade_mask_convnext_t_fpn_3x.mmdet"))
    with pytest.raises(
        WrongPublisher, match=r"cannot be converted from convnext: .* depthwise_conv; it is a file of mm"
    ):
        convert(other, source="convnext")


@pytest.mark.usefixtures("_small_zoo")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"backbone.norm3.bias": None}, r"1 missing: backbone\.norm3\.bias"),
        ({"roi_head.bbox_head.fc_reg.bias": torch.ones(7)}, r"fc_reg\.bias is \(7,\), expected \(20,\)"),
        ({"backbone.stages.3.0.grn.gamma": torch.ones(8)}, r"1 unexpected: backbone\.stages\.3\.0\.grn\.gamma"),
    ],
    ids=["missing", "misshapen", "unexpected"],
)
def test_tensors_that_do_not_fit_are_named(tmp_path: Path, change: dict[str, Tensor | None], words: str) -> None:
    state = {**stand_in("mask_convnext_t_fpn_3x.convnext"), **change}
    state = {key: tensor for key, tensor in state.items() if tensor is not None}
    with pytest.raises(TensorMismatch, match=words):
        convert(save_with_apex(tmp_path / "epoch_36.pth", state), entry="mask_convnext_t_fpn_3x.convnext")


@pytest.mark.usefixtures("_small_zoo")
def test_one_pretrainings_file_is_not_the_others(tmp_path: Path) -> None:
    one, other = ("cascade_mask_convnext_b_fpn_3x.convnext", "cascade_mask_convnext_b_22k_fpn_3x.convnext")
    path = save_with_apex(tmp_path / "cascade_mask_rcnn_convnext_base_22k_3x.pth", stand_in(other))
    assert convert_in_memory(path)[1].entries == (other,)
    assert convert_in_memory(path, entry=one)[1].entries == (one,)  # with a warning: the network is the same


@pytest.mark.usefixtures("_small_zoo")
def test_a_cascade_is_no_mask_rcnn(tmp_path: Path) -> None:
    path = save_with_apex(
        tmp_path / "mask_rcnn_convnext_tiny_1k_3x.pth", stand_in("cascade_mask_convnext_t_fpn_3x.convnext")
    )
    with pytest.raises((TensorMismatch, WrongEntry), match="cascade_mask_convnext_t_fpn_3x"):
        convert(path)


def test_the_configuration_of_a_checkpoint() -> None:
    stem = "mask_rcnn_convnext_tiny_patch4_window7_mstrain_480-800_adamw_3x_coco_in1k"
    meta = {
        "exp_name": f"{stem}.py",
        "config": "model = dict(backbone=dict(type='ConvNeXt', depths=[3, 3, 9, 3], dims=[96, 192, 384, 768]))\n"
        "img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)\n",
    }
    pixels = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
    assert CONVNEXT.describe(meta) == Description(stems=(stem,), pixels=pixels)
