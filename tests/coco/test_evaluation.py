"""COCO's figures, worked by hand, and equal from both evaluators."""

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from cascadezoo.coco import evaluation as coco_eval
from cascadezoo.coco.curves import METRICS
from cascadezoo.coco.evaluation import evaluate
from cascadezoo.errors import BadAnnotations, FileError, MissingResource, UsageError

EVALUATORS = ("pycocotools", "hotcoco")
SIDE = 200  # of every image


def rle(x: int, y: int, w: int, h: int) -> dict:
    mask = np.zeros((SIDE, SIDE), np.uint8, order="F")
    mask[y : y + h, x : x + w] = 1
    found = coco_mask.encode(mask)
    return {"size": found["size"], "counts": found["counts"].decode()}


def runs(x: int, y: int, w: int, h: int) -> dict:
    """Uncompressed, as crowds are annotated: columns of h set pixels."""
    counts, end = [], 0
    for column in range(x, x + w):
        start = column * SIDE + y
        counts += [start - end, h]
        end = start + h
    return {"size": [SIDE, SIDE], "counts": [*counts, SIDE * SIDE - end]}


def polygon(x: int, y: int, w: int, h: int) -> list:
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def truth(image: int, box: tuple, segmentation=polygon, crowd: int = 0) -> dict:
    return {"image_id": image, "category_id": 7, "bbox": list(box), "area": box[2] * box[3], "iscrowd": crowd,
            "segmentation": segmentation(*box)}  # fmt: skip


def found(image: int, box: tuple, score: float, mask: tuple | None = None) -> dict:
    return {"image_id": image, "category_id": 7, "bbox": list(box), "score": score, "segmentation": rle(*mask or box)}


def write(folder: Path, annotations: list[dict], images: int) -> Path:
    document = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": SIDE, "width": SIDE} for i in range(1, images + 1)],
        "annotations": [{"id": number, **a} for number, a in enumerate(annotations, start=1)],
        "categories": [{"id": 7, "name": "thing"}],
    }
    path = folder / "annotations.json"
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def two_images(tmp_path: Path) -> Path:
    whole = (10, 20, 100, 100)
    return write(tmp_path, [truth(1, whole), truth(2, whole, rle)], images=2)


TWO_FOUND = [
    found(1, (10, 20, 100, 100), 0.9),
    found(2, (10, 20, 100, 77), 0.8, mask=(10, 20, 100, 50)),
]


