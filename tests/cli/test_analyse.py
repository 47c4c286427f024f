"""``cascadezoo analyse``, as the shell sees it."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cascadezoo.cli import main

from scored import SIDE, hit, outline, thing, truth_of

A, B = (0, 0, 40, 40), (60, 0, 40, 40)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (SIDE, SIDE)).save("1.jpg")
    Path("val.json").write_text(json.dumps(truth_of([thing(1, 1, A), thing(1, 2, B)])))

    def call(results: Any, *args: str) -> tuple[int, str, str]:
        Path("results.json").write_text(results if isinstance(results, str) else json.dumps(results))
        with pytest.raises(SystemExit) as stop:
            main(["analyse", "results.json", "--annotations", "val.json", *args])
        out, err = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        return stop.value.code, out, err

    return call


HITS = [hit(1, 1, A, 0.9), hit(1, 1, B, 0.8)]
BOXES = [{key: value for key, value in one.items() if key != "segmentation"} for one in HITS]


def test_tables(run: Any) -> None:
    """The cat is found, the dog is taken for a cat: AP 100 and 0, precision of cats 1/2."""
    code, out, err = run(BOXES)
    assert (code, err) == (0, "")
    head, _, names, figures, _, classes, cat, dog, _, errors, *kinds = out.splitlines()
    assert head == "bbox: 1 image, 2 detections"
    assert dict(zip(names.split(), figures.split(), strict=True))["AP"] == "50.0"
    assert classes.split() == ["class", "objects", "AP", "AP50", "AP75", "APs", "APm", "APl", "precision", "recall"]
    assert cat.split() == ["cat", "1", "100.0", "100.0", "100.0", "-", "100.0", "-", "50.0", "100.0"]
    assert dog.split() == ["dog", "1", "0.0", "0.0", "0.0", "-", "0.0", "-", "-", "0.0"]
    assert errors.split() == ["error", "number", "AP50", "gained"]
    assert [line.split() for line in kinds if line.startswith("Cls")] == [["Cls", "1", "50.0"]]
    assert len({len(line) for line in (classes, cat, dog)}) == 1


def test_boxes_and_masks_are_taken_as_there_are(run: Any) -> None:
    masks = [{key: value for key, value in one.items() if key != "bbox"} for one in HITS]
    polygons = [one | {"segmentation": outline(*one["bbox"])} for one in HITS]
    for results, args, kinds in (
        (BOXES, (), ["bbox"]), (masks, (), ["segm"]), (HITS, (), ["bbox", "segm"]), (polygons, (), ["bbox", "segm"]),
        (HITS, ("--kind", "segm"), ["segm"]), ([], (), ["bbox"]),
    ):  # fmt: skip
        code, out, err = run(results, "--json", *args)
        assert code == 0, err
        found = json.loads(out)
        assert [kind for kind in ("bbox", "segm") if kind in found] == kinds
        assert [found[kind]["figures"]["AP"] for kind in kinds] == pytest.approx([50 if results else 0] * len(kinds))
    assert found["evaluator"].startswith("hotcoco ")
    assert found["annotations"] == "val.json"


def test_a_folder_of_tables_and_pictures(run: Any) -> None:
    masks = [{key: value for key, value in one.items() if key != "bbox"} for one in HITS]
    code, _, err = run(masks, "-o", "out/new", "--images", ".", "--worst", "3", "--evaluator", "pycocotools")
    assert (code, err.splitlines()[-1]) == (0, "written to out/new")
    assert json.loads(Path("out/new/segm/figures.json").read_text())["evaluator"].startswith("pycocotools ")
    with Image.open("out/new/segm/worst/1.png") as picture:
        assert picture.width == 2 * SIDE + 8
        assert SIDE < picture.height < SIDE + 40  # titles above


def test_wrong_calls_and_files_are_answered(run: Any) -> None:
    for results, args, code, words in (
        (BOXES, ("--images", "."), 2, "give --out DIR"),
        (BOXES, ("--kind", "segm"), 4, "results.json: result 0 has no segmentation"),
        ([BOXES[0], {**HITS[0], "bbox": None}, {"image_id": 1}], (), 2, "give all of them one"),
        ([hit(9, 1, A, 0.5)], (), 4, "results.json: the results have image_id 9, which val.json lacks"),
        ("{", (), 4, "results.json is no JSON"),
        ("{}", (), 4, "is no file of COCO results"),
    ):
        got, out, err = run(results, *args)
        assert (got, out) == (code, ""), err
        assert words in err
    bare = truth_of([{k: v for k, v in thing(1, 1, A).items() if k != "segmentation"}])
    Path("val.json").write_text(json.dumps(bare))
    got, _, err = run(HITS)
    assert (got, "annotation 1 has no segmentation" in err) == (4, True)
    assert run(HITS, "--kind", "bbox")[0] == 0
