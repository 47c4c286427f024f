"""InternImage's table against the tensor lists of its own models; then files: twins, wrong names and publishers."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cascadezoo import registry
from cascadezoo.checkpoints.conversion import convert, convert_in_memory, to_publisher
from cascadezoo.checkpoints.exporting import export
from cascadezoo.checkpoints.shapes import shapes_of
from cascadezoo.converters import CONVERTERS
from cascadezoo.converters.converter import Description
from cascadezoo.converters.identify import Identity, clues, identify, named, refuse_wrong_link
from cascadezoo.errors import TensorMismatch, WrongEntry, WrongPublisher
from cascadezoo.manifest import ZooEntry
from cascadezoo.modeling.build import canonical_shapes
from cascadezoo.providers import FORMATS, SPECS
from cascadezoo.spec.model import ModelSpec

CASES = Path(__file__).parents[1] / "parity" / "internimage"
SLUGS = sorted(path.parent.name for path in CASES.glob("*/tensors.json.gz"))
INTERNIMAGE = CONVERTERS["internimage"]
ENTRIES = [entry for entry in registry.entries() if entry.publisher == "internimage"]
L, XL = "cascade_mask_internimage_l_fpn", "cascade_mask_internimage_xl_fpn"
T, S, B = (f"mask_internimage_{size}_fpn" for size in ("t", "s", "b"))
XL_1X, XL_3X = registry.info(f"{XL}_1x"), registry.info(f"{XL}_3x")
COUNTER, TWIN = (
    "a counter that inference never uses",
    "the raw twin that an averaging hook keeps: the plain keys hold the averaged weights",
)


def listed(slug: str) -> dict[str, tuple[int, ...]]:
    with gzip.open(CASES / slug / "tensors.json.gz", "rt") as file:
        return {key: tuple(shape) for key, shape, *_ in json.load(file)}


def twin(key: str) -> str:
    return f"ema_{key.replace('.', '_')}"


def hints(file: str = "epoch_12.pth", meta: object = None) -> tuple[Any, ...]:
    return clues(Path(file), "0" * 64, INTERNIMAGE.describe(meta), ENTRIES, SPECS["internimage"])


def found(slug: str, file: str = "epoch_12.pth", meta: object = None) -> Identity:
    shapes = {name: shapes_of(spec) for name, spec in SPECS["internimage"].items()}
    return identify(Path(file), listed(slug), INTERNIMAGE, ENTRIES, shapes, hints(file, meta))


def schedules(identity: Identity) -> list[str]:
    return [entry.schedule for entry in identity.entries]


def test_the_cases_cover_every_architecture_and_entry() -> None:
    assert set(SLUGS) == SPECS["internimage"].keys() == {L, XL, T, S, B}
    assert {entry.architecture for entry in ENTRIES} == {L, XL, T, S, B}
    assert len(ENTRIES) == 10


@pytest.mark.parametrize("averaged", [False, True], ids=["1x", "3x"])
@pytest.mark.parametrize("slug", SLUGS)
def test_the_map_is_total_there_and_back(slug: str, averaged: bool) -> None:
    plain = listed(slug)
    twins = {twin(key): shape for key, shape in plain.items()} if averaged else {}
    key_map, expected = INTERNIMAGE.key_map(slug), canonical_shapes(SPECS["internimage"][slug])
    fit = key_map.fit({**twins, **plain}, expected)  # the twins are saved first
    assert fit.problems == 0, fit.describe()
    assert set(fit.pairs.values()) == expected.keys()
    counters = {key for key in plain if key.endswith(".num_batches_tracked")}
    assert len(counters) == (12 if slug in (L, XL) else 0)  # the box heads of the cascades have batch norms
    assert fit.pairs.keys() == plain.keys() - counters
    assert fit.ignored == dict.fromkeys(twins, TWIN) | dict.fromkeys(counters, COUNTER)

    back = key_map.invert({name: torch.empty(shape, device="meta") for name, shape in expected.items()})
    assert {key: tuple(tensor.shape) for key, tensor in back.items()} == plain
    assert {key for key, tensor in back.items() if tensor.dtype == torch.int64} == counters


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("backbone.patch_embed.conv1.bias", "backbone.stem.conv1.bias"),
        ("backbone.patch_embed.norm2.1.weight", "backbone.stem.norm2.weight"),
        ("backbone.levels.2.blocks.21.norm1.0.weight", "backbone.stages.2.blocks.21.norm1.weight"),
        ("backbone.levels.2.blocks.21.norm2.0.bias", "backbone.stages.2.blocks.21.norm2.bias"),
        ("backbone.levels.0.blocks.4.gamma2", "backbone.stages.0.blocks.4.gamma2"),
        ("backbone.levels.0.blocks.4.mlp.fc2.weight", "backbone.stages.0.blocks.4.mlp.fc2.weight"),
        ("backbone.levels.3.blocks.0.dcn.offset.weight", "backbone.stages.3.blocks.0.dcn.offset.weight"),
        ("backbone.levels.3.blocks.0.dcn.mask.bias", "backbone.stages.3.blocks.0.dcn.mask.bias"),
        ("backbone.levels.3.blocks.0.dcn.input_proj.bias", "backbone.stages.3.blocks.0.dcn.input_proj.bias"),
        ("backbone.levels.3.blocks.0.dcn.output_proj.weight", "backbone.stages.3.blocks.0.dcn.output_proj.weight"),
        ("backbone.levels.3.blocks.0.dcn.dw_conv.0.weight", "backbone.stages.3.blocks.0.dcn.dw_conv.weight"),
        ("backbone.levels.3.blocks.0.dcn.dw_conv.1.1.bias", "backbone.stages.3.blocks.0.dcn.dw_norm.bias"),
        ("backbone.levels.1.downsample.conv.weight", "backbone.stages.1.downsample.conv.weight"),
        ("backbone.levels.1.downsample.norm.1.bias", "backbone.stages.1.downsample.norm.bias"),
        ("neck.lateral_convs.3.conv.bias", "neck.lateral.3.bias"),
        ("rpn_head.rpn_reg.weight", "rpn.deltas.weight"),
        ("roi_head.bbox_head.2.shared_convs.3.conv.weight", "box_heads.2.convs.3.weight"),
        ("roi_head.bbox_head.2.shared_convs.3.bn.running_mean", "box_heads.2.convs.3.norm.running_mean"),
        ("roi_head.bbox_head.0.shared_fcs.0.bias", "box_heads.0.fcs.0.bias"),
        ("roi_head.bbox_head.1.fc_reg.weight", "box_heads.1.bbox_pred.weight"),
        ("roi_head.mask_head.2.upsample.weight", "mask_heads.2.deconv.weight"),
    ],
)
def test_names(theirs: str, ours: str) -> None:
    key_map = INTERNIMAGE.key_map(XL)
    assert key_map.claims(theirs) == [ours]
    assert key_map.source_keys(ours) == [theirs]


@pytest.mark.parametrize(
    "stranger",
    [
        "roi_head.bbox_head.fc_cls.weight",  # of one head
        "backbone.levels.0.blocks.0.res_post_norm1.0.weight",  # InternImage-H
        "backbone.levels.0.blocks.0.dcn.center_feature_scale_proj_weight",
        "backbone.levels.0.blocks.0.dcn.offset_mask.weight",  # DCNv4
        "backbone.levels.0.downsample.conv.bias",
        "backbone.patch_embed.conv3.weight",
        "backbone.layer1.0.conv1.weight",
        "roi_head.bbox_head.0.shared_convs.0.conv.bias",
        "roi_head.mask_head.0.convs.0.bn.weight",
        "head.weight",
    ],
)
def test_other_layers_are_claimed_by_no_row(stranger: str) -> None:
    key_map = INTERNIMAGE.key_map(L)
    assert key_map.claims(stranger) == []
    assert key_map.ignored_because(stranger) is None


# ---------------------------------------------------------------------------------------------- which entry


@pytest.mark.parametrize("slug", SLUGS)
def test_shapes_tell_the_size_and_never_the_schedule(slug: str) -> None:
    identity = found(slug)
    assert identity.architecture == slug
    assert schedules(identity) == ["1x", "3x"]
    assert identity.found_by == "the shapes of its tensors"


@pytest.mark.parametrize("schedule", ["1x", "3x"])
@pytest.mark.parametrize("slug", SLUGS)
def test_names_tell_the_schedule(slug: str, schedule: str) -> None:
    detector, size = ("cascade" if slug.startswith("cascade") else "mask_rcnn"), slug.split("_")[-2]
    stem = f"{detector}_internimage_{size}_fpn_{schedule}_coco"
    by_file = found(slug, file=f"{stem}.pth")
    assert schedules(by_file) == [schedule]
    assert by_file.found_by == "the file name"
    by_config = found(slug, meta={"exp_name": f"{stem}.py", "config": "backbone=dict(type='InternImage', depths=[])"})
    assert schedules(by_config) == [schedule]
    assert by_config.found_by == "the configuration's name"


def test_shapes_have_the_last_word() -> None:
    with pytest.raises(TensorMismatch, match="as the file name would have it") as error:
        found(L, file="cascade_internimage_xl_fpn_1x_coco.pth")
    assert str(error.value).endswith(f"they fit {L}_1x.internimage, {L}_3x.internimage")


@pytest.mark.parametrize(
    "entry", [e for e in registry.entries() if e.publisher in FORMATS], ids=lambda entry: entry.name
)
def test_a_link_names_the_entry_whose_file_it_is(entry: ZooEntry) -> None:
    """The stem of a wrong link labels the entry that the file is of, if any; model_final labels none."""
    zoo = [other for other in registry.entries() if other.publisher == entry.publisher]
    stem = Path(entry.source.checkpoint_url).stem
    owners = [
        other
        for other in zoo
        if other.availability == "published" and entry.source.checkpoint_url == other.download_url
    ]
    assert named([stem], zoo) == (() if stem == "model_final" else tuple(owners))
    if entry.corrected_url and Path(entry.corrected_url).stem != "model_final":
        assert named([Path(entry.corrected_url).stem], zoo) == (entry,)


def test_the_wrong_link_of_xl_3x_is_the_1x_file() -> None:
    assert named(["cascade_internimage_xl_fpn_1x_coco"], ENTRIES) == (XL_1X,)
    assert XL_3X.source.checkpoint_url == XL_1X.download_url


@pytest.mark.parametrize(
    ("file", "meta"),
    [
        ("cascade_internimage_xl_fpn_1x_coco.pth", None),
        ("renamed.pth", {"exp_name": "cascade_internimage_xl_fpn_1x_coco.py"}),
        ("cascade_internimage_xl_fpn_3x_coco.pth", {"exp_name": "cascade_internimage_xl_fpn_1x_coco.py"}),
    ],
)
def test_the_1x_file_is_refused_as_3x(file: str, meta: object) -> None:
    with pytest.raises(WrongEntry) as error:
        refuse_wrong_link(Path(file), XL_3X, hints(file, meta), ENTRIES)
    told = "the file name" if meta is None else "the configuration's name"
    assert str(error.value) == (
        f"{file} is {XL}_1x.internimage, as {told} has it: the published table links that file for "
        f"{XL}_3x.internimage by mistake; {XL}_3x.internimage lies at "
        "https://huggingface.co/OpenGVLab/InternImage/resolve/main/cascade_internimage_xl_fpn_3x_coco.pth"
    )
    assert error.value.exit_code == 4


@pytest.mark.parametrize(
    ("given", "file", "meta"),
    [
        (XL_3X, "epoch_36.pth", None),
        (XL_3X, "cascade_internimage_xl_fpn_3x_coco.pth", None),
        (XL_3X, "cascade_internimage_xl_fpn_1x_coco.pth", {"exp_name": "cascade_internimage_xl_fpn_3x_coco.py"}),
        (XL_1X, "cascade_internimage_xl_fpn_1x_coco.pth", None),
        (XL_1X, "cascade_internimage_xl_fpn_3x_coco.pth", None),  # no link leads there by mistake
    ],
)
def test_what_no_wrong_link_explains_is_not_refused(given: ZooEntry, file: str, meta: object) -> None:
    refuse_wrong_link(Path(file), given, hints(file, meta), ENTRIES)


# ------------------------------------------------------------------------------------------------ whose file


def test_files_of_other_publishers_are_refused_both_ways() -> None:
    for slug in SLUGS:
        twins = {twin(key) for key in listed(slug)}
        for keys in (listed(slug).keys(), twins | listed(slug).keys()):
            assert INTERNIMAGE.refusal(keys, {"mmdet_version": "2.28.1"}) is None
            for other in CONVERTERS.keys() - {"internimage"}:
                assert CONVERTERS[other].refusal(keys, {"mmdet_version": "2.28.1"}) is not None
    for other in CONVERTERS.keys() - {"internimage"}:
        for architecture, spec in SPECS[other].items():
            shapes = shapes_of(spec)
            empty = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
            assert INTERNIMAGE.refusal(CONVERTERS[other].key_map(architecture).invert(empty).keys(), None) is not None


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        (["patch_embed.conv1.weight", "levels.0.blocks.0.gamma1", "head.weight"], "an ImageNet classifier"),
        (
            ["backbone.levels.0.blocks.0.gamma1", "bbox_head.cls_branches.0.weight"],
            "under backbone.levels. and roi_head.",
        ),
        (
            ["backbone.stages.0.blocks.0.attn.weight", "roi_head.bbox_head.0.fc_cls.weight"],
            "under backbone.levels. and",
        ),
        (["backbone.layer1.0.conv1.weight", "roi_head.bbox_head.0.fc_cls.weight"], "its backbone is a ResNet"),
        ([], "under backbone.levels. and roi_head."),
    ],
)
def test_files_of_others_are_refused(keys: list[str], reason: str) -> None:
    assert reason in str(INTERNIMAGE.refusal(keys, None))


# ----------------------------------------------------------------------------------------------------- files


def tiny(publisher: str, architecture: str) -> ModelSpec:
    record = SPECS[publisher][architecture].model_dump()
    if publisher == "internimage":
        width = {L: 16, XL: 32}.get(architecture, 24)
        record["backbone"].update(blocks=(1, 1, 2, 1), width=width, groups=(1, 2, 4, 8))
        record["box_head"].update(convs=(16, 16) if record["box_head"]["convs"] else (), fcs=(32,))
    else:
        record["backbone"].update(blocks=(1, 1, 1, 1), width_per_group=4)
        record["box_head"].update(fcs=(32, 32))
    record["neck"].update(channels=16)
    record["mask"].update(convs=(16,), deconv=16)
    return ModelSpec.model_validate({**record, "num_classes": 5})


@pytest.fixture
def _small_zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    for publisher, name in (*(("internimage", name) for name in (L, XL, T, S)), ("mmdet", "cascade_mask_r50_fpn")):
        monkeypatch.setitem(SPECS[publisher], name, tiny(publisher, name))


def stand_in(entry: ZooEntry) -> dict[str, Tensor]:
    """A state dict in the publisher's order and names, every tensor with numbers of its own."""
    generator = torch.Generator().manual_seed(1)
    shapes = canonical_shapes(registry.spec_of(entry))
    return to_publisher({name: torch.randn(s, generator=generator) for name, s in shapes.items()}, entry.name)


