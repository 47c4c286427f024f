"""Names, overrides and weights become a model; tiny stand-ins take the place of the published networks."""

import inspect
import logging
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import cascadezoo
from cascadezoo.checkpoints.conversion import to_publisher
from cascadezoo.coco.categories import COCO, Categories
from cascadezoo.converters.canonical import write_canonical
from cascadezoo.errors import (
    CorruptCheckpoint,
    MissingResource,
    Offline,
    TensorMismatch,
    UnknownName,
    UnsupportedEntry,
    UsageError,
    WeightsNotFound,
    WrongEntry,
    WrongType,
)
from cascadezoo.paths import canonical_path
from cascadezoo.providers import SPECS

from tiny import lively, tiny

NAME = "cascade_mask_r50_fpn_1x.mmdet"


@pytest.fixture
def small(monkeypatch):
    """The mask entry and the box entry of R50 are small; five classes."""
    for architecture in ("cascade_mask_r50_fpn", "cascade_r50_fpn"):
        monkeypatch.setitem(SPECS["mmdet"], architecture, tiny(architecture))
    return lively(tiny())


def canonical(path, model, **metadata: str):
    write_canonical(path, model.state_dict(), metadata)
    return path


def same(a, b) -> bool:
    return all(torch.equal(x, b.state_dict()[name]) for name, x in a.state_dict().items())


def test_without_weights_the_model_is_random_and_ready_to_train(small) -> None:
    torch.manual_seed(3)
    model = cascadezoo.load(NAME)
    assert not model.training
    assert all(torch.isfinite(p).all() for p in model.parameters())
    frozen = {name.split(".")[0] for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"backbone"}  # its first stages, as published
    assert model.box_heads[0].cls_score.weight.std().item() == pytest.approx(0.01, rel=0.3)
    assert not model.box_heads[0].cls_score.bias.any()


def test_names_are_those_of_the_registry(small) -> None:
    for alias in (NAME, "cascade_mask_r50_fpn_1x", "cascade_mask_rcnn_r50_fpn_1x_coco"):
        assert cascadezoo.load(alias).spec == tiny()
    with pytest.raises(UnknownName, match="cascade_mask_r50_fpn_1x"):
        cascadezoo.load("cascade_mask_r50_fpn_1")


def test_an_entry_without_a_network_says_so(monkeypatch) -> None:
    monkeypatch.setitem(SPECS, "mmdet", {})
    with pytest.raises(UnsupportedEntry, match="no network for it yet"):
        cascadezoo.load(NAME)


def test_the_published_scale_and_categories() -> None:
    model = cascadezoo.build(SPECS["mmdet"]["cascade_r50_fpn"])
    assert (model.spec.preprocess.min_size, model.spec.preprocess.max_size) == (800, 1333)
    assert model.categories == COCO
    assert model.categories[79] == "toothbrush"


def test_canonical_file(small, tmp_path) -> None:
    path = canonical(tmp_path / "a.safetensors", small, publisher="mmdet", architecture="cascade_mask_r50_fpn")
    assert same(cascadezoo.load(NAME, weights=path), small)
    assert same(cascadezoo.load(NAME, weights=str(path)), small)


def test_plain_safetensors_of_a_state_dict(small, tmp_path) -> None:
    save_file(small.state_dict(), tmp_path / "a.safetensors")
    assert same(cascadezoo.load(NAME, weights=tmp_path / "a.safetensors"), small)


@pytest.mark.parametrize("name", ["A.SAFETENSORS", "weights", "a.pth", "a.bin"])
def test_r7_the_bytes_of_a_canonical_file_decide_not_its_name(small, tmp_path, name: str) -> None:
    path = canonical(tmp_path / name, small, publisher="mmdet", architecture="cascade_mask_r50_fpn")
    assert same(cascadezoo.load(NAME, weights=path), small)


@pytest.mark.parametrize("name", ["a.safetensors", "a", "A.PTH"])
def test_r7_the_bytes_of_a_publishers_file_decide_not_its_name(small, tmp_path, name: str) -> None:
    torch.save({"state_dict": to_publisher(small.state_dict(), NAME)}, tmp_path / name)
    assert same(cascadezoo.load(NAME, weights=tmp_path / name), small)


def test_publishers_file_is_converted_on_the_fly_and_outlived(small, tmp_path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"state_dict": to_publisher(small.state_dict(), NAME)}, path)
    model = cascadezoo.load(NAME, weights=path)
    path.write_bytes(b"")
    assert same(model, small)


@pytest.fixture
def offline(tmp_path, monkeypatch):
    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path))
    monkeypatch.setenv("CASCADEZOO_OFFLINE", "1")
    for name in ("CASCADEZOO_HUB", "CASCADEZOO_MIRROR"):
        monkeypatch.delenv(name, raising=False)


