"""Files on another data set than COCO: their networks have the tensors of COCO's, so that the file has to tell."""

from pathlib import Path

import pytest
from checkpoints.stand_ins import save
from torch import Tensor

import cascadezoo
from cascadezoo.checkpoints.conversion import convert, to_publisher
from cascadezoo.checkpoints.exporting import export
from cascadezoo.checkpoints.identification import examine
from cascadezoo.checkpoints.inspection import inspect
from cascadezoo.coco.categories import COCO, OF_DATA, Categories
from cascadezoo.errors import WrongEntry
from cascadezoo.providers import SPECS

from tiny import lively, tiny

NUIM, PLAIN = "cascade_mask_r50_fpn_nuim", "cascade_mask_r50_fpn"
ENTRIES = tuple(f"{NUIM}_{end}.mmdet" for end in ("1x", "coco20e_1x", "coco20e_20e"))
NAMES = tuple(OF_DATA["nuimages"])
PIXELS = "img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)\n"


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Ten classes, as mmdetection names the tensors."""
    for name in (PLAIN, NUIM):
        monkeypatch.setitem(SPECS["mmdet"], name, tiny(name, num_classes=10 if name == NUIM else 80))
    return to_publisher(lively(tiny(NUIM, num_classes=10)).state_dict(), ENTRIES[0])


def found(path: Path) -> tuple[tuple[str, ...], str, Categories | None]:
    identified = examine(path).identify()
    names = tuple(entry.name for entry in identified.identity.entries)
    return names, identified.identity.found_by, identified.categories


def test_a_list_of_its_classes_tells(state, tmp_path: Path) -> None:
    path = save(tmp_path / "epoch_12.pth", {"meta": {"CLASSES": NAMES}, "state_dict": state})
    assert found(path) == (ENTRIES, "the list of classes in the file", None)
    assert cascadezoo.load(ENTRIES[0], weights=path).categories == OF_DATA["nuimages"]
    shown = inspect(path)
    assert {match.architecture for match in shown.matches} == {PLAIN, NUIM}


@pytest.mark.parametrize(
    ("file", "meta", "by"),
    [
        ("cascade_mask_rcnn_r50_fpn_1x_nuim_20201008_195342-1147c036.pth", {}, "the file name"),
        ("x.pth", {"config": "work_dir = './work/cascade_mask_rcnn_r50_fpn_1x_nuim'\n"}, "the configuration's name"),
    ],
)
def test_its_name_tells(state, tmp_path: Path, file: str, meta: dict[str, str], by: str) -> None:
    assert found(save(tmp_path / file, {"meta": meta, "state_dict": state})) == ((ENTRIES[0],), by, None)


def test_a_configuration_that_coco_shares_does_not(state, tmp_path: Path) -> None:
    path = save(tmp_path / "x.pth", {"meta": {"config": PIXELS}, "state_dict": state})
    entries, _, categories = found(path)
    assert {cascadezoo.info(name).architecture for name in entries} == {PLAIN}
    assert categories == Categories.numbered(10)  # somebody's ten classes
    assert {match.architecture for match in inspect(path).matches} == {PLAIN}
    pointed = [one.value for one in inspect(path).evidence if one.about == "entry"]
    assert pointed
    assert "nuim" not in " ".join(pointed)


def test_an_entry_given_is_taken_whatever_the_file_leaves_out(state, tmp_path: Path) -> None:
    for meta in ({}, {"config": PIXELS}, {"CLASSES": tuple(COCO)}):  # that list is not of ten classes
        path = save(tmp_path / "x.pth", {"meta": meta, "state_dict": state})
        model = cascadezoo.load(ENTRIES[0], weights=path)
        assert model.categories == OF_DATA["nuimages"]
        assert (model.spec.preprocess.min_size, model.spec.num_classes) == (64, 10)


def test_classes_alone_contradict_nobody_but_names_do(state, tmp_path: Path) -> None:
    """COCO's network, fine-tuned on nuImages, is no nuImages entry."""
    content = {"meta": {"CLASSES": NAMES}, "state_dict": state}
    model = cascadezoo.load(f"{PLAIN}_1x.mmdet", weights=save(tmp_path / "mine.pth", content))
    assert model.categories == Categories(NAMES)  # with ids from 1 on: whose data it was is not known
    with pytest.raises(WrongEntry, match=r"is not cascade_mask_r50_fpn_1x\.mmdet by its own clues: the file name is"):
        cascadezoo.load(f"{PLAIN}_1x.mmdet", weights=save(tmp_path / "cascade_mask_rcnn_r50_fpn_1x_nuim.pth", content))


def test_there_and_back(state, tmp_path: Path) -> None:
    path = save(tmp_path / "epoch_12.pth", {"meta": {"CLASSES": NAMES}, "state_dict": state})
    report = convert(path)
    assert (report.entries, report.num_classes, report.classes) == (ENTRIES, 10, ())
    assert report.output == tmp_path / f"{NUIM}.mmdet.safetensors"
    again = examine(report.output)
    assert {entry.name for entry in again.candidates if entry.data == "nuimages"} >= set(ENTRIES)
    model = cascadezoo.load(ENTRIES[1], weights=report.output)
    assert model.categories == OF_DATA["nuimages"]
    assert "CC-BY-NC-SA-4.0" in model.origin.attribution
    back = export(ENTRIES[1], "mmdet", report.output, tmp_path / "back.pth")
    assert examine(back.output).described.classes == NAMES
    second = convert(back.output, output=tmp_path / "second.safetensors")
    assert (second.entries, second.found_by) == ((ENTRIES[1],), "the configuration's name")
    assert second.content_digest == report.content_digest


def test_a_file_on_coco_is_what_it_was(state, tmp_path: Path) -> None:
    coco = to_publisher(lively(tiny(PLAIN, num_classes=80)).state_dict(), f"{PLAIN}_1x.mmdet")
    path = save(tmp_path / "epoch_12.pth", {"meta": {"CLASSES": tuple(COCO)}, "state_dict": coco})
    entries, found_by, categories = found(path)
    assert {cascadezoo.info(name).data for name in entries} == {"coco"}
    assert {cascadezoo.info(name).architecture for name in entries} == {PLAIN}
    assert (found_by, categories) == ("the shapes of its tensors", None)
