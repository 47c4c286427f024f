"""Detectron's table against the blob lists of its own models, one per architecture; then files of small stand-ins."""

import gzip
import json
import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from attack_pickles import ATTACKS, mapping, stop, text
from torch import Tensor

from cascadezoo import registry
from cascadezoo.checkpoints.conversion import convert, convert_in_memory, to_publisher, zeroed
from cascadezoo.checkpoints.shapes import shapes_of
from cascadezoo.converters import CONVERTERS
from cascadezoo.converters.canonical import read_canonical
from cascadezoo.converters.converter import Description
from cascadezoo.converters.identify import Clue, Identity, clues, identify
from cascadezoo.errors import CascadezooError, CorruptCheckpoint, TensorMismatch, UnsafeCheckpoint, WrongPublisher
from cascadezoo.modeling.build import canonical_shapes
from cascadezoo.providers import SPECS
from cascadezoo.spec.model import ModelSpec

from procedural import load_case, make_tensors, write_checkpoint

CASES = Path(__file__).parents[1] / "parity" / "detectron"
SLUGS = sorted(path.parent.name for path in CASES.glob("*/tensors.json.gz"))
DETECTRON = CONVERTERS["detectron"]
ENTRIES = [entry for entry in registry.entries() if entry.publisher == "detectron"]
LEFTOVER = re.compile(r"conv1_b|fc1000_[wb]|res\d_\d+_branch(1|2[abc])_b")  # by the fact that MSRA's files hold them
BOX, BOX_WHY = "bbox_pred{}_{}", "rows 0 to 3: the background's box, which is never decoded"


def architecture(slug: str) -> str:
    return re.sub(r"_(800|tta|tta_vote)$", "", slug)


def listed(slug: str) -> dict[str, tuple[int, ...]]:
    with gzip.open(CASES / slug / "tensors.json.gz", "rt") as file:
        return {key: tuple(shape) for key, shape, *_ in json.load(file)}


def in_part(cascade: bool) -> dict[str, str]:
    stages = ("", "_2", "_3") if cascade else ("",)
    return {BOX.format(k, p): BOX_WHY for k in stages for p in "wb"}


def found(slug: str, file: str = "model_final.pkl", entry: str | None = None) -> Identity:
    path = Path(file)
    hints = (
        clues(path, "0" * 64, Description(), ENTRIES, SPECS["detectron"])
        if entry is None
        else (Clue("the entry given", (registry.info(entry),)),)
    )
    return identify(
        path,
        listed(slug),
        DETECTRON,
        ENTRIES,
        {name: shapes_of(spec) for name, spec in SPECS["detectron"].items()},
        hints,
    )


def test_the_cases_cover_every_architecture_and_entry() -> None:
    assert {architecture(slug) for slug in SLUGS} == SPECS["detectron"].keys()
    assert {entry.architecture for entry in ENTRIES} == SPECS["detectron"].keys()
    assert len(ENTRIES) == 18


@pytest.mark.parametrize("slug", SLUGS)
def test_the_map_is_total_there_and_back(slug: str) -> None:
    name, blobs = architecture(slug), listed(slug)
    solver = {f"{key}_momentum": shape for key, shape in blobs.items()} | {"lr": (1,)}
    key_map, expected = DETECTRON.key_map(name), canonical_shapes(SPECS["detectron"][name])
    fit = key_map.fit({**solver, **blobs}, expected)
    assert fit.problems == 0, fit.describe()
    assert set(fit.pairs.values()) == expected.keys()
    leftovers = {key for key in blobs if LEFTOVER.fullmatch(key)}
    assert bool(leftovers) == ("_r50_" in slug or "_r101_" in slug)
    assert fit.ignored.keys() == solver.keys() | leftovers
    assert fit.pairs.keys() == blobs.keys() - leftovers

    back = key_map.invert({key: torch.empty(shape, device="meta") for key, shape in expected.items()})
    assert {key: tuple(tensor.shape) for key, tensor in back.items()} == {key: blobs[key] for key in fit.pairs}
    assert key_map.zeros(expected) == in_part(cascade="cascade" in name)


