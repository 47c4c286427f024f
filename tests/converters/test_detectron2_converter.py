"""detectron2's table against the state dict of its own model; its container; then files of small stand-ins."""

import collections
import gzip
import hashlib
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

from cascadezoo import registry
from cascadezoo.checkpoints.conversion import convert, convert_in_memory, to_publisher, zeroed
from cascadezoo.checkpoints.exporting import export
from cascadezoo.checkpoints.identification import examine
from cascadezoo.checkpoints.inspection import inspect
from cascadezoo.converters import CONVERTERS
from cascadezoo.converters.canonical import read_canonical
from cascadezoo.converters.checkpoint import read_checkpoint
from cascadezoo.errors import (
    CascadezooError,
    CorruptCheckpoint,
    NonFiniteWeights,
    TensorMismatch,
    UnsafeCheckpoint,
    UnsupportedEntry,
    WrongPublisher,
)
from cascadezoo.manifest import ZooEntry
from cascadezoo.modeling.build import canonical_shapes
from cascadezoo.providers import SPECS
from cascadezoo.spec.model import ModelSpec

from procedural import write_checkpoint

CASES = Path(__file__).parents[1] / "parity" / "detectron2"
R50, NAME = "cascade_mask_r50_fpn", "cascade_mask_r50_fpn_1x.detectron2"
DETECTRON2 = CONVERTERS["detectron2"]
OLD = {  # what files of 2019 and 2020 hold besides
    **{f"proposal_generator.anchor_generator.cell_anchors.{i}": (3, 4) for i in range(5)},
    "pixel_mean": (3, 1, 1),
    "pixel_std": (3, 1, 1),
}


def listed(slug: str) -> dict[str, tuple[int, ...]]:
    with gzip.open(CASES / slug / "tensors.json.gz", "rt") as file:
        return {key: tuple(shape) for key, shape, *_ in json.load(file)}


@pytest.mark.parametrize("slug", [R50, f"{R50}_800"])
def test_the_map_is_total_there_and_back(slug: str) -> None:
    theirs, expected = listed(slug), canonical_shapes(SPECS["detectron2"][R50])
    key_map = DETECTRON2.key_map(R50)
    fit = key_map.fit({**theirs, **OLD}, expected)
    assert fit.problems == 0, fit.describe()
    assert fit.pairs.keys() == theirs.keys()
    assert set(fit.pairs.values()) == expected.keys()
    assert fit.ignored.keys() == OLD.keys()

    back = key_map.invert({key: torch.empty(shape, device="meta") for key, shape in expected.items()})
    assert {key: tuple(tensor.shape) for key, tensor in back.items()} == theirs
    assert key_map.zeros(expected) == {}


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("backbone.bottom_up.stem.conv1.weight", "backbone.stem.0.weight"),
        ("backbone.bottom_up.stem.conv1.norm.running_var", "backbone.stem.0.norm.running_var"),
        ("backbone.bottom_up.res2.0.shortcut.norm.bias", "backbone.layer1.0.shortcut.norm.bias"),
        ("backbone.bottom_up.res4.5.conv3.norm.weight", "backbone.layer3.5.conv3.norm.weight"),
        ("backbone.bottom_up.res5.2.conv2.weight", "backbone.layer4.2.conv2.weight"),
        ("backbone.fpn_lateral2.weight", "neck.lateral.0.weight"),
        ("backbone.fpn_output5.bias", "neck.output.3.bias"),
        ("proposal_generator.rpn_head.conv.weight", "rpn.conv.weight"),
        ("proposal_generator.rpn_head.objectness_logits.bias", "rpn.objectness.bias"),
        ("proposal_generator.rpn_head.anchor_deltas.weight", "rpn.deltas.weight"),
        ("roi_heads.box_head.2.fc1.weight", "box_heads.2.fcs.0.weight"),
        ("roi_heads.box_head.0.fc2.bias", "box_heads.0.fcs.1.bias"),
        ("roi_heads.box_predictor.1.cls_score.weight", "box_heads.1.cls_score.weight"),
        ("roi_heads.box_predictor.1.bbox_pred.bias", "box_heads.1.bbox_pred.bias"),
        ("roi_heads.mask_head.mask_fcn4.weight", "mask_heads.0.convs.3.weight"),
        ("roi_heads.mask_head.deconv.bias", "mask_heads.0.deconv.bias"),
        ("roi_heads.mask_head.predictor.weight", "mask_heads.0.mask_logits.weight"),
    ],
)
def test_names(theirs: str, ours: str) -> None:
    key_map = DETECTRON2.key_map(R50)
    assert key_map.claims(theirs) == [ours]
    assert key_map.source_keys(ours) == [theirs]
    assert key_map.ignored_because(theirs) is None


