"""Files with classes of their own, tensors of our own, and publishers' tensors in safetensors (R3, R4, R8, C5)."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints.stand_ins import CLASSES, ENTRIES, fine_tuned, of_mmdet, same, save, write
from safetensors.torch import save_file

import cascadezoo
from cascadezoo.checkpoints.conversion import convert, to_publisher
from cascadezoo.checkpoints.exporting import export
from cascadezoo.checkpoints.inspection import inspect
from cascadezoo.coco.categories import COCO, Categories
from cascadezoo.detector import Detector
from cascadezoo.errors import AmbiguousEntry, TensorMismatch, WrongPublisher
from cascadezoo.providers import SPECS

from tiny import lively, tiny

MMDET = ENTRIES["mmdet"]


# --- R3: own classes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("publisher", ENTRIES)
def test_R3_a_fine_tuned_file_is_read_with_its_own_classes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, publisher: str
) -> None:
    """There and back: converts, loads, predicts, is exported and loaded again, tensor-equal."""
    model, name = fine_tuned(publisher, monkeypatch), ENTRIES[publisher]
    path = write(tmp_path / "mine.bin", model, publisher)
    nameless = publisher in ("paddle", "detectron2")  # whose files have no names
    names = ("class 0", "class 1", "class 2") if nameless else CLASSES

    loaded = cascadezoo.load(name, weights=path)
    assert same(loaded, model)
    assert loaded.spec.num_classes == 3
    assert tuple(loaded.categories) == names
    image = torch.rand(3, 64, 64)
    assert torch.equal(loaded.predict(image).boxes, model.predict(image).boxes)

    report = convert(path, entry=name, output=tmp_path / "canonical.safetensors")
    assert (report.publisher, report.num_classes, report.classes) == (publisher, 3, names)
    again = cascadezoo.load(name, weights=tmp_path / "canonical.safetensors")
    assert same(again, model)
    assert tuple(again.categories) == names

    export(name, publisher, tmp_path / "canonical.safetensors", tmp_path / "back.bin")
    back = cascadezoo.load(name, weights=tmp_path / "back.bin")
    assert same(back, model)
    assert tuple(back.categories) == names

    shown = inspect(path)
    assert (shown.publisher, shown.num_classes) == (publisher, 3)
    assert [match.problems for match in shown.matches] == [0] * len(shown.matches)


@pytest.mark.parametrize(
    ("meta", "names"),
    [
        ({"CLASSES": ["a", "b", "c"]}, ("a", "b", "c")),
        ({"dataset_meta": {"classes": ("a", "b", "c"), "palette": [1]}}, ("a", "b", "c")),
        ({"dataset_meta": {"CLASSES": ("a", "b", "c")}}, ("a", "b", "c")),
        ({"CLASSES": ["a", "b"]}, ("class 0", "class 1", "class 2")),  # not as many as the tensors have
        ({"CLASSES": ["a", "a", "b"]}, ("class 0", "class 1", "class 2")),
        ({"CLASSES": "abc"}, ("class 0", "class 1", "class 2")),
        ({"CLASSES": [1, 2, 3]}, ("class 0", "class 1", "class 2")),
        ({}, ("class 0", "class 1", "class 2")),
    ],
)
def test_R3_names_come_from_the_metadata(
    monkeypatch: pytest.MonkeyPatch, caplog, tmp_path: Path, meta: dict[str, Any], names: tuple[str, ...]
) -> None:
    model = fine_tuned("mmdet", monkeypatch)
    path = save(tmp_path / "x.pth", {"meta": meta, "state_dict": of_mmdet(model)})
    with caplog.at_level(logging.WARNING, "cascadezoo"):
        assert tuple(cascadezoo.load(MMDET, weights=path).categories) == names
    assert ("left aside" in caplog.text) == (bool(meta) and names[0] == "class 0")


def test_R3_a_text_is_the_name_of_the_only_class(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """mmdetection's ``CLASSES = ('cat')``, whose comma was forgotten."""
    model = fine_tuned("mmdet", monkeypatch, 1)
    for meta in ({"CLASSES": "cat"}, {"dataset_meta": {"classes": "cat"}}):
        path = save(tmp_path / "x.pth", {"meta": meta, "state_dict": of_mmdet(model)})
        assert tuple(cascadezoo.load(MMDET, weights=path).categories) == ("cat",)


def test_R3_another_num_classes_replaces_the_class_layers_alone_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = fine_tuned("mmdet", monkeypatch)
    path = write(tmp_path / "x.pth", model, "mmdet")
    with caplog.at_level(logging.WARNING, "cascadezoo"):
        other = cascadezoo.load(MMDET, weights=path, num_classes=7)
    old, new = model.state_dict(), other.state_dict()
    fresh = {name for name in new if old[name].shape != new[name].shape}
    assert {name.split(".")[2] for name in fresh} == {"cls_score", "mask_logits"}
    assert all(torch.equal(old[name], new[name]) for name in new.keys() - fresh)
    assert "num_classes=7 instead of 3" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, "cascadezoo"):
        assert same(cascadezoo.load(MMDET, weights=path, num_classes=3), model)
    assert caplog.text == ""