@pytest.mark.parametrize(
    ("name", "theirs", "ours"),
    [
        ("faster_r50_fpn", "conv1_w", "backbone.stem.0.weight"),
        ("faster_r50_fpn", "res_conv1_bn_s", "backbone.stem.0.norm.weight"),
        ("faster_r50_fpn", "res2_0_branch1_bn_b", "backbone.layer1.0.shortcut.norm.bias"),
        ("mask_x152_32x8d_fpn", "res4_35_branch2b_w", "backbone.layer3.35.conv2.weight"),
        ("faster_r50_fpn", "res5_2_branch2c_bn_b", "backbone.layer4.2.conv3.norm.bias"),
        ("faster_r50_fpn", "fpn_inner_res4_5_sum_lateral_w", "neck.lateral.2.weight"),
        ("mask_r101_fpn", "fpn_inner_res4_22_sum_lateral_w", "neck.lateral.2.weight"),
        ("mask_x152_32x8d_fpn", "fpn_inner_res4_35_sum_lateral_w", "neck.lateral.2.weight"),
        ("mask_x152_32x8d_fpn", "fpn_inner_res3_7_sum_lateral_b", "neck.lateral.1.bias"),
        ("faster_r50_fpn", "fpn_inner_res5_2_sum_b", "neck.lateral.3.bias"),
        ("cascade_x101_64x4d_fpn", "fpn_res2_2_sum_w", "neck.output.0.weight"),
        ("cascade_x101_64x4d_fpn", "fpn_res4_22_sum_b", "neck.output.2.bias"),
        ("cascade_x101_64x4d_fpn", "fpn_res5_2_sum_w", "neck.output.3.weight"),
        ("faster_r50_fpn", "conv_rpn_fpn2_w", "rpn.conv.weight"),
        ("faster_r50_fpn", "rpn_cls_logits_fpn2_b", "rpn.objectness.bias"),
        ("faster_r50_fpn", "rpn_bbox_pred_fpn2_w", "rpn.deltas.weight"),
        ("cascade_r50_fpn", "fc6_w", "box_heads.0.fcs.0.weight"),
        ("cascade_r50_fpn", "fc7_2_b", "box_heads.1.fcs.1.bias"),
        ("cascade_r50_fpn", "cls_score_3_w", "box_heads.2.cls_score.weight"),
        ("cascade_r50_fpn", "bbox_pred_2_b", "box_heads.1.bbox_pred.bias"),
        ("mask_r50_fpn", "_[mask]_fcn4_w", "mask_heads.0.convs.3.weight"),
        ("mask_r50_fpn", "conv5_mask_b", "mask_heads.0.deconv.bias"),
        ("mask_r50_fpn", "mask_fcn_logits_w", "mask_heads.0.mask_logits.weight"),
    ],
)
def test_names(name: str, theirs: str, ours: str) -> None:
    key_map = DETECTRON.key_map(name)
    assert key_map.claims(theirs) == [ours]
    assert key_map.source_keys(ours) == [theirs]
    assert key_map.ignored_because(theirs) is None


@pytest.mark.parametrize(
    "stranger",
    [
        "fpn_inner_res4_22_sum_lateral_w",  # of a deeper network
        "fpn_inner_res5_2_sum_lateral_w",
        "res2_0_branch2a_gn_s",  # group norm
        "res2_36_branch2a_w",
        "fc6_4_w",
        "fc8_w",
        "conv_rpn_w",  # without FPN
        "rpn_cls_logits_fpn3_w",
        "_[mask]_fcn5_w",
        "gpu_0/conv1_w",
    ],
)
def test_other_blobs_are_claimed_by_no_row(stranger: str) -> None:
    key_map = DETECTRON.key_map("mask_r50_fpn")
    assert key_map.claims(stranger) == []
    assert key_map.ignored_because(stranger) is None


@pytest.mark.parametrize("key", ["conv1_b", "res2_0_branch1_b", "res4_22_branch2c_b", "fc1000_w", "pred_w", "pred_b"])
def test_leftovers_of_the_classifier(key: str) -> None:
    key_map = DETECTRON.key_map("mask_r101_fpn")
    assert key_map.claims(key) == []
    assert "ImageNet classifier" in str(key_map.ignored_because(key))