@pytest.mark.parametrize(
    "stranger",
    [
        "backbone.bottom_up.res6.0.conv1.weight",
        "backbone.bottom_up.res4.0.conv2_offset.weight",  # deformable
        "backbone.fpn_lateral6.weight",
        "backbone.fpn_output2.norm.weight",
        "proposal_generator.rpn_head.conv.conv0.weight",
        "roi_heads.box_head.3.fc1.weight",
        "roi_heads.box_head.0.fc3.weight",
        "roi_heads.box_head.0.conv1.weight",
        "roi_heads.box_predictor.cls_score.weight",  # of one stage
        "roi_heads.mask_head.mask_fcn5.weight",
        "roi_heads.keypoint_head.conv_fcn1.weight",
        "module.pixel_mean",
    ],
)
def test_other_tensors_are_claimed_by_no_row(stranger: str) -> None:
    key_map = DETECTRON2.key_map(R50)
    assert key_map.claims(stranger) == []
    assert key_map.ignored_because(stranger) is None


def test_images_are_turned_from_bgr() -> None:
    key_map, bgr = DETECTRON2.key_map(R50), torch.tensor([3.0, 2.0, 1.0]).reshape(1, 3, 1, 1)
    assert key_map.apply("backbone.stem.0.weight", bgr).flatten().tolist() == [1, 2, 3]
    back = key_map.invert({"backbone.stem.0.weight": bgr.flip(1)})
    assert torch.equal(back["backbone.bottom_up.stem.conv1.weight"], bgr)


def test_files_of_other_publishers_are_refused_both_ways() -> None:
    ours = listed(R50).keys()
    assert DETECTRON2.refusal(ours, None) is None
    for other in CONVERTERS.keys() - {"detectron2"}:
        assert CONVERTERS[other].refusal(ours, None) is not None
    of_detectron = ["conv1_w", "conv_rpn_fpn2_w", "cls_score_w"]  # a .pkl as well
    of_mmdet = ["backbone.conv1.weight", "rpn_head.rpn_conv.weight", "roi_head.bbox_head.0.fc_cls.weight"]
    for keys in (of_detectron, of_mmdet):
        assert "no tensors under proposal_generator.rpn_head." in str(DETECTRON2.refusal(keys, None))


# ---------------------------------------------------------------------------------------------- the container


@pytest.mark.parametrize("name", ["model_zoo_new", "model_zoo_old", "model_zoo_swin_index"])
def test_recorded_containers_are_read_to_the_last_bit(name: str) -> None:
    path = CASES / "formats" / f"{name}.pkl"
    checkpoint = read_checkpoint(path)
    with np.load(path.with_suffix(".npz")) as recorded:
        expected = dict(recorded)
    assert checkpoint.tensors.keys() == expected.keys()
    for key, array in expected.items():
        found = checkpoint.tensors[key].numpy()
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found, array)
    assert (checkpoint.container, checkpoint.wrapper, checkpoint.ignored) == ("pickle", "model", ("__author__",))
    assert "collections.OrderedDict" in checkpoint.globals  # with an attribute, _metadata, which is left out
    assert (checkpoint.refused, checkpoint.unsafe, checkpoint.meta) == ((), {}, None)


# ---------------------------------------------------------------------------------------------- files


