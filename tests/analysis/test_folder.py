"""What results tell, as a folder: every number worked by hand, every picture looked at."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cascadezoo.analysis.analyse import analyse
from cascadezoo.analysis.folder import write
from cascadezoo.analysis.tables import record
from cascadezoo.errors import MissingResource, UnwritableOutput

from scored import SIDE, hit, thing, truth_of

A, B, FAR = (0, 0, 40, 40), (60, 0, 40, 40), (120, 120, 40, 40)
ABOUT = {"evaluator": "hotcoco 1.3.0"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Image 1: a cat found, one taken for a dog, and a dog seen where nothing is.  Image 2: nothing.  Image 3: a missed
    cat.  There is no cow, with a name that CSV has to quote."""
    root = tmp_path_factory.mktemp("analysis")
    things = [thing(1, 1, A), thing(1, 1, B), thing(3, 1, A)]
    hits = [hit(1, 1, A, 0.9), hit(1, 2, B, 0.8), hit(1, 2, FAR, 0.4), hit(2, 1, A, 0.2)]
    truth = truth_of(things, 3, ("cat", "dog", 'cow, "holy"'))
    (root / "images").mkdir()
    for number in (1, 2, 3):
        Image.new("RGB", (SIDE, SIDE), (90, 90, 90)).save(root / "images" / f"{number}.jpg")
    analyses = analyse(truth, hits, ("bbox", "segm"), worst=5)
    write(analyses, root / "out", truth, ABOUT, root / "images")
    (root / "record.json").write_text(json.dumps({kind: record(one) for kind, one in analyses.items()}))
    return root


