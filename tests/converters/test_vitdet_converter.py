"""ViTDet's tables against the state dicts of its own models; then files of small stand-ins, there and back."""

import gzip
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from cascadezoo import registry
from cascadezoo.checkpoints.conversion import convert, to_publisher
from cascadezoo.checkpoints.exporting import export
from cascadezoo.checkpoints.inspection import inspect
from cascadezoo.converters import CONVERTERS
from cascadezoo.converters.canonical import read_canonical
from cascadezoo.errors import CascadezooError, TensorMismatch, WrongPublisher
from cascadezoo.modeling.build import canonical_shapes
from cascadezoo.providers import SPECS

from procedural import write_checkpoint
from tiny import tiny

CASES = Path(__file__).parents[1] / "parity" / "detectron2"
DETECTRON2 = CONVERTERS["detectron2"]
VITDETS = [f"cascade_mask_vitdet_{size}" for size in ("b", "l", "h")]
SWINS = [f"cascade_mask_swin_{size}" for size in ("b", "l")]
NAMES = {slug: entry.name for entry in registry.entries() for slug in VITDETS + SWINS if entry.architecture == slug}
INDEX = "backbone.bottom_up.layers.2.blocks.17.attn.relative_position_index"


def listed(slug: str) -> dict[str, tuple[int, ...]]:
    with gzip.open(CASES / slug / "tensors.json.gz", "rt") as file:
        return {key: tuple(shape) for key, shape, *_ in json.load(file)}


def indices(slug: str) -> dict[str, tuple[int, ...]]:
    """The buffers of a published Swin Transformer, which the recorded lists leave out."""
    tables = [key for key in listed(slug) if key.endswith("bias_table")]
    return {key.replace("bias_table", "index"): (49, 49) for key in tables}


def test_all_five_have_an_entry_a_spec_and_a_table() -> None:
    assert NAMES.keys() == set(VITDETS + SWINS) <= SPECS["detectron2"].keys()


@pytest.mark.parametrize("slug", VITDETS + SWINS)
def test_the_map_is_total_there_and_back(slug: str) -> None:
    theirs, more, expected = listed(slug), indices(slug), canonical_shapes(SPECS["detectron2"][slug])
    assert len(more) == (24 if slug in SWINS else 0)
    key_map = DETECTRON2.key_map(slug)
    fit = key_map.fit({**theirs, **more}, expected)
    assert fit.problems == 0, fit.describe()
    assert fit.pairs.keys() == theirs.keys()
    assert set(fit.pairs.values()) == expected.keys()
    assert fit.ignored.keys() == more.keys()
    back = key_map.invert(
        {key: torch.empty(shape) for key, shape in canonical_shapes(tiny(slug, "detectron2")).items()}
    )
    assert {key for key in back if key.endswith("index")} <= more.keys()
    assert key_map.zeros(expected) == {}