def tiny() -> ModelSpec:
    record = SPECS["detectron2"][R50].model_dump()
    record["backbone"].update(blocks=(1, 1, 1, 1), width_per_group=4)
    record["neck"].update(channels=16)
    record["box_head"].update(fcs=(32, 32))
    record["mask"].update(convs=(16, 16), deconv=16)
    return ModelSpec.model_validate({**record, "num_classes": 5})


@pytest.fixture
def _small_zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SPECS["detectron2"], R50, tiny())


def stand_in(more: dict[str, tuple[int, ...]] | None = None) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    shapes = canonical_shapes(SPECS["detectron2"][R50])
    state = to_publisher({name: torch.empty(shape) for name, shape in shapes.items()}, NAME)
    sizes = {key: tuple(tensor.shape) for key, tensor in state.items()} | (more or {})
    return {key: rng.standard_normal(shape, dtype=np.float32) for key, shape in sizes.items()}


def save(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    write_checkpoint(path, "detectron2", tensors)
    return path


@pytest.mark.usefixtures("_small_zoo")
def test_a_file_there_and_back(tmp_path: Path) -> None:
    tensors = stand_in(OLD)
    report = convert(save(tmp_path / "model_final.pkl", tensors), source="detectron2")
    assert report.entries == ("cascade_mask_r50_fpn_1x.detectron2", "cascade_mask_r50_fpn_3x.detectron2")
    assert (report.refused, report.partly_ignored, report.ignored_entries) == ((), {}, ("__author__",))
    assert report.mapped.keys() == tensors.keys() - OLD.keys()
    assert report.ignored.keys() == OLD.keys()
    assert report.ignored["pixel_mean"] == "the mean that is taken off pixels, which the configuration gives"

    assert report.output is not None
    canonical, _ = read_canonical(report.output)
    stem = torch.from_numpy(tensors["backbone.bottom_up.stem.conv1.weight"])
    assert torch.equal(canonical["backbone.stem.0.weight"], stem.flip(1))
    assert zeroed(canonical, NAME) == {}

    written = export(NAME, "detectron2", report.output, tmp_path / "theirs.pkl")
    assert written.zeroed == {}
    with (tmp_path / "theirs.pkl").open("rb") as file:  # as its own loader reads it
        theirs = pickle.load(file, encoding="latin1")
    assert theirs.keys() == {"model", "__author__"}  # by which it tells its own files from Detectron's
    assert theirs["model"].keys() == report.mapped.keys()
    for key, array in theirs["model"].items():
        assert isinstance(array, np.ndarray)
        np.testing.assert_array_equal(array, tensors[key])
        torch.from_numpy(array)
    again = convert(tmp_path / "theirs.pkl", entry=NAME, output=tmp_path / "again.safetensors")
    assert again.content_digest == report.content_digest


def test_networks_on_lvis_are_refused_unless_they_are_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SPECS["detectron2"], R50, tiny().with_classes(1203))
    path = save(tmp_path / "model.pkl", stand_in())
    with pytest.raises(UnsupportedEntry, match=r"has 1203 classes: these are LVIS's classes, .* by sigmoid"):
        convert(path, entry=NAME)
    assert convert(path, entry=NAME, insist=True).num_classes == 1203


@pytest.mark.usefixtures("_small_zoo")
def test_a_file_of_its_own_trainer(tmp_path: Path) -> None:
    """Tensors under "model" in torch's container, with all that training goes on from."""
    tensors = {key: torch.from_numpy(array) for key, array in stand_in().items()}
    state = collections.OrderedDict(tensors)
    state._metadata = collections.OrderedDict(
        {"": {"version": 1}, "backbone.bottom_up.stem.conv1.norm": {"version": 3}}
    )
    path = tmp_path / "model_0004999.pth"
    torch.save({"model": state, "optimizer": {"state": {}, "param_groups": []}, "iteration": 4999}, path)
    found, report = convert_in_memory(path)
    assert (report.publisher, report.container, report.wrapper) == ("detectron2", "zip", "model")
    assert report.ignored_entries == ("optimizer", "iteration")
    assert torch.equal(found["rpn.deltas.bias"], tensors["proposal_generator.rpn_head.anchor_deltas.bias"])


