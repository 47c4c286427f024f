"""Swin Transformer's table against the tensor lists of its own models; then files, with the index buffers that real
ones have and the lists leave out."""

import gzip
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cascadezoo import registry
from cascadezoo.checkpoints.conversion import convert, convert_in_memory, to_publisher, zeroed
from cascadezoo.checkpoints.exporting import export
from cascadezoo.checkpoints.shapes import shapes_of
from cascadezoo.converters import CONVERTERS
from cascadezoo.converters.converter import Description
from cascadezoo.converters.identify import Identity, clues, identify
from cascadezoo.errors import TensorMismatch, UnsafeCheckpoint, WrongEntry, WrongPublisher
from cascadezoo.modeling.build import canonical_shapes
from cascadezoo.modeling.swin import positions
from cascadezoo.providers import SPECS
from cascadezoo.spec.model import ModelSpec

from stand_in import save_with_apex, stand_in

CASES = Path(__file__).parents[1] / "parity" / "swin"
SLUGS = sorted(path.parent.name for path in CASES.glob("*/tensors.json.gz"))
SWIN = CONVERTERS["swin"]
ENTRIES = [entry for entry in registry.entries() if entry.publisher == "swin"]
T, S, B, MASK_T, MASK_S = (
    *(f"cascade_mask_swin_{size}_fpn" for size in "tsb"),
    *(f"mask_swin_{size}_fpn" for size in "ts"),
)
INDEX = ".relative_position_index"
REASON = "the rows of the table beside it for each pair of cells, held against their formula"


def listed(slug: str) -> dict[str, tuple[int, ...]]:
    with gzip.open(CASES / slug / "tensors.json.gz", "rt") as file:
        return {key: tuple(shape) for key, shape, *_ in json.load(file)}