def test_rows_of_the_background() -> None:
    key_map = DETECTRON.key_map("cascade_mask_r50_fpn")
    rows = torch.arange(12.0)[:, None]

    def there(name: str, rows: Tensor) -> list[float]:
        return key_map.apply(name, rows).flatten().tolist()

    def back(name: str, rows: Tensor) -> list[float]:
        return key_map.invert({name: rows})[key_map.source_keys(name)[0]].flatten().tolist()

    score, box, mask = "box_heads.1.cls_score.weight", "box_heads.1.bbox_pred.weight", "mask_heads.0.mask_logits.weight"
    assert there(score, rows[:3]) == [1, 2, 0]
    assert back(score, rows[:3]) == [2, 0, 1]
    assert there(box, rows) == [4, 5, 6, 7, 8, 9, 10, 11]  # of two classes, the background and four numbers each
    assert back(box, rows[4:8]) == [0, 0, 0, 0, 4, 5, 6, 7]
    assert there(mask, rows[:3]) == [1, 2, 0]
    assert back(mask, rows[:3]) == [2, 0, 1]
    bgr = torch.tensor([3.0, 2.0, 1.0]).reshape(1, 3, 1, 1)
    assert there("backbone.stem.0.weight", bgr) == [1, 2, 3]


@pytest.mark.parametrize("slug", SLUGS)
def test_tensors_alone_tell_every_network(slug: str) -> None:
    identity = found(slug)
    assert identity.architecture == architecture(slug)
    assert [entry.architecture for entry in identity.entries] == [architecture(slug)]
    assert identity.found_by == "the shapes of its tensors"  # every published file is called model_final.pkl


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.architecture.startswith("cascade_")], ids=lambda e: e.name)
def test_the_baseline_is_never_taken_for_the_cascade(entry: Any) -> None:
    """The published table links a baseline under the name of every cascade; see tests/data/corrections.md."""
    family = "mask" if entry.has_masks else "faster"
    baseline = re.sub(r"^cascade_(mask_)?", f"{family}_", entry.architecture)
    with pytest.raises(TensorMismatch) as error:
        found(baseline, entry=entry.name)
    message = str(error.value)
    assert message.startswith(f"model_final.pkl: its tensors are not those of {entry.architecture}, as the entry given")
    assert "16 missing: bbox_pred_2_b, bbox_pred_2_w, bbox_pred_3_b, " in message
    assert "bbox_pred_w is (324, 1024), expected (8, 1024)" in message
    schedule = "1.44x" if "x152" in baseline else "2x"
    assert f"it looks like {baseline} (the {schedule} baseline that the published table links by mistake)" in message
    own = f"{entry.name} lies at http://www.svcl" if entry.corrected_url else f"{entry.name} was never published"
    assert own in message
    assert error.value.exit_code == 4


def test_other_confusions_are_not_explained_away() -> None:
    with pytest.raises(TensorMismatch, match=r"they fit faster_r101_fpn_1x\.detectron$"):
        found("faster_r101_fpn", entry="cascade_r50_fpn_1x.detectron")
    with pytest.raises(TensorMismatch, match=r"they fit cascade_r50_fpn_1x\.detectron$"):
        found("cascade_r50_fpn", entry="faster_r50_fpn_1x.detectron")


def test_files_of_other_publishers_are_refused_both_ways() -> None:
    of_mmdet = ["backbone.conv1.weight", "rpn_head.rpn_conv.weight", "roi_head.bbox_head.0.fc_cls.weight"]
    refusal = DETECTRON.refusal(of_mmdet, None)
    assert refusal is not None
    assert "no blob conv_rpn_fpn2_w" in refusal
    for slug in SLUGS:
        assert DETECTRON.refusal(listed(slug).keys(), None) is None
        for other in CONVERTERS.keys() - {"detectron"}:
            assert CONVERTERS[other].refusal(listed(slug).keys(), {"cfg": "MODEL:\n"}) is not None


# ---------------------------------------------------------------------------------------------- files