@pytest.mark.usefixtures("_small_zoo")
def test_two_publishers_of_pkl_are_told_apart_by_content(tmp_path: Path) -> None:
    path = save(tmp_path / "model_final.pkl", stand_in())
    with pytest.raises(WrongPublisher, match=r"no blob conv_rpn_fpn2_w, .* it is a file of detectron2"):
        convert(path, source="detectron")
    assert inspect(path).publisher == "detectron2"
    blobs = {"conv_rpn_fpn2_w": np.ones(3, np.float32), "conv1_w": np.ones(2, np.float32)}
    path.write_bytes(pickle.dumps({"blobs": blobs, "cfg": ""}, 2))
    assert inspect(path).publisher == "detectron"
    with pytest.raises(WrongPublisher, match="it is a file of detectron, with tensors under conv_rpn_fpn2_"):
        convert(path, source="detectron2")


@pytest.mark.usefixtures("_small_zoo")
def test_the_digits_of_the_md5_tell_the_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "model_final.pkl", stand_in())
    assert len(convert_in_memory(path)[1].entries) == 2
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    found = [(item.value, item.source) for item in inspect(path).evidence if item.about in ("md5", "entry")]
    assert found == [(md5, "it begins like no file that its publisher names by it")]
    digits, published = {"3x": md5[:6], "1x": "000000"}, registry.entries
    monkeypatch.setattr(registry, "entries", lambda *data: [_with_md5(entry, digits) for entry in published(*data)])
    report = convert_in_memory(path)[1]
    assert report.entries == ("cascade_mask_r50_fpn_3x.detectron2",)
    assert report.found_by == "the weak md5 in a published name"
    assert not report.source_is_published  # that takes a whole hash, or more digits
    found = [(item.value, item.source) for item in inspect(path).evidence if item.about in ("md5", "entry")]
    assert found == [("cascade_mask_r50_fpn_3x.detectron2", f"the weak md5 in a published name: {md5}")]


def _with_md5(entry: ZooEntry, digits: dict[str, str]) -> ZooEntry:
    if (entry.publisher, entry.architecture) != ("detectron2", R50):
        return entry
    source = entry.source.model_copy(update={"md5_prefix": digits[entry.schedule]})
    return entry.model_copy(update={"source": source})


@pytest.mark.usefixtures("_small_zoo")
def test_the_name_of_a_published_file_tells_the_schedule(tmp_path: Path) -> None:
    path = save(tmp_path / "model_final_480dd8.pkl", stand_in())
    assert convert_in_memory(path)[1].entries == ("cascade_mask_r50_fpn_3x.detectron2",)


@pytest.mark.usefixtures("_small_zoo")
def test_the_md5_is_computed_for_files_that_it_may_tell_of_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(path: Path) -> str:
        raise AssertionError(f"the md5 of {path}")

    monkeypatch.setattr("cascadezoo.checkpoints.identification.file_md5", none)
    blobs = {"conv_rpn_fpn2_w": np.ones(3, np.float32)}
    (tmp_path / "model_final.pkl").write_bytes(pickle.dumps({"blobs": blobs, "cfg": ""}, 2))
    assert examine(tmp_path / "model_final.pkl").hints
    with pytest.raises(AssertionError, match="the md5 of"):
        convert(save(tmp_path / "model_final.pkl", stand_in()))