def with_buffers(keys: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """As a published file lists them: each table is followed by its index."""
    state = {}
    for key, shape in keys.items():
        state[key] = shape
        if key.endswith(".relative_position_bias_table"):
            state[key.replace("_bias_table", "_index")] = (49, 49)
    return state


def architecture(slug: str) -> str:
    return slug.removesuffix("_800")


def found(slug: str, file: str = "epoch_36.pth", meta: object = None) -> Identity:
    shapes = {name: shapes_of(spec) for name, spec in SPECS["swin"].items()}
    hints = clues(Path(file), "0" * 64, SWIN.describe(meta), ENTRIES, SPECS["swin"])
    return identify(Path(file), listed(slug), SWIN, ENTRIES, shapes, hints)


def test_every_entry_has_a_network_and_every_case_is_one() -> None:
    assert {entry.architecture for entry in ENTRIES} == SPECS["swin"].keys() == {T, S, B, MASK_T, MASK_S}
    assert {architecture(slug) for slug in SLUGS} == SPECS["swin"].keys() - {MASK_S}  # Mask R-CNN with S has no case
    assert len(ENTRIES) == 11


@pytest.mark.parametrize("slug", SLUGS)
@pytest.mark.parametrize("buffers", [False, True], ids=["listed", "as published"])
def test_the_map_is_total_there_and_back(slug: str, buffers: bool) -> None:
    name, published = architecture(slug), with_buffers(listed(slug))
    theirs = published if buffers else listed(slug)
    key_map, expected = SWIN.key_map(name), canonical_shapes(SPECS["swin"][name])
    fit = key_map.fit(theirs, expected)
    assert fit.problems == 0, fit.describe()
    assert set(fit.pairs.values()) == expected.keys()
    indices = {key for key in published if key.endswith(INDEX)}
    assert len(indices) == sum(SPECS["swin"][name].backbone.blocks)
    counters = {key for key in theirs if key.endswith(".num_batches_tracked")}
    assert len(counters) == (12 if name.startswith("cascade") else 0)
    assert fit.ignored.keys() == counters | (indices if buffers else set())
    assert {fit.ignored[key] for key in indices if buffers} <= {REASON}
    back = key_map.invert({name: torch.empty(shape, device="meta") for name, shape in expected.items()})
    assert {key: tuple(tensor.shape) for key, tensor in back.items()} == published
    assert {key for key, tensor in back.items() if tensor.dtype == torch.int64} == counters | indices
    order = [key for key in back if ".attn." in key][:6]
    assert [key.rpartition("attn.")[2] for key in order] == [
        *("relative_position_bias_table", "relative_position_index", "qkv.weight", "qkv.bias", "proj.weight"),
        "proj.bias",
    ]


NAMES = [
    ("backbone.patch_embed.proj.weight", "backbone.stem.conv.weight"),
    ("backbone.patch_embed.norm.bias", "backbone.stem.norm.bias"),
    ("backbone.layers.2.blocks.17.norm1.weight", "backbone.stages.2.blocks.17.norm1.weight"),
    ("backbone.layers.2.blocks.17.norm2.bias", "backbone.stages.2.blocks.17.norm2.bias"),
    (
        "backbone.layers.0.blocks.1.attn.relative_position_bias_table",
        "backbone.stages.0.blocks.1.attn.relative_position_bias_table",
    ),
    ("backbone.layers.0.blocks.1.attn.qkv.bias", "backbone.stages.0.blocks.1.attn.qkv.bias"),
    ("backbone.layers.0.blocks.1.attn.proj.weight", "backbone.stages.0.blocks.1.attn.proj.weight"),
    ("backbone.layers.3.blocks.0.mlp.fc1.weight", "backbone.stages.3.blocks.0.mlp.fc1.weight"),
    ("backbone.layers.1.downsample.reduction.weight", "backbone.stages.1.downsample.reduction.weight"),
    ("backbone.layers.1.downsample.norm.weight", "backbone.stages.1.downsample.norm.weight"),
    ("backbone.norm3.bias", "backbone.stages.3.norm.bias"),
    ("neck.fpn_convs.0.conv.bias", "neck.output.0.bias"),
]
CASCADE = [("roi_head.bbox_head.2.shared_convs.3.conv.weight", "box_heads.2.convs.3.weight")]
PLAIN = [("roi_head.bbox_head.shared_fcs.1.bias", "box_heads.0.fcs.1.bias")]


@pytest.mark.parametrize(("name", "claimed", "strange"), [(S, CASCADE, PLAIN), (MASK_S, PLAIN, CASCADE)])
def test_names(name: str, claimed: list[tuple[str, str]], strange: list[tuple[str, str]]) -> None:
    key_map = SWIN.key_map(name)
    for theirs, ours in [*NAMES, *claimed]:
        assert key_map.claims(theirs) == [ours]
        assert key_map.source_keys(ours) == [theirs]
    for theirs, _ in strange:
        assert key_map.claims(theirs) == []


@pytest.mark.parametrize(
    "stranger",
    [
        "backbone.layers.0.blocks.1.attn_mask",  # of a classifier, whose maps are of one size
        "backbone.layers.0.blocks.0.attn.logit_scale",  # Swin V2
        "backbone.layers.0.blocks.0.attn.cpb_mlp.0.weight",
        "backbone.absolute_pos_embed",
        "backbone.layers.1.downsample.reduction.bias",
        "backbone.norm4.weight",
        "backbone.norm.weight",
        "head.weight",
    ],
)
def test_other_layers_are_claimed_by_no_row(stranger: str) -> None:
    key_map = SWIN.key_map(T)
    assert key_map.claims(stranger) == []
    assert key_map.ignored_because(stranger) is None


# ---------------------------------------------------------------------------------------------- which entry


@pytest.mark.parametrize("slug", SLUGS)
def test_shapes_tell_the_network_and_never_schedule_or_pretraining(slug: str) -> None:
    identity = found(slug)
    assert identity.architecture == architecture(slug)
    assert len(identity.entries) == (4 if architecture(slug) in (T, MASK_T) else 1)
    assert identity.found_by == "the shapes of its tensors"


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.architecture != MASK_S], ids=lambda entry: entry.name)
def test_published_files_are_known_by_their_names(entry) -> None:
    identity = found(entry.architecture, file=Path(entry.source.checkpoint_url).name)
    assert identity.entries == (entry,)
    if len([other for other in ENTRIES if other.architecture == entry.architecture]) > 1:
        assert identity.found_by == "the file name"


@pytest.mark.parametrize("schedule", ["1x", "3x"])
@pytest.mark.parametrize("name", [T, MASK_T])
def test_a_configuration_tells_the_schedule_and_a_file_name_the_pretraining(name: str, schedule: str) -> None:
    entries = [entry for entry in ENTRIES if (entry.architecture, entry.schedule) == (name, schedule)]
    config = Path(entries[0].source.config_url).name
    assert found(name, meta={"exp_name": config}).entries == tuple(entries)
    assert len(entries) == 2  # the same configuration for a backbone that MoBY pretrained
    for entry in entries:
        file = Path(entry.source.checkpoint_url).name
        assert found(name, file, meta={"exp_name": config}).entries == (entry,)


def test_shapes_have_the_last_word() -> None:
    with pytest.raises(TensorMismatch, match="as the file name would have it") as error:
        found(T, file="cascade_mask_rcnn_swin_small_patch4_window7.pth")
    assert "they fit cascade_mask_swin_t_fpn_1x.swin" in str(error.value)


# ------------------------------------------------------------------------------------------------ whose file