def table(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_tables_worked_by_hand(folder: Path, kind: str) -> None:
    """Of three cats one is found: precision 1 at the recall points 0 … .33, which are 34 of 101."""
    out = folder / "out" / kind
    assert sorted(path.name for path in out.iterdir()) == [
        "confusion.csv", "confusion.png", "errors.json", "figures.json", "per_class.csv", "pr_curves.csv",
        "pr_curves.png", "worst", "worst.json",
    ]  # fmt: skip
    head, cat, dog, cow = table(out / "per_class.csv")
    assert dict(zip(head, cat, strict=True)) | {"ARl": ""} == {
        "category_id": "1", "class": "cat", "objects": "3", "AP": "33.6634", "AP50": "33.6634", "AP75": "33.6634",
        "APs": "", "APm": "33.6634", "APl": "", "AR1": "33.3333", "AR10": "33.3333", "AR100": "33.3333", "ARs": "",
        "ARm": "33.3333", "ARl": "", "precision": "100.0", "recall": "33.3333",
    }  # fmt: skip
    assert (dog[:4], dog[-2:]) == (["2", "dog", "0", ""], ["0.0", ""])
    assert (cow[:3], cow[-2:]) == (["3", 'cow, "holy"', "0"], ["", ""])
    assert table(out / "confusion.csv") == [
        ["annotated \\ detected", "cat", "dog", 'cow, "holy"', "background"],
        ["cat", "1", "1", "0", "1"],
        ["dog", "0", "0", "0", "0"],
        ['cow, "holy"', "0", "0", "0", "0"],
        ["background", "0", "1", "0", "0"],
    ]
    figures = json.loads((out / "figures.json").read_text())
    assert (figures["evaluator"], figures["images"], figures["detections"]) == ("hotcoco 1.3.0", 3, 4)
    assert figures["figures"]["AP"] == pytest.approx(100 * 34 / 101)
    assert figures["thresholds"]["confusion"] == {"score": 0.3, "iou": 0.5}
    errors = json.loads((out / "errors.json").read_text())
    assert {name: number for name, number in errors["counts"].items() if number} == {
        "Cls": 1, "Bkg": 2, "Miss": 1, "FalsePos": 3, "FalseNeg": 2
    }  # fmt: skip
    assert json.loads((out / "worst.json").read_text()) == [
        {"image_id": 1, "mistakes": 2, "mistaken": 1, "spurious": 1, "missed": 0},
        {"image_id": 3, "mistakes": 1, "mistaken": 0, "spurious": 0, "missed": 1},
    ]


def test_curves_as_a_table(folder: Path) -> None:
    head, *rows = table(folder / "out" / "bbox" / "pr_curves.csv")
    assert head == ["category_id", "class", "iou", "recall", "precision"]
    assert len(rows) == 2 * 3 * 101  # the mean and cats; dogs and cows are not annotated
    assert [row for row in rows if row[1] == "cat" and row[2] == "0.75"][33:35] == [
        ["1", "cat", "0.75", "0.33", "1.0"], ["1", "cat", "0.75", "0.34", "0.0"]
    ]  # fmt: skip
    assert rows[0] == ["", "(all)", "0.50:0.95", "0.0", "1.0"]


def test_the_record_holds_the_same(folder: Path) -> None:
    bbox = json.loads((folder / "record.json").read_text())["bbox"]
    assert bbox["classes"][0]["AP50"] == 33.6634
    assert bbox["classes"][1]["AP50"] is None
    assert bbox["confusion"]["counts"][0] == [1, 1, 0, 1]
    assert bbox["errors"]["counts"]["Miss"] == 1
    assert [image["image_id"] for image in bbox["worst"]] == [1, 3]


def test_the_worst_images_are_drawn_truth_at_the_left(folder: Path) -> None:
    """The dog where nothing is stands at the right alone; masks are tinted, also where only boxes are looked at."""
    out = folder / "out"
    assert sorted(path.name for path in (out / "bbox" / "worst").iterdir()) == ["1.png", "2.png"]
    for kind in ("bbox", "segm"):
        with Image.open(out / kind / "worst" / "1.png") as picture:
            pixels = np.asarray(picture.convert("RGB")).astype(int)
        head = len(pixels) - SIDE  # of titles
        assert pixels.shape == (head + SIDE, 2 * SIDE + 8, 3)
        assert 0 < head < 40
        left, right = pixels[head:, :SIDE], pixels[head:, SIDE + 8 :]
        x, y, w, h = FAR
        assert np.abs(left[y : y + h, x : x + w] - 90).max() <= 2  # JPEG
        assert np.abs(right[y : y + h, x : x + w] - 90).max() > 60
        for side in (left, right):  # the cat that was found
            assert np.abs(side[15:35, 5:35] - 90).max() > 20
        assert (pixels[:, SIDE : SIDE + 8] == 255).all()


def test_pictures_can_be_opened(folder: Path) -> None:
    for name in ("pr_curves", "confusion"):
        with Image.open(folder / "out" / "segm" / f"{name}.png") as picture:
            assert len(picture.getcolors(10**6)) > 10


def test_only_what_was_asked_for_is_analysed() -> None:
    things = [thing(1, 1, A), thing(2, 1, A)]
    hits = [hit(1, 1, FAR, 0.5), hit(2, 1, FAR, 0.5)]
    found = analyse(truth_of(things, 2), hits, ("bbox",), image_ids=[2], worst=1)["bbox"]
    assert (found.images, found.detections, found.confusion.counts.sum()) == (1, 1, 2)
    assert [image.overlaps.image_id for image in found.worst] == [2]
    found = analyse(truth_of(things, 2), hits, ("bbox",), worst=1, score=0.6)["bbox"]
    assert [(image.overlaps.image_id, image.mistakes) for image in found.worst] == [(1, 1)]


def test_nothing_annotated_and_nothing_found_is_a_folder_too(tmp_path: Path) -> None:
    truth = truth_of([])
    write(analyse(truth, [], ("bbox",)), tmp_path, truth, ABOUT, None)
    assert len(table(tmp_path / "bbox" / "pr_curves.csv")) == 1
    assert json.loads((tmp_path / "bbox" / "worst.json").read_text()) == []
    assert not (tmp_path / "bbox" / "worst").exists()


def test_what_cannot_be_written_or_read_is_named(tmp_path: Path) -> None:
    truth = truth_of([thing(1, 1, A)])
    analyses = analyse(truth, [], ("bbox",))
    with pytest.raises(MissingResource, match=r"1\.jpg"):
        write(analyses, tmp_path, truth, ABOUT, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UnwritableOutput, match="cannot be made"):
        write(analyses, tmp_path / "file", truth, ABOUT, None)