def tiny(architecture: str) -> ModelSpec:
    record = SPECS["detectron"][architecture].model_dump()
    record["backbone"].update(blocks=(1, 1, 1, 1), width_per_group=4)
    record["neck"].update(channels=16)
    record["box_head"].update(fcs=(32, 32))
    if record["mask"]:
        record["mask"].update(convs=(16, 16), deconv=16)
    return ModelSpec.model_validate({**record, "num_classes": 5})


@pytest.fixture
def _small_zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("faster_r50_fpn", "mask_r50_fpn", "cascade_r50_fpn", "cascade_mask_r50_fpn"):
        monkeypatch.setitem(SPECS["detectron"], name, tiny(name))


def stand_in(architecture: str) -> dict[str, np.ndarray]:
    """Every blob of a tiny network, dead rows and leftovers too, with numbers of its own."""
    rng = np.random.default_rng(1)
    shapes = canonical_shapes(SPECS["detectron"][architecture])
    empty = to_publisher({name: torch.empty(shape) for name, shape in shapes.items()}, f"{architecture}_1x.detectron")
    more = {"conv1_b": (64,), "res2_0_branch2a_b": (4,), "fc1000_w": (10, 2), "fc1000_b": (10,)}
    sizes = {key: tuple(tensor.shape) for key, tensor in empty.items()} | more
    return {key: rng.standard_normal(shape, dtype=np.float32) for key, shape in sizes.items()}


def save(path: Path, blobs: dict[str, np.ndarray]) -> Path:
    """As Detectron's solver does, by python 2 and numpy 1; with the momentum of one-dimensional blobs."""
    write_checkpoint(path, "detectron", blobs)
    path.write_bytes(path.read_bytes().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))
    return path


@pytest.mark.usefixtures("_small_zoo")
@pytest.mark.parametrize("name", ["faster_r50_fpn", "mask_r50_fpn", "cascade_r50_fpn", "cascade_mask_r50_fpn"])
def test_a_file_there_and_back(tmp_path: Path, name: str) -> None:
    blobs = stand_in(name)
    report = convert(save(tmp_path / "model_final.pkl", blobs), source="detectron")
    assert report.entries == (f"{name}_1x.detectron",)
    assert report.refused == ()
    leftovers = {key for key in blobs if LEFTOVER.fullmatch(key)}
    assert len(leftovers) == 4
    assert report.mapped.keys() == blobs.keys() - leftovers
    assert report.ignored.keys() == leftovers | {f"{key}_momentum" for key, blob in blobs.items() if blob.ndim == 1}
    assert report.ignored["fc6_b_momentum"] == "the solver's momentum"
    partly = in_part(cascade="cascade" in name)
    assert report.partly_ignored == partly

    assert report.output is not None
    tensors, _ = read_canonical(report.output)
    score = torch.from_numpy(blobs["cls_score_w"])
    assert torch.equal(tensors["box_heads.0.cls_score.weight"], torch.cat([score[1:], score[:1]]))
    assert torch.equal(tensors["box_heads.0.bbox_pred.bias"], torch.from_numpy(blobs["bbox_pred_b"][4:]))
    assert torch.equal(tensors["backbone.layer2.0.conv2.norm.weight"], torch.from_numpy(blobs["res3_0_branch2b_bn_s"]))

    back = to_publisher(tensors, report.entries[0])
    assert zeroed(tensors, report.entries[0]) == partly
    assert back.keys() == report.mapped.keys()
    for key, tensor in back.items():
        dead = 4 if key in partly else 0
        assert torch.equal(tensor[dead:], torch.from_numpy(blobs[key][dead:])), key
        assert not tensor[:dead].any(), key


@pytest.mark.usefixtures("_small_zoo")
def test_the_baseline_as_a_file(tmp_path: Path) -> None:
    path = save(tmp_path / "model_final.pkl", stand_in("faster_r50_fpn"))
    with pytest.raises(TensorMismatch, match=r"it looks like faster_r50_fpn \(the 2x baseline .* by mistake\)"):
        convert(path, source="detectron", entry="cascade_r50_fpn_1x.detectron")
    with pytest.raises(WrongPublisher, match="no tensor under roi_head"):
        convert(path, source="mmdet")
    assert os.listdir(tmp_path) == ["model_final.pkl"]