def test_R3_coco_names_keep_cocos_ids(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = fine_tuned("mmdet", monkeypatch, num_classes=80)
    path = write(tmp_path / "x.pth", model, "mmdet", tuple(COCO))
    assert cascadezoo.load(MMDET, weights=path).categories == COCO
    own = tuple(f"own {i}" for i in range(80))
    assert cascadezoo.load(MMDET, weights=write(path, model, "mmdet", own)).categories == Categories(own)


def test_R3_heads_that_disagree_on_the_classes_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    state = of_mmdet(fine_tuned("mmdet", monkeypatch))
    state["roi_head.bbox_head.2.fc_cls.bias"] = torch.zeros(9)
    with pytest.raises(TensorMismatch, match=r"fc_cls\.bias is \(9,\), expected \(4,\)"):
        cascadezoo.load(MMDET, weights=save(tmp_path / "x.pth", {"state_dict": state}))


# --- R4: our own tensors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: {"model": s}, lambda s: {f"module.{k}": v for k, v in s.items()}]
)
def test_R4_our_own_state_dict_is_recognised_in_every_container(small: Detector, tmp_path: Path, wrap: Any) -> None:
    state = wrap(small.state_dict())
    assert same(cascadezoo.load(MMDET, weights=save(tmp_path / "x.pth", state)), small)
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert same(cascadezoo.load(MMDET, weights=tmp_path / "old.pth"), small)
    if "model" not in state:
        save_file(state, tmp_path / "x.safetensors")
        assert same(cascadezoo.load(MMDET, weights=tmp_path / "x.safetensors"), small)
    report = convert(tmp_path / "x.pth", entry=MMDET, output=tmp_path / "out.safetensors")
    assert (report.publisher, report.entries) == ("mmdet", (MMDET,))
    assert same(cascadezoo.load(MMDET, weights=tmp_path / "out.safetensors"), small)


def test_R4_class_layers_that_fit_are_never_replaced(
    small: Detector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained = lively(tiny().with_classes(3))
    save_file(trained.state_dict(), tmp_path / "x.safetensors")
    with caplog.at_level(logging.WARNING, "cascadezoo"):
        loaded = cascadezoo.load(MMDET, weights=tmp_path / "x.safetensors", num_classes=3)
    assert same(loaded, trained)
    assert "newly initialised" not in caplog.text


def test_R4_our_own_tensors_that_fit_several_publishers_need_an_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tiny()
    for publisher in ("mmdet", "paddle"):
        monkeypatch.setitem(SPECS[publisher], "cascade_mask_r50_fpn", spec)
    path = save(tmp_path / "x.pth", lively(spec).state_dict())
    with pytest.raises(AmbiguousEntry, match=r"pass --entry with one of .*mmdet.*paddle"):
        convert(path)
    assert convert(path, "paddle").publisher == "paddle"


# --- R8: a publisher's keys in safetensors --------------------------------------------------------------------------


@pytest.mark.parametrize("publisher", ENTRIES)
def test_R8_safetensors_with_a_publishers_keys_are_recognised(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, publisher: str
) -> None:
    model, name = fine_tuned(publisher, monkeypatch), ENTRIES[publisher]
    state = {key: value.contiguous() for key, value in to_publisher(model.state_dict(), name).items()}
    save_file(state, tmp_path / "x.safetensors")
    assert same(cascadezoo.load(name, weights=tmp_path / "x.safetensors"), model)
    shown = inspect(tmp_path / "x.safetensors")
    assert (shown.container, shown.publisher, shown.num_classes) == ("safetensors", publisher, 3)
    assert convert(tmp_path / "x.safetensors", entry=name, output=tmp_path / "o.safetensors").publisher == publisher


def test_R8_missing_and_unexpected_names_are_listed_for_every_container(small: Detector, tmp_path: Path) -> None:
    for state in (small.state_dict(), of_mmdet(small)):
        wrong = {key: value for key, value in state.items() if "rpn" not in key or "bias" not in key}
        wrong |= {"box_heads.0.extra": torch.ones(1), "more.weight": torch.ones(1)}
        if "box_heads.0.cls_score.bias" in state:
            wrong["rpn.objectness.bias"] = state["rpn.objectness.bias"]
        save_file({key: value.contiguous() for key, value in wrong.items()}, tmp_path / "x.safetensors")
        with pytest.raises(TensorMismatch) as error:
            cascadezoo.load(MMDET, weights=tmp_path / "x.safetensors")
        text = str(error.value)
        assert "missing: " in text
        assert "2 unexpected: box_heads.0.extra, more.weight" in text


def test_C5_convert_needs_no_publisher_and_checks_the_one_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for publisher, name in ENTRIES.items():
        model = fine_tuned(publisher, monkeypatch)
        path = write(tmp_path / f"{publisher}.bin", model, publisher)
        assert convert(path, entry=name, output=tmp_path / f"{publisher}.safetensors").publisher == publisher
    with pytest.raises(WrongPublisher, match=r"it is a file of paddle, .* pass --from paddle$"):
        convert(tmp_path / "paddle.bin", "mmdet")
