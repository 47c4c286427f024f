"""``cascadezoo predict --save``."""

import json
from pathlib import Path

import pytest

from cascadezoo.cli.parameters import SavedKinds
from cascadezoo.outputs.kinds import KINDS
from cascadezoo.providers import SPECS

from fake_predict import NAME, FakeModel, run, write_image

ALL = ",".join(kind for kind in KINDS if kind != "parquet")  # which needs pyarrow


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_all_kinds_at_once(folder, calls, capsys):
    write_image(folder / "photos" / "a.png")
    write_image(folder / "photos" / "b.jpg", 50, 20)
    assert run(NAME, "photos", "--save", ALL, "--device", "cpu") == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        f"photos/{name}: 2 detections (1 person, 1 dog) -> predictions/{Path(name).stem}.jpg and 9 more"
        for name in ("a.png", "b.jpg")
    ]
    assert err == ""
    of_one = set()
    for stem in ("a", "b"):
        of_one |= {f"{stem}.jpg", f"yolo/labels/{stem}.txt", f"labelme/{stem}.json", f"masks/{stem}/instances.png"}
        for kind in ("masks", "cutouts", "crops"):
            of_one |= {f"{kind}/{stem}/0001-person.png", f"{kind}/{stem}/0002-dog.png"}
    of_all = {
        "detections.json", "results.json", "detections.csv", "yolo/data.yaml", "labelme/labels.txt",
        "labelstudio/tasks.json", "labelstudio/config.xml",
    }  # fmt: skip
    assert files(folder / "predictions") == of_one | of_all
    results = json.loads((folder / "predictions" / "results.json").read_text())
    annotations = json.loads((folder / "predictions" / "detections.json").read_text())["annotations"]
    added = ("id", "area", "iscrowd")
    assert results == [{name: value for name, value in each.items() if name not in added} for each in annotations]


def test_without_the_picture_the_line_names_what_is_written(folder, calls, capsys):
    write_image(folder / "a.png")
    assert run(NAME, "a.png", "--save", "csv") == 0
    assert run(NAME, "a.png", "--save", "labelme,yolo", "--out", "other") == 0
    assert capsys.readouterr().out.splitlines() == [
        "a.png: 2 detections (1 person, 1 dog)",
        "a.png: 2 detections (1 person, 1 dog) -> other/yolo/labels/a.txt and 1 more",
    ]
    assert files(folder / "predictions") == {"detections.csv"}


def test_what_a_kind_has_no_place_for_is_said(folder, calls, capsys, monkeypatch):
    predict = FakeModel.predict

    def nowhere(self, images, **options):
        (found,) = predict(self, images, **options)
        found.mask_probs[1] = 0
        return [found]

    monkeypatch.setattr(FakeModel, "predict", nowhere)
    write_image(folder / "a.png")
    assert run(NAME, "a.png", "--save", "yolo") == 0
    assert capsys.readouterr().err == (
        "cascadezoo: a.png: detection 2: a detection without a pixel was left out for YOLO\n"
    )


def test_mistakes_are_told_before_the_model_is_loaded(folder, calls, capsys):
    write_image(folder / "a.png")
    assert run(NAME, "a.png", "--save", "mask") == 2
    assert run(NAME, "a.png", "--save", "csv", "--json") == 2
    assert run(NAME, "a.png", "--save", "csv", "--engine", "ray") == 2
    assert calls == []
    err = capsys.readouterr().err
    for sentence in (
        "'mask' is no kind of results: did you mean masks?",
        "--json prints detections.json: add coco to --save",
        "--save is for runs without --engine",
    ):
        assert sentence in err


def test_masks_of_a_model_without_are_refused(folder, calls, capsys, monkeypatch):
    monkeypatch.setattr(FakeModel, "spec", SPECS["mmdet"]["cascade_r50_fpn"])
    write_image(folder / "a.png")
    assert run(NAME, "a.png", "--save", "masks,crops") == 2
    assert "masks cannot be saved of a model without masks" in capsys.readouterr().err
    assert not (folder / "predictions").exists()


def test_results_are_never_written_over_an_image_that_was_given(folder, calls, capsys):
    write_image(folder / "a.png")
    assert run(NAME, "a.png", "--save", "crops") == 0
    assert run(NAME, "a.png", "predictions/crops/a", "--save", "crops") == 2
    assert "lies where crops are written" in capsys.readouterr().err
    assert run(NAME, "predictions/crops/a", "--save", "crops", "--out", "again") == 0


@pytest.mark.parametrize(
    ("typed", "offered"), [("", set(KINDS)), ("csv,cut", {"csv,cutouts"}), ("p", {"picture", "parquet"})]
)
def test_the_tab_key_completes_each_kind(typed, offered):
    assert {item.value for item in SavedKinds().shell_complete(None, None, typed)} == offered