class Hostile:
    """Pickles as a call of ``os.getenv``."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.getenv, ("HOME",)


@pytest.mark.usefixtures("_small_zoo")
def test_foreign_code_where_nothing_is_needed(tmp_path: Path) -> None:
    blobs = {**stand_in("faster_r50_fpn"), "fc6_w_momentum": Hostile()}
    path = tmp_path / "model_final.pkl"
    path.write_bytes(pickle.dumps({"blobs": blobs, "cfg": Hostile()}, 2))
    _, report = convert_in_memory(path, source="detectron")
    assert report.refused in (("os.getenv",), ("posix.getenv",))
    assert "fc6_w_momentum" in report.ignored


@pytest.mark.parametrize(("fragment", "hook"), ATTACKS.values(), ids=ATTACKS)
def test_foreign_code_in_a_needed_blob(tmp_path: Path, fragment: bytes, hook: str) -> None:
    path = tmp_path / "model_final.pkl"
    path.write_bytes(stop(mapping({"blobs": mapping({"conv_rpn_fpn2_w": fragment}), "cfg": text("")}), 4))
    with pytest.raises(UnsafeCheckpoint, match=re.escape(f"conv_rpn_fpn2_w could only be read by running {hook}")):
        convert(path, source="detectron")


GOOD = {"conv_rpn_fpn2_w": np.ones(3, np.float32), "conv1_w": np.ones(2, np.float32)}


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"", CorruptCheckpoint, "is empty"),
        (pickle.dumps({"blobs": GOOD, "cfg": ""}, 2)[:-1], CorruptCheckpoint, "cannot be read"),
        (pickle.dumps({"blobs": GOOD, "cfg": ""}, 2)[:99], CorruptCheckpoint, "cannot be read"),
        (pickle.dumps({"blobs": GOOD, "cfg": ""}, 2) + b"x", CorruptCheckpoint, "cannot be read"),
        (pickle.dumps({"blobs": 3, "cfg": ""}, 2), CorruptCheckpoint, "its blobs is of type int"),
        (pickle.dumps({"blobs": {}, "cfg": ""}, 2), CorruptCheckpoint, "holds no tensors"),
        (pickle.dumps({"blobs": {**GOOD, "lr": Hostile()}}, 2), TensorMismatch, "fit no detectron entry"),
        (pickle.dumps({"blobs": {**GOOD, "fc6_w": Hostile()}}, 2), UnsafeCheckpoint, "fc6_w could only be read by"),
        (pickle.dumps(Hostile(), 2), UnsafeCheckpoint, "could only be read by running"),
        (pickle.dumps({"conv1_w": GOOD["conv1_w"], "pred_w": GOOD["conv1_w"]}, 2), WrongPublisher, "ImageNet"),
        (pickle.dumps({"blobs": {"conv1_w": GOOD["conv1_w"]}}, 2), WrongPublisher, "no blob conv_rpn_fpn2_w"),
        (b"<!DOCTYPE html><html>", CorruptCheckpoint, "web page"),
    ],
)
def test_files_that_are_none(tmp_path: Path, data: bytes, error: type[CascadezooError], message: str) -> None:
    path = tmp_path / "model_final.pkl"
    path.write_bytes(data)
    with pytest.raises(error, match=message) as raised:
        convert(path, source="detectron")
    assert raised.value.exit_code == 4
    assert os.listdir(tmp_path) == ["model_final.pkl"]


def test_a_file_of_real_size(tmp_path: Path) -> None:
    """The stand-in of a recorded case with class-specific boxes, masks and leftovers: 190 MB."""
    blobs = make_tensors(load_case(CASES / "mask_r50_fpn"))
    tensors, report = convert_in_memory(save(tmp_path / "model_final.pkl", blobs), source="detectron")
    assert report.entries == ("mask_r50_fpn_1x.detectron",)
    assert tensors["box_heads.0.bbox_pred.weight"].shape == (320, 1024)
    back = to_publisher(tensors, report.entries[0])
    assert back.keys() == {key for key in blobs if not LEFTOVER.fullmatch(key)}
    for key, tensor in back.items():
        dead = 4 if key.startswith("bbox_pred") else 0
        assert torch.equal(tensor[dead:], torch.from_numpy(blobs[key][dead:])), key