def test_files_of_other_publishers_are_refused_both_ways() -> None:
    meta = {"mmdet_version": "2.11.0"}
    for slug in SLUGS:
        for other, converter in CONVERTERS.items():
            assert (converter.refusal(with_buffers(listed(slug)).keys(), meta) is None) == (other == "swin"), other
    for other in CONVERTERS.keys() - {"swin"}:
        for name, spec in SPECS[other].items():
            empty = {key: torch.empty(shape, device="meta") for key, shape in shapes_of(spec).items()}
            assert SWIN.refusal(CONVERTERS[other].key_map(name).invert(empty).keys(), meta) is not None


HEAD = "roi_head.bbox_head.0.fc_cls.weight"


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        (["patch_embed.proj.weight", "layers.0.blocks.0.attn.qkv.weight", "head.weight"], "an ImageNet classifier"),
        (["encoder.layers.0.blocks.0.attn.qkv.weight", "encoder_k.norm.weight"], "a pretraining of MoBY"),
        (["backbone.stages.0.blocks.0.attn.w_msa.qkv.weight", HEAD], "mmdetection's Swin Transformer"),
        (["backbone.layer1.0.conv1.weight", HEAD], "its backbone is a ResNet"),
        (["backbone.layers.0.blocks.0.attn.qkv.weight", "decode_head.conv_seg.weight"], "no tensors under roi_head."),
        (["backbone.stages.0.0.dwconv.weight", HEAD], "it has no attn under backbone.layers."),
        ([], "it has no attn under backbone.layers."),
    ],
)
def test_files_of_others_are_refused(keys: list[str], reason: str) -> None:
    assert reason in str(SWIN.refusal(keys, None))


# ----------------------------------------------------------------------------------------------------- files


def tiny(name: str) -> ModelSpec:
    record = SPECS["swin"][name].model_dump()
    width = {"t": 8, "s": 16, "b": 32}[name.split("_swin_")[1][0]]
    record["backbone"].update(blocks=(1, 1, 2, 1), width=width, heads=(1, 2, 4, 8))
    record["box_head"].update(
        convs=(16,) * len(record["box_head"]["convs"]), fcs=(32,) * len(record["box_head"]["fcs"])
    )
    record["neck"].update(channels=16)
    record["mask"].update(convs=(16,), deconv=16)
    return ModelSpec.model_validate({**record, "num_classes": 5})


@pytest.fixture
def _small_zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(SPECS["swin"]):
        monkeypatch.setitem(SPECS["swin"], name, tiny(name))


CASCADE_T, PLAIN_T = f"{T}_1x.swin", f"{MASK_T}_3x.swin"
FIRST = f"backbone.layers.0.blocks.0.attn{INDEX}"


@pytest.mark.usefixtures("_small_zoo")
@pytest.mark.parametrize("indices", ["there", "not there"])
@pytest.mark.parametrize("name", [CASCADE_T, PLAIN_T, f"{MASK_S}_3x.swin"])
def test_tensors_come_back_as_they_were(tmp_path: Path, name: str, indices: str) -> None:
    plain = stand_in(name)
    held = {key for key in plain if key.endswith(INDEX)}
    assert len(held) == 5
    state = {key: tensor for key, tensor in plain.items() if indices == "there" or key not in held}
    tensors, report = convert_in_memory(save_with_apex(tmp_path / "epoch_36.pth", state))
    assert name in report.entries
    assert report.ignored_entries == ("optimizer", "amp")
    assert {key for key, reason in report.ignored.items() if reason == REASON} == held & state.keys()
    for key, canonical in report.mapped.items():
        assert torch.equal(tensors[canonical], plain[key]), key
    back = to_publisher(tensors, name)
    assert list(back) == list(plain)
    assert all(torch.equal(back[key], plain[key]) for key in (*report.mapped, *held))
    assert not held & zeroed(tensors, name).keys()


@pytest.mark.usefixtures("_small_zoo")
def test_exported_indices_are_the_formula_s() -> None:
    for key, tensor in stand_in(CASCADE_T).items():
        if key.endswith(INDEX):
            assert tensor.dtype == torch.int64
            assert torch.equal(tensor, positions(7, torch.ones(1)).relative)
            assert (tensor[0, 48], tensor[48, 0], tensor[9, 30]) == (0, 168, (1 - 4 + 6) * 13 + (2 - 2 + 6))