def averaged(plain: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same with the raw twins of an averaging hook, which are saved first."""
    return {twin(key): tensor + 1 for key, tensor in plain.items()} | plain


def save(path: Path, state: dict[str, Tensor], **meta: object) -> Path:
    meta = {"mmdet_version": "2.28.1", "mmcv_version": "1.5.0", **meta}
    optimizer = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 1e-4}]}
    torch.save({"meta": meta, "state_dict": state, "optimizer": optimizer}, path)
    return path


@pytest.mark.usefixtures("_small_zoo")
@pytest.mark.parametrize("size", [L, XL, T, S])
def test_the_plain_keys_are_taken(tmp_path: Path, size: str) -> None:
    plain = stand_in(registry.info(f"{size}_3x"))
    tensors, report = convert_in_memory(save(tmp_path / "epoch_36.pth", averaged(plain)), source="internimage")
    assert report.entries == (f"{size}_1x.internimage", f"{size}_3x.internimage")
    assert report.name == f"{size}.internimage"
    counters = {key for key in plain if key.endswith("num_batches_tracked")}
    assert report.mapped.keys() == plain.keys() - counters
    assert report.ignored == dict.fromkeys(map(twin, plain), TWIN) | dict.fromkeys(counters, COUNTER)
    assert report.ignored_entries == ("optimizer",)
    for key, name in report.mapped.items():
        assert torch.equal(tensors[name], plain[key]), key
    stem = plain["backbone.patch_embed.conv1.weight"]
    assert torch.equal(tensors["backbone.stem.conv1.weight"], stem)  # images are RGB on both sides
    back = to_publisher(tensors, report.entries[0])
    assert back.keys() == plain.keys()
    assert all(torch.equal(back[key], plain[key]) for key in report.mapped)


@pytest.mark.usefixtures("_small_zoo")
def test_a_twin_never_stands_in_for_a_lost_tensor(tmp_path: Path) -> None:
    state = averaged(stand_in(XL_3X))
    del state["backbone.patch_embed.conv1.bias"]
    with pytest.raises(TensorMismatch, match=r"1 missing: backbone\.patch_embed\.conv1\.bias"):
        convert(save(tmp_path / "epoch_36.pth", state), source="internimage")


@pytest.mark.usefixtures("_small_zoo")
def test_publishers_are_told_apart_both_ways(tmp_path: Path) -> None:
    theirs = save(tmp_path / "internimage.pth", averaged(stand_in(XL_3X)))
    with pytest.raises(
        WrongPublisher, match=r"internimage\.pth cannot be converted from mmdet: .* --from internimage$"
    ):
        convert(theirs, source="mmdet")
    others = save(tmp_path / "mmdet.pth", stand_in(registry.info("cascade_mask_r50_fpn_1x.mmdet")))
    with pytest.raises(WrongPublisher, match=r"mmdet\.pth cannot be converted from internimage: .* --from mmdet$"):
        convert(others, source="internimage")


@pytest.mark.usefixtures("_small_zoo")
def test_the_file_behind_the_wrong_link(tmp_path: Path) -> None:
    path = save(tmp_path / "cascade_internimage_xl_fpn_1x_coco.pth", stand_in(XL_1X))
    with pytest.raises(WrongEntry, match=r"links that file for cascade_mask_internimage_xl_fpn_3x\."):
        convert(path, source="internimage", entry="cascade_mask_internimage_xl_fpn_3x")
    report = convert(path, source="internimage")
    assert report.entries == (XL_1X.name,)
    assert report.output == tmp_path / f"{XL_1X.name}.safetensors"


@pytest.mark.usefixtures("_small_zoo")
@pytest.mark.parametrize(
    ("name", "stem"),
    [
        (XL_3X.name, "cascade_internimage_xl_fpn_3x_coco"),
        (f"{T}_1x.internimage", "mask_rcnn_internimage_t_fpn_1x_coco"),
    ],
)
def test_exported_files_convert_to_their_entry(tmp_path: Path, name: str, stem: str) -> None:
    entry = registry.info(name)
    first = convert(save(tmp_path / f"{stem}.pth", averaged(stand_in(entry))), source="internimage")
    exported = export(name, "internimage", first.output, tmp_path / "model.pth")
    file = torch.load(exported.output, weights_only=True)
    assert file["meta"]["exp_name"] == f"{stem}.py"
    assert file["state_dict"].keys() == stand_in(entry).keys()  # without twins
    _, second = convert_in_memory(exported.output, source="internimage")
    assert second.entries == (name,)
    assert second.found_by == "the configuration's name"
    assert second.content_digest == first.content_digest


def test_the_configuration_of_a_checkpoint() -> None:
    meta = {
        "exp_name": "cascade_internimage_l_fpn_1x_coco.py",
        "config": "model = dict(backbone=dict(type='InternImage', core_op='DCNv3', channels=160))\n"
        "work_dir = './work_dirs/cascade_internimage_l_fpn_1x_coco'\n",
    }
    stem = "cascade_internimage_l_fpn_1x_coco"
    assert INTERNIMAGE.describe(meta) == Description(stems=(stem, stem))