@pytest.mark.parametrize(
    ("slug", "theirs", "ours"),
    [
        ("vitdet_h", "backbone.net.pos_embed", "backbone.pos_embed"),
        ("vitdet_h", "backbone.net.patch_embed.proj.bias", "backbone.patch_embed.bias"),
        ("vitdet_h", "backbone.net.blocks.31.norm2.weight", "backbone.blocks.31.norm2.weight"),
        ("vitdet_h", "backbone.net.blocks.7.attn.rel_pos_h", "backbone.blocks.7.attn.rel_pos_h"),
        ("vitdet_h", "backbone.net.blocks.0.attn.qkv.bias", "backbone.blocks.0.attn.qkv.bias"),
        ("vitdet_h", "backbone.net.blocks.0.attn.proj.weight", "backbone.blocks.0.attn.proj.weight"),
        ("vitdet_h", "backbone.net.blocks.0.mlp.fc2.bias", "backbone.blocks.0.mlp.fc2.bias"),
        ("vitdet_h", "backbone.simfp_2.3.bias", "neck.levels.0.3.bias"),
        ("vitdet_h", "backbone.simfp_2.5.norm.weight", "neck.levels.0.5.norm.weight"),
        ("vitdet_h", "backbone.simfp_5.1.weight", "neck.levels.3.1.weight"),
        ("swin_l", "backbone.bottom_up.patch_embed.norm.bias", "backbone.stem.norm.bias"),
        ("swin_l", "backbone.bottom_up.layers.2.blocks.17.mlp.fc1.bias", "backbone.stages.2.blocks.17.mlp.fc1.bias"),
        ("swin_l", "backbone.bottom_up.norm3.weight", "backbone.stages.3.norm.weight"),
        ("swin_l", "backbone.fpn_lateral5.norm.bias", "neck.lateral.3.norm.bias"),
        ("swin_l", "backbone.fpn_output2.weight", "neck.output.0.weight"),
        ("swin_l", "proposal_generator.rpn_head.conv.conv1.bias", "rpn.conv.1.bias"),
        ("swin_l", "roi_heads.box_head.2.conv4.weight", "box_heads.2.convs.3.weight"),
        ("swin_l", "roi_heads.box_head.0.conv1.norm.weight", "box_heads.0.convs.0.norm.weight"),
        ("swin_l", "roi_heads.box_head.0.fc1.bias", "box_heads.0.fcs.0.bias"),
        ("swin_l", "roi_heads.mask_head.mask_fcn4.norm.bias", "mask_heads.0.convs.3.norm.bias"),
    ],
)
def test_names(slug: str, theirs: str, ours: str) -> None:
    key_map = DETECTRON2.key_map(f"cascade_mask_{slug}")
    assert key_map.claims(theirs) == [ours]
    assert key_map.source_keys(ours) == [theirs]


@pytest.mark.parametrize(
    "stranger",
    [
        "backbone.net.cls_token",
        "backbone.net.blocks.0.attn.rel_pos_t",
        "backbone.net.norm.0.weight",
        "backbone.simfp_6.0.weight",
        "backbone.bottom_up.res2.0.conv1.weight",
        "backbone.bottom_up.layers.0.blocks.0.attn.q_bias",
        "roi_heads.box_head.0.conv5.weight",
        "roi_heads.box_head.fc1.weight",
    ],
)
@pytest.mark.parametrize("slug", [VITDETS[0], SWINS[0]])
def test_other_tensors_are_claimed_by_no_row(slug: str, stranger: str) -> None:
    key_map = DETECTRON2.key_map(slug)
    assert key_map.claims(stranger) == []
    assert key_map.ignored_because(stranger) is None


@pytest.fixture
def small_zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    for slug in (VITDETS[0], SWINS[0]):
        monkeypatch.setitem(SPECS["detectron2"], slug, tiny(slug, "detectron2"))


def stand_in(slug: str) -> dict[str, np.ndarray]:
    """A publisher's tensors of random numbers, with the true index buffers."""
    rng = np.random.default_rng(1)
    shapes = canonical_shapes(SPECS["detectron2"][slug])
    state = to_publisher({name: torch.empty(shape) for name, shape in shapes.items()}, NAMES[slug])
    return {
        key: tensor.numpy() if tensor.dtype == torch.int64 else rng.standard_normal(tensor.shape, dtype=np.float32)
        for key, tensor in state.items()
    }