@pytest.mark.usefixtures("_small_zoo")
@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(49, 49, dtype=torch.int64),  # as a tool writes that fills what it does not know
        positions(7, torch.ones(1)).relative.T.contiguous(),  # keys and queries exchanged
        positions(12, torch.ones(1)).relative,  # a larger window's
        positions(7, torch.ones(1)).relative[:1],  # which could stand for all rows
        torch.full((49, 49), float("nan")),
    ],
    ids=["zeros", "transposed", "of windows of 12", "a row", "nan"],
)
def test_an_index_of_other_values_is_refused(tmp_path: Path, wrong: Tensor) -> None:
    path = save_with_apex(tmp_path / "epoch_12.pth", {**stand_in(CASCADE_T), FIRST: wrong})
    with pytest.raises(TensorMismatch) as error:
        convert(path, entry=CASCADE_T)
    assert str(error.value) == (
        f"{path}: 1 tensors that others determine differ from their formula, so that its network computes otherwise: "
        f"{FIRST}"
    )
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.usefixtures("_small_zoo")
def test_an_index_under_a_wrapper_is_held_too(tmp_path: Path) -> None:
    state = {f"module.{key}": tensor for key, tensor in stand_in(CASCADE_T).items()}
    assert convert_in_memory(save_with_apex(tmp_path / "right.pth", state))[1].prefix == "module."
    state[f"module.{FIRST}"] = torch.zeros(49, 49, dtype=torch.int64)
    with pytest.raises(TensorMismatch, match="differ from their formula"):
        convert_in_memory(save_with_apex(tmp_path / "wrong.pth", state))


@pytest.mark.usefixtures("_small_zoo")
def test_an_index_that_only_code_could_make_is_refused(tmp_path: Path) -> None:
    class Foreign:
        def __reduce__(self):
            return (print, ("run",))

    path = tmp_path / "epoch_12.pth"
    torch.save({"state_dict": {**stand_in(CASCADE_T), FIRST: Foreign()}}, path)
    with pytest.raises(UnsafeCheckpoint, match="relative_position_index could only be read by running"):
        convert(path, entry=CASCADE_T)


@pytest.mark.usefixtures("_small_zoo")
@pytest.mark.parametrize("name", [f"{B}_3x.swin", f"{MASK_S}_3x.swin", f"{T}_3x.swin"])
def test_exported_files_convert_to_their_entry(tmp_path: Path, name: str) -> None:
    first = convert(save_with_apex(tmp_path / "epoch_36.pth", stand_in(name)), entry=name)
    exported = export(name, "swin", first.output, tmp_path / "model.pth")
    file = torch.load(exported.output, weights_only=True)
    assert {key: tensor.dtype for key, tensor in file["state_dict"].items()} == {
        key: tensor.dtype for key, tensor in stand_in(name).items()
    }
    _, second = convert_in_memory(exported.output)
    assert name in second.entries
    assert second.content_digest == first.content_digest


@pytest.mark.usefixtures("_small_zoo")
def test_another_publisher_s_file_is_named(tmp_path: Path) -> None:
    own = save_with_apex(tmp_path / "own.pth", stand_in(CASCADE_T))
    with pytest.raises(WrongPublisher, match=r"from mmdet: its backbone is a Swin .* it is a file of swin"):
        convert(own, source="mmdet")


@pytest.mark.usefixtures("_small_zoo")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"backbone.norm3.bias": None}, r"1 missing: backbone\.norm3\.bias"),
        ({"roi_head.bbox_head.fc_reg.bias": torch.ones(7)}, r"fc_reg\.bias is \(7,\), expected \(20,\)"),
        ({"backbone.layers.3.blocks.0.attn_mask": torch.ones(8)}, r"1 unexpected: backbone\.layers\.3\.blocks\.0\.a"),
    ],
    ids=["missing", "misshapen", "unexpected"],
)
def test_tensors_that_do_not_fit_are_named(tmp_path: Path, change: dict[str, Tensor | None], words: str) -> None:
    state = {**stand_in(PLAIN_T), **change}
    state = {key: tensor for key, tensor in state.items() if tensor is not None}
    with pytest.raises(TensorMismatch, match=words):
        convert(save_with_apex(tmp_path / "epoch_36.pth", state), entry=PLAIN_T)


@pytest.mark.usefixtures("_small_zoo")
def test_a_cascade_is_no_mask_rcnn(tmp_path: Path) -> None:
    path = save_with_apex(tmp_path / "mask_rcnn_swin_tiny_patch4_window7.pth", stand_in(CASCADE_T))
    with pytest.raises((TensorMismatch, WrongEntry), match="cascade_mask_swin_t_fpn_1x"):
        convert(path)


def test_the_configuration_of_a_checkpoint() -> None:
    stem = "mask_rcnn_swin_tiny_patch4_window7_mstrain_480-800_adamw_3x_coco"
    meta = {
        "exp_name": f"{stem}.py",
        "config": "model = dict(backbone=dict(type='SwinTransformer', embed_dim=96, depths=[2, 2, 6, 2]))\n"
        "img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)\n",
    }
    pixels = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
    assert SWIN.describe(meta) == Description(stems=(stem,), pixels=pixels)