def test_P1_annotations_without_info_are_evaluated_by_every_pycocotools(
    two_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Versions 2.0.9 and 2.0.10 copy the ``info`` of the annotations without asking whether there is one."""
    load = COCO.loadRes

    def load_as_2_0_9_does(coco: COCO, results: object) -> COCO:
        assert isinstance(coco.dataset["info"], dict)
        return load(coco, results)

    monkeypatch.setattr(COCO, "loadRes", load_as_2_0_9_does)
    assert evaluate(two_images, TWO_FOUND, ["bbox"])["bbox"]["AP50"] == pytest.approx(100)


@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_two_images_worked_by_hand(two_images: Path, evaluator: str) -> None:
    """Object 1 is found exactly.  Object 2 with a box of IoU 77/100 and a mask of IoU 50/100.

    Boxes: at the six thresholds .50 … .75 both are right, AP 1.  At the four from .80 on the second is wrong, and
    recall ends at 1/2: precision 1 at the recall points 0, .01 … .50, which are 51 of 101.
    Masks: both are right at .50 alone.
    """
    half = 51 / 101
    figures = evaluate(two_images, TWO_FOUND, evaluator=evaluator)
    box_ap, box_ar = 100 * (6 + 4 * half) / 10, 100 * (6 + 4 / 2) / 10
    mask_ap, mask_ar = 100 * (1 + 9 * half) / 10, 100 * (1 + 9 / 2) / 10
    expected = {
        "bbox": {"AP": box_ap, "AP50": 100, "AP75": 100, "APl": box_ap, "AR1": box_ar, "AR10": box_ar, "AR100": box_ar},
        "segm": {"AP": mask_ap, "AP50": 100, "AP75": 100 * half, "AR1": mask_ar, "AR100": mask_ar, "ARl": mask_ar},
    }
    for kind, metrics in expected.items():
        assert {name: figures[kind][name] for name in metrics} == pytest.approx(metrics)
        assert list(figures[kind]) == list(METRICS)
        assert figures[kind]["APs"] is figures[kind]["ARm"] is None  # 100 x 100 pixels are large


@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_crowds_empty_images_and_missed_objects(tmp_path: Path, evaluator: str) -> None:
    """Image 1: an object, found, and a crowd, in which a detection is neither right nor wrong.  Image 2: an object
    that nobody finds.  Image 3: nothing, where something is found with the best score of all that count.

    One right after one wrong: recall ends at 1/2 with precision 1/2.
    """
    path = write(
        tmp_path, [truth(1, (0, 0, 50, 50)), truth(1, (100, 100, 80, 80), runs, crowd=1), truth(2, (0, 0, 50, 50))], 3
    )
    results = [found(1, (110, 110, 20, 20), 0.99), found(1, (0, 0, 50, 50), 0.9), found(3, (5, 5, 50, 50), 0.95)]
    figures = evaluate(path, results, evaluator=evaluator)
    for kind in ("bbox", "segm"):
        assert figures[kind]["AP"] == pytest.approx(100 * 0.5 * 51 / 101)
        assert figures[kind]["AR100"] == pytest.approx(50)


@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_only_the_images_asked_for_count(two_images: Path, evaluator: str) -> None:
    for image_id, ap in ((1, 100), (2, 10)):
        figures = evaluate(two_images, TWO_FOUND, image_ids=[image_id], evaluator=evaluator)
        assert figures["segm"]["AP"] == pytest.approx(ap)


@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_nothing_found_is_zero_and_nothing_annotated_is_none(tmp_path: Path, two_images: Path, evaluator: str) -> None:
    assert evaluate(two_images, [], evaluator=evaluator)["bbox"]["AP"] == 0
    bare = write(tmp_path, [], images=2)
    assert set(evaluate(bare, TWO_FOUND, evaluator=evaluator)["segm"].values()) == {None}


def test_polygon_and_rle_are_the_same_object(tmp_path: Path) -> None:
    box = (10, 20, 100, 100)
    figures = []
    for segmentation in (polygon, rle, runs):
        path = write(tmp_path, [truth(1, box, segmentation)], images=1)
        figures.append(evaluate(path, [found(1, (10, 20, 100, 77), 0.8)], kinds=("segm",)))
    assert figures[0] == figures[1] == figures[2]
    assert figures[0]["segm"]["AP"] == pytest.approx(60)


@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_it_prints_nothing_and_changes_nothing(two_images: Path, evaluator: str, capfd) -> None:
    before = json.dumps(TWO_FOUND)
    evaluate(two_images, TWO_FOUND, evaluator=evaluator)
    assert capfd.readouterr().out == ""
    assert json.dumps(TWO_FOUND) == before


def hundred(folder: Path, numbers: list[int | None]) -> tuple[Path, list[dict]]:
    """Four images with one object each, all found exactly, annotated under these ids; None for none."""
    boxes = [(10 * n, 20, 40, 50) for n in range(1, 5)]
    path = write(folder, [truth(n, box) for n, box in enumerate(boxes, 1)], images=4)
    document = json.loads(path.read_text())
    for annotation, number in zip(document["annotations"], numbers, strict=True):
        annotation["id"] = number
        if number is None:
            del annotation["id"]
    path.write_text(json.dumps(document))
    return path, [found(n, box, 0.9) for n, box in enumerate(boxes, 1)]


@pytest.mark.parametrize("evaluator", EVALUATORS)
@pytest.mark.parametrize("numbers", [[1, 2, 3, 4], [7, 7, 7, 7], [0, 1, 2, 3], [-5, -4, -3, -2], [-1, 0, 1, None]])
def test_T1_ap_does_not_depend_on_the_ids_of_annotations(tmp_path: Path, evaluator: str, numbers) -> None:
    """Everything is found exactly: AP is 100 whatever the objects are called."""
    path, results = hundred(tmp_path, numbers)
    figures = evaluate(path, results, evaluator=evaluator)
    assert figures["bbox"]["AP"] == pytest.approx(100)
    assert figures["segm"]["AP"] == pytest.approx(100)


@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_T1_ids_of_images_and_categories_may_be_0_or_less(tmp_path: Path, evaluator: str) -> None:
    path, results = hundred(tmp_path, [1, 2, 3, 4])
    document = json.loads(path.read_text())
    document["categories"][0]["id"] = 0
    for item in document["images"]:
        item["id"] -= 2
    for item in (*document["annotations"], *results):
        item |= {"category_id": 0, "image_id": item["image_id"] - 2}
    path.write_text(json.dumps(document))
    figures = evaluate(path, results, evaluator=evaluator)
    assert figures["bbox"]["AP"] == pytest.approx(100)
    assert figures["segm"]["AP"] == pytest.approx(100)


@pytest.mark.parametrize("evaluator", EVALUATORS)
@pytest.mark.parametrize("lacking", [("area",), ("iscrowd",), ("id", "area", "iscrowd")])
@pytest.mark.parametrize("as_null", [False, True])
def test_T4_what_is_missing_is_filled_in(tmp_path: Path, evaluator: str, lacking, as_null: bool) -> None:
    """A triangle of half a box of 40 x 40: as a mask it is small (below 32 x 32 = 1024 pixels), as a box medium."""
    triangle = [[10, 20, 50, 20, 10, 60]]
    path = write(tmp_path, [truth(1, (10, 20, 40, 40), lambda *_: triangle)], images=1)
    document = json.loads(path.read_text())
    for key in lacking:
        document["annotations"][0][key] = None
        if not as_null:
            del document["annotations"][0][key]
    path.write_text(json.dumps(document))
    result = [found(1, (10, 20, 40, 40), 0.9)]
    sizes = ("APs", "APm") if "area" in lacking else ("APm", "APs")  # the file's own area, 1600, is that of the box
    figures = evaluate(path, result, ["bbox"], evaluator=evaluator)["bbox"]
    assert figures[sizes[0]] == pytest.approx(100)
    assert figures[sizes[1]] is None
    del document["annotations"][0]["segmentation"]  # only the box is left
    path.write_text(json.dumps(document))
    figures = evaluate(path, result, ["bbox"], evaluator=evaluator)["bbox"]
    assert figures["APm"] == pytest.approx(100)


@pytest.mark.parametrize("segmentation", [None, [], [[]], [[1, 1, 5, 5]]])
def test_T4_boxes_are_evaluated_without_masks_and_masks_are_refused_by_name(tmp_path: Path, segmentation) -> None:
    box = (10, 20, 40, 50)
    path = write(tmp_path, [truth(1, box), truth(1, box, lambda *_: segmentation)], images=1)
    assert evaluate(path, [found(1, box, 0.9)], ["bbox"])["bbox"]["AR1"] == pytest.approx(50)
    with pytest.raises(BadAnnotations, match=r"annotations\.json: annotation 2 has no segmentation"):
        evaluate(path, [found(1, box, 0.9)])


def test_T3_what_is_to_be_ignored_is_scored_as_mmdetection_does(tmp_path: Path) -> None:
    """pycocotools overwrites ``ignore`` by ``iscrowd``: the object that is not found counts."""
    boxes = [(10, 20, 40, 50), (100, 20, 40, 50)]
    path = write(tmp_path, [truth(1, boxes[0]), {**truth(1, boxes[1]), "ignore": 1}], images=1)
    assert evaluate(path, [found(1, boxes[0], 0.9)], ["bbox"])["bbox"]["AR100"] == pytest.approx(50)


HOSTILE = {
    "far": [[1, 1, 9e8, 1, 5, 5]],
    "far but bounded memory": [[1, 1, 1e7, 1, 5, 5]],
    "NaN": [[1, 1, float("nan"), 1, 5, 5]],
    "infinity": [[1, 1, float("inf"), 1, 5, 5]],
    "huge": [[1, 1, 1e300, 1, 5, 5]],
    "whole and huge": [[1, 1, 10**400, 1, 5, 5]],
    "long": [[0, 0, 199, 199] * 100_000],
    "many long ones": [[0, 0, 199, 199] * 300] * 200,
    "counts that do not add up": {"size": [SIDE, SIDE], "counts": [SIDE]},
    "size of another image": {"size": [SIDE, 2 * SIDE], "counts": [2 * SIDE * SIDE]},
    "characters": {"size": [SIDE, SIDE], "counts": "zzzz\x00\x7f"},
    "too few": {"size": [SIDE, SIDE], "counts": "11"},
    "nothing": {"size": [SIDE, SIDE]},
}


@pytest.mark.parametrize("what", HOSTILE)
def test_T5_a_malformed_mask_is_refused_naming_file_and_annotation(tmp_path: Path, what: str) -> None:
    path = write(tmp_path, [truth(1, (10, 20, 40, 50)), truth(1, (9, 9, 9, 9), lambda *_: HOSTILE[what])], images=1)
    for kinds in (("bbox",), ("bbox", "segm")):
        with pytest.raises(BadAnnotations, match=r"annotations\.json: annotation 2: segmentation: "):
            evaluate(path, [], kinds)


def test_C7_bad_input_is_named(tmp_path: Path, two_images: Path, monkeypatch) -> None:
    with pytest.raises(UsageError, match="'cocoeval'"):
        evaluate(two_images, [], evaluator="cocoeval")
    with pytest.raises(UsageError, match="'keypoints'"):
        evaluate(two_images, [], kinds=("keypoints",))
    with pytest.raises(UsageError, match="image_id 9"):
        evaluate(two_images, [found(9, (0, 0, 5, 5), 0.5)])
    with pytest.raises(UsageError, match="has no image 9"):
        evaluate(two_images, [], image_ids=[1, 9])
    with pytest.raises(UsageError, match="category_id 8"):
        evaluate(two_images, [{**TWO_FOUND[0], "category_id": 8}])
    with pytest.raises(UsageError, match="without segmentation"):
        evaluate(two_images, [{k: v for k, v in TWO_FOUND[0].items() if k != "segmentation"}])
    with pytest.raises(MissingResource, match=r"none\.json"):
        evaluate(tmp_path / "none.json", [])
    for text, message in (
        ("{", "no JSON"),
        ("[]", "holds a list"),
        ('{"images": []}', "annotations: the file has no such list"),
    ):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(FileError, match=message):
            evaluate(tmp_path / "bad.json", [])
    bare = write(tmp_path, [{k: v for k, v in truth(1, (0, 0, 9, 9)).items() if k != "segmentation"}], images=1)
    assert evaluate(bare, [], kinds=("bbox",))["bbox"]["AP"] == 0
    with pytest.raises(FileError, match="annotation 1 has no segmentation"):
        evaluate(bare, [])
    monkeypatch.setitem(coco_eval.EVALUATORS, "hotcoco", ("no_such_module", "no_such_module"))
    with pytest.raises(MissingResource, match=r"pip install hotcoco$"):
        evaluate(two_images, [], evaluator="hotcoco")