def save(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    write_checkpoint(path, "detectron2", tensors)
    return path


@pytest.mark.usefixtures("small_zoo")
@pytest.mark.parametrize("slug", [VITDETS[0], SWINS[0]])
def test_a_file_there_and_back(slug: str, tmp_path: Path) -> None:
    tensors = stand_in(slug)
    report = convert(save(tmp_path / "model_final.pkl", tensors))
    assert (report.publisher, report.entries) == ("detectron2", (NAMES[slug],))
    assert report.mapped.keys() == {key for key in tensors if not key.endswith("index")}
    assert report.ignored.keys() == tensors.keys() - report.mapped.keys()
    assert report.output is not None
    canonical, _ = read_canonical(report.output)
    for key, name in report.mapped.items():
        assert torch.equal(canonical[name], torch.from_numpy(tensors[key])), key

    export(NAMES[slug], "detectron2", report.output, tmp_path / "theirs.pkl")
    with (tmp_path / "theirs.pkl").open("rb") as file:
        theirs = pickle.load(file)
    assert theirs["model"].keys() == tensors.keys()
    for key, array in theirs["model"].items():
        np.testing.assert_array_equal(array, tensors[key])
        assert array.dtype == tensors[key].dtype
    again = convert(tmp_path / "theirs.pkl", output=tmp_path / "again.safetensors")
    assert again.content_digest == report.content_digest


@pytest.mark.usefixtures("small_zoo")
def test_the_class_tokens_position_is_kept(tmp_path: Path) -> None:
    tensors = stand_in(VITDETS[0])
    report = convert(save(tmp_path / "model_final.pkl", tensors))
    canonical, _ = read_canonical(report.output)
    assert canonical["backbone.pos_embed"].shape == (1, 197, 8)
    assert torch.equal(canonical["backbone.pos_embed"][0, 0], torch.from_numpy(tensors["backbone.net.pos_embed"][0, 0]))


@pytest.mark.usefixtures("small_zoo")
def test_an_index_that_is_not_its_formulas_is_refused(tmp_path: Path) -> None:
    tensors = stand_in(SWINS[0])
    key = next(key for key in tensors if key.endswith("index"))
    tensors[key] = np.zeros_like(tensors[key])
    with pytest.raises(CascadezooError, match="relative_position_index"):
        convert(save(tmp_path / "model_final.pkl", tensors))


ONE = np.ones(3, np.float32)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (("cls_token", "pos_embed", "blocks.0.attn.qkv.weight", "decoder_embed.weight"), "a ViT without a detector"),
        (("patch_embed.proj.weight", "layers.0.blocks.0.attn.qkv.weight"), "an ImageNet classifier"),
        (
            ("backbone.net.pos_embed", "proposal_generator.rpn_head.conv.conv0.bias", "roi_heads.box_predictor.x.bias"),
            "a detector of one stage of heads",
        ),
        (("backbone.net.pos_embed", "backbone.simfp_2.0.bias"), "no tensors under proposal_generator.rpn_head. and"),
    ],
)
def test_files_that_are_no_such_detector_are_refused(keys: tuple[str, ...], message: str, tmp_path: Path) -> None:
    path = save(tmp_path / "model_final.pkl", dict.fromkeys(keys, ONE))
    with pytest.raises(WrongPublisher, match=message):
        convert(path, source="detectron2")


@pytest.mark.usefixtures("small_zoo")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone.net.pos_embed": None}, "1 missing: backbone.net.pos_embed"),
        ({"backbone.net.cls_token": ONE}, "1 unexpected: backbone.net.cls_token"),
        ({"backbone.net.pos_embed": np.ones((1, 4097, 8), np.float32)}, r"pos_embed is \(1, 4097, 8\), expected"),
    ],
    ids=["missing", "extra", "misshapen"],
)
def test_tensors_that_do_not_fit_are_named(tmp_path: Path, change: dict[str, np.ndarray], message: str) -> None:
    tensors = stand_in(VITDETS[0]) | change
    path = save(tmp_path / "model_final.pkl", {key: value for key, value in tensors.items() if value is not None})
    with pytest.raises(TensorMismatch, match=message):
        convert(path, source="detectron2")


@pytest.mark.usefixtures("small_zoo")
@pytest.mark.parametrize("slug", [VITDETS[0], SWINS[0]])
def test_inspection_names_the_entry(slug: str, tmp_path: Path) -> None:
    found = inspect(save(tmp_path / "model_final.pkl", stand_in(slug)))
    (best,) = (match for match in found.matches if not match.problems)
    assert (found.publisher, best.architecture, best.entries) == ("detectron2", slug, (NAMES[slug],))


def test_the_three_vits_and_the_two_swins_are_told_apart_by_their_shapes() -> None:
    for slug in VITDETS + SWINS:
        fitting = [
            other
            for other in VITDETS + SWINS
            if not DETECTRON2.key_map(other).fit(listed(slug), canonical_shapes(SPECS["detectron2"][other])).problems
        ]
        assert fitting == [slug]