class Hostile:
    """Pickles as a call of ``os.getenv``."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.getenv, ("HOME",)


@pytest.mark.usefixtures("_small_zoo")
def test_foreign_code_where_nothing_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "model_final.pkl"
    model = collections.OrderedDict({**stand_in(), "pixel_mean": Hostile()})
    model._metadata = Hostile()
    path.write_bytes(pickle.dumps({"model": model, "__author__": Hostile(), "optimizer": Hostile()}, 4))
    _, report = convert_in_memory(path, source="detectron2")
    assert report.refused in (("os.getenv",), ("posix.getenv",))
    assert "pixel_mean" in report.ignored


@pytest.mark.parametrize(("fragment", "hook"), ATTACKS.values(), ids=ATTACKS)
def test_foreign_code_in_a_needed_tensor(tmp_path: Path, fragment: bytes, hook: str) -> None:
    path, needed = tmp_path / "model_final.pkl", "proposal_generator.rpn_head.conv.weight"
    tensors = {"roi_heads.box_predictor.0.cls_score.weight": fragment, needed: fragment}
    path.write_bytes(stop(mapping({"model": mapping(tensors), "__author__": text("x")}), 4))
    with pytest.raises(UnsafeCheckpoint, match=re.escape(f"could only be read by running {hook}")):
        convert(path, source="detectron2")


ONE = np.ones(3, np.float32)
GOOD = {"proposal_generator.rpn_head.conv.weight": ONE, "roi_heads.box_predictor.0.cls_score.weight": ONE}
PLAIN = {"proposal_generator.rpn_head.conv.weight": ONE, "roi_heads.box_predictor.cls_score.weight": ONE}
BACKBONE = {"stem.conv1.weight": ONE, "res2.0.conv1.weight": ONE}


def zoo(model: object) -> bytes:
    return pickle.dumps({"model": model, "__author__": "Detectron2 Model Zoo"}, 4)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"", CorruptCheckpoint, "is empty"),
        (zoo(GOOD)[:-1], CorruptCheckpoint, "cannot be read"),
        (zoo(GOOD)[:99], CorruptCheckpoint, "cannot be read"),
        (zoo(GOOD) + b"x", CorruptCheckpoint, "cannot be read"),
        (zoo(3), CorruptCheckpoint, "its model is of type int"),
        (zoo({}), CorruptCheckpoint, "holds no tensors"),
        (zoo(GOOD), TensorMismatch, "fit no detectron2 entry"),
        (zoo({**GOOD, "backbone.fpn_output2.bias": Hostile()}), UnsafeCheckpoint, "could only be read by"),
        (zoo(Hostile()), UnsafeCheckpoint, "could only be read by running"),
        (zoo(BACKBONE), WrongPublisher, "it is a backbone, which detectron2 begins training with"),
        (zoo(PLAIN), WrongPublisher, "it is a detector of one stage of heads"),
        (zoo({"conv1_w": ONE, "pred_w": ONE}), WrongPublisher, "it has no tensors under proposal_generator.rpn_head."),
    ],
)
def test_files_that_are_none(tmp_path: Path, data: bytes, error: type[CascadezooError], message: str) -> None:
    path = tmp_path / "model_final.pkl"
    path.write_bytes(data)
    with pytest.raises(error, match=message) as raised:
        convert(path, source="detectron2")
    assert raised.value.exit_code == 4
    assert os.listdir(tmp_path) == ["model_final.pkl"]


@pytest.mark.usefixtures("_small_zoo")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rpn": None}, r"1 missing: proposal_generator\.rpn_head\.conv\.bias"),
        (
            {"backbone.bottom_up.res2.0.conv2_offset.weight": ONE},
            "1 unexpected: backbone.bottom_up.res2.0.conv2_offset",
        ),
        ({"rpn": np.ones(17, np.float32)}, r"rpn_head\.conv\.bias is \(17,\), expected \(16,\)"),
    ],
    ids=["missing", "extra", "misshapen"],
)
def test_tensors_that_do_not_fit_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    keys = {"rpn": "proposal_generator.rpn_head.conv.bias"}
    tensors: dict[str, Any] = stand_in() | {keys.get(key, key): value for key, value in change.items()}
    path = save(tmp_path / "model_final.pkl", {key: value for key, value in tensors.items() if value is not None})
    with pytest.raises(TensorMismatch, match=message):
        convert(path, source="detectron2")


@pytest.mark.usefixtures("_small_zoo")
def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    tensors = stand_in()
    tensors["backbone.bottom_up.stem.conv1.norm.running_var"][3] = np.nan
    with pytest.raises(NonFiniteWeights, match=r"1 tensors hold NaN or infinity \(backbone\.bottom_up\.stem"):
        convert(save(tmp_path / "model_final.pkl", tensors))