def test_pretrained_takes_what_is_in_the_cache(small, offline) -> None:
    with pytest.raises(Offline, match="CASCADEZOO_OFFLINE forbids the network"):
        cascadezoo.load(NAME, pretrained=True)
    canonical_path(NAME).parent.mkdir(parents=True, exist_ok=True)
    canonical(canonical_path(NAME), small)
    assert same(cascadezoo.load(NAME, pretrained=True), small)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        (NAME, "the publisher's file is https://download.openmmlab.com/.*9d4dcb24.pth"),
        ("faster_r50_fpn_1x.detectron", "has moved to https://dl.fbaipublicfiles.com/detectron/35857345/"),
        (
            "cascade_r50_fpn_1x.detectron",
            "leads to another model; the right file is http://www.svcl.ucsd.edu/.*cascade-rcnn.pkl",
        ),
        ("cascade_mask_internimage_xl_fpn_3x", "leads to another model; .*cascade_internimage_xl_fpn_3x_coco.pth"),
        (
            "cascade_x101_64x4d_fpn_1x.detectron",
            "never published any; convert a file of your own with `cascadezoo convert --from detectron FILE --entry ca",
        ),
    ],
)
def test_without_weights_the_way_to_them_is_told(name: str, advice: str, offline) -> None:
    with pytest.raises(MissingResource, match=advice) as caught:
        cascadezoo.load(name, pretrained=True)
    baseline = "e2e_faster_rcnn_R-50-FPN_2x"  # what the table links by mistake is never offered
    assert baseline not in str(caught.value)
    assert caught.value.exit_code == 3


def test_cache_follows_the_environment(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("CASCADEZOO_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert canonical_path(NAME).is_relative_to(tmp_path / "cascadezoo")
    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path / "own"))
    assert canonical_path(NAME).is_relative_to(tmp_path / "own")


def test_both_kinds_of_weights_are_too_many(tmp_path) -> None:
    with pytest.raises(UsageError, match="not both"):
        cascadezoo.load(NAME, pretrained=True, weights=tmp_path / "a.safetensors")


def test_missing_file(tmp_path) -> None:
    with pytest.raises(WeightsNotFound, match=r"nothing\.pth"):
        cascadezoo.load(NAME, weights=tmp_path / "nothing.pth")


def test_another_entrys_file_is_refused(small, tmp_path) -> None:
    path = canonical(tmp_path / "a.safetensors", small, publisher="mmdet", architecture="cascade_mask_r50_caffe_fpn")
    with pytest.raises(WrongEntry, match="cascade_mask_r50_caffe_fpn of mmdet"):
        cascadezoo.load(NAME, weights=path)
    with pytest.raises(TensorMismatch, match="mask_heads"):
        cascadezoo.load("cascade_r50_fpn_1x", weights=canonical(tmp_path / "b.safetensors", small))


def test_another_schedules_weights_are_loaded_but_not_silently(small, tmp_path, caplog) -> None:
    path = canonical(tmp_path / "a.safetensors", small, entries="cascade_mask_r50_fpn_20e.mmdet")
    with caplog.at_level(logging.WARNING, "cascadezoo"):
        assert same(cascadezoo.load(NAME, weights=path), small)
    assert "holds the weights of cascade_mask_r50_fpn_20e.mmdet, loaded as cascade_mask_r50_fpn_1x.mmdet" in caplog.text


def test_a_tensor_of_another_shape_is_named(small, tmp_path) -> None:
    tensors = {**small.state_dict(), "rpn.objectness.bias": torch.zeros(7)}
    write_canonical(tmp_path / "a.safetensors", tensors, {})
    with pytest.raises(TensorMismatch, match=r"rpn\.objectness\.bias"):
        cascadezoo.load(NAME, weights=tmp_path / "a.safetensors")


def test_changed_bytes_are_noticed(small, tmp_path) -> None:
    from cascadezoo.converters.canonical import content_digest

    digest = content_digest(small.state_dict())
    path = canonical(tmp_path / "a.safetensors", small, content_digest=digest)
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptCheckpoint):
        cascadezoo.load(NAME, weights=path)


def test_num_classes_replaces_exactly_the_layers_that_depend_on_it(small, tmp_path, caplog) -> None:
    path = canonical(tmp_path / "a.safetensors", small)
    with caplog.at_level(logging.WARNING, "cascadezoo"):
        model = cascadezoo.load(NAME, weights=path, num_classes=7)
    fresh = {f"box_heads.{k}.cls_score.{p}" for k in range(3) for p in ("weight", "bias")}
    fresh |= {f"mask_heads.{k}.mask_logits.{p}" for k in range(3) for p in ("weight", "bias")}
    old, new = small.state_dict(), model.state_dict()
    assert {name for name in new if old[name].shape != new[name].shape} == fresh
    assert all(torch.equal(old[name], new[name]) for name in new.keys() - fresh)
    assert all(name in caplog.text for name in fresh)
    assert len(model.categories) == 7
    assert model.box_heads[1].cls_score.weight.shape == (8, 32)
    # the same number again keeps everything, and says nothing
    caplog.clear()
    network = {"publisher": "mmdet", "architecture": "cascade_mask_r50_fpn"}
    again = canonical(tmp_path / "b.safetensors", model, categories=Categories.numbered(7).to_json(), **network)
    assert same(cascadezoo.load(NAME, weights=again, num_classes=7), model)
    assert not caplog.text


def test_a_file_brings_its_own_classes(small, tmp_path) -> None:
    own = Categories(["cat", "dog", "eel", "fox", "gnu"], [3, 5, 8, 9, 90])
    path = canonical(tmp_path / "a.safetensors", small, categories=own.to_json())
    assert cascadezoo.load(NAME, weights=path).categories == own


def test_overrides_carry_torchvisions_names(small) -> None:
    model = cascadezoo.load(
        NAME, min_size=40, max_size=70, box_score_thresh=0.3, box_nms_thresh=0.6, box_detections_per_img=9
    )
    assert (model.spec.preprocess.min_size, model.spec.preprocess.max_size) == (40, 70)
    rule = model.spec.conventions.selection
    assert (rule.score_thresh, rule.nms.iou, rule.detections_per_img) == (0.3, 0.6, 9)
    assert model.spec.conventions.proposals == tiny().conventions.proposals


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_size": 0},
        {"min_size": 100, "max_size": 50},
        {"num_classes": 0},
        {"box_score_thresh": 1.5},
        {"box_nms_thresh": -0.1},
        {"box_detections_per_img": 0},
    ],
)
def test_overrides_out_of_range(small, wrong) -> None:
    with pytest.raises(UsageError):
        cascadezoo.load(NAME, **wrong)


def test_weights_are_loaded_before_they_are_believed(small, tmp_path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"not safetensors at all")
    with pytest.raises(CorruptCheckpoint):
        cascadezoo.load(NAME, weights=tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        ((NAME, "my.pth"), {}, "load takes only the name by position, not 'my.pth'"),
        ((NAME, True), {}, "load takes only the name by position, not True"),
        ((NAME,), {"pretrained": "my.pth"}, "pretrained: give True or False, not 'my.pth'; a file is given as weights"),
        ((NAME,), {"pretrained": 1}, "pretrained: give True or False, not 1"),
        ((None,), {}, "name: give an entry's name as a text, not None"),
        ((7,), {}, "name: give an entry's name as a text, not 7"),
        ((NAME,), {"weights": {"a": 1}}, "weights: give the path of a file, not a dict"),
        ((NAME,), {"weights": 3}, "weights: give the path of a file, not a int"),
        ((NAME,), {"num_classes": True}, "num_classes: give a whole number, not True"),
        ((NAME,), {"num_classes": "5"}, "num_classes: give a whole number, not '5'"),
        ((NAME,), {"num_classes": 5.0}, "num_classes: give a whole number, not 5.0"),
        ((NAME,), {"max_size": "800"}, "max_size: give a whole number, not '800'"),
        ((NAME,), {"box_detections_per_img": True}, "box_detections_per_img: give a whole number, not True"),
        ((NAME,), {"box_score_thresh": "0.5"}, "box_score_thresh: give a number, not '0.5'"),
        ((NAME,), {"box_nms_thresh": True}, "box_nms_thresh: give a number, not True"),
        ((NAME,), {"weights": "x", "insist": 1}, "insist: give True or False, not 1"),
    ],
)
def test_r1_p4_arguments_of_load_are_named_and_of_their_type(arguments, options, says: str) -> None:
    """A file given as ``pretrained`` counted as true and was ignored."""
    with pytest.raises(WrongType, match=f"^{re.escape(says)}"):
        cascadezoo.load(*arguments, **options)


@pytest.mark.parametrize("weights", ["", " "])
def test_an_empty_path_is_told(weights: str) -> None:
    with pytest.raises(UsageError, match="weights: give the path of a file, not an empty text"):
        cascadezoo.load(NAME, weights=weights)


def test_numbers_of_numpy_are_numbers(small) -> None:
    model = cascadezoo.load(NAME, num_classes=np.int64(7), box_score_thresh=np.float32(0.5))
    assert model.spec.num_classes == 7
    assert model.spec.conventions.selection.score_thresh == 0.5


def test_r1_everything_after_the_name_is_by_keyword() -> None:
    kinds = [p.kind for p in inspect.signature(cascadezoo.load).parameters.values()]
    assert kinds[:2] == [inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.VAR_POSITIONAL]
    assert set(kinds[2:]) == {inspect.Parameter.KEYWORD_ONLY}
