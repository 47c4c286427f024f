"""COCO to another format and back: the same ids, boxes and masks, without a fault in the end."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools import mask as coco_mask

from cascadezoo.coco.checking import check
from cascadezoo.errors import OutputExists, UsageError
from cascadezoo.formats.conversion import Format, from_coco, to_coco

HEIGHT, WIDTH = 30, 41
SQUARE = [[4, 5, 14, 5, 14, 15, 4, 15]]
TWO = [[2, 2, 9, 2, 9, 9, 2, 9], [12.5, 3, 20, 3, 20, 9.25, 12.5, 9.25]]
RING = np.zeros((HEIGHT, WIDTH), np.uint8)
RING[10:25, 20:36] = 1
RING[14:20, 25:30] = 0  # a hole, which no list of polygons has
CATEGORIES = [{"id": 1, "name": "cat"}, {"id": 2, "name": "zebra crossing"}, {"id": 3, "name": "été <&>"}]


def rle(mask: np.ndarray) -> dict[str, Any]:
    found = coco_mask.encode(np.asfortranarray(mask))
    return {"size": list(mask.shape), "counts": found["counts"].decode()}


def annotation(
    number: int, image_id: int, category_id: int, bbox: list[float], mask: Any = None, crowd: int = 0
) -> dict:
    fields = {"id": number, "image_id": image_id, "category_id": category_id, "bbox": bbox, "iscrowd": crowd}
    area = bbox[2] * bbox[3]
    if mask is not None:
        fields["segmentation"] = mask
        coded = mask if isinstance(mask, dict) else coco_mask.merge(coco_mask.frPyObjects(mask, HEIGHT, WIDTH))
        area = float(coco_mask.area(coded))
    return {**fields, "area": area}


def write(folder: Path, annotations: list[dict]) -> Path:
    names = ["a.png", "sub/b.jpg", "z.png"]
    images = [{"id": i, "file_name": name, "height": HEIGHT, "width": WIDTH} for i, name in enumerate(names, start=1)]
    for name in names:
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT), (90, 120, 30)).save(path)
    path = folder / "coco.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": CATEGORIES}))
    return path


BOXES = [
    annotation(1, 1, 2, [4, 5, 10, 10]), annotation(2, 1, 3, [0, 0, 41, 30]),
    annotation(3, 2, 1, [7.25, 3.5, 11.3, 8.1]),
]  # fmt: skip
OUTLINES = [annotation(1, 1, 2, [4, 5, 10, 10], SQUARE), annotation(2, 3, 1, [4, 5, 10, 10], SQUARE)]
RUNS = [annotation(1, 1, 2, [20, 10, 16, 15], rle(RING)), annotation(2, 2, 3, [20, 10, 16, 15], rle(RING), crowd=1)]
PARTS = [annotation(1, 2, 2, [2, 2, 18, 7.25], TWO), annotation(2, 2, 2, [4, 5, 10, 10], SQUARE)]

EXACT = {
    "yolo boxes": (Format.YOLO, BOXES),
    "yolo outlines": (Format.YOLO, OUTLINES),
    "voc boxes": (Format.VOC, BOXES),
    "voc crowds": (Format.VOC, [*BOXES, annotation(4, 3, 1, [5, 5, 9, 9], crowd=1)]),
    "labelme boxes": (Format.LABELME, BOXES),
    "labelme outlines": (Format.LABELME, OUTLINES),
    "labelme runs": (Format.LABELME, RUNS),
    "labelme parts": (Format.LABELME, PARTS),
}


def there_and_back(tmp_path: Path, form: Format, annotations: list[dict]) -> dict[str, Any]:
    path, images = write(tmp_path, annotations), tmp_path / "images"
    assert from_coco(path, images, tmp_path / "other", form).notes == []
    done = to_coco(tmp_path / "other", tmp_path / "back.json", images=images, split="train" if form == "yolo" else None)
    assert done.notes == []
    assert check(tmp_path / "back.json", images, 1)[1].first == []
    found: dict[str, Any] = json.loads((tmp_path / "back.json").read_text())
    assert found["images"] == json.loads(path.read_text())["images"]
    assert found["categories"] == CATEGORIES
    return found


@pytest.mark.parametrize("case", EXACT)
def test_the_same_to_the_digit(tmp_path: Path, case: str) -> None:
    assert there_and_back(tmp_path, *EXACT[case])["annotations"] == EXACT[case][1]


def masks(document: dict[str, Any]) -> list[np.ndarray]:
    found = []
    for each in document["annotations"]:
        mask = each["segmentation"]
        coded = mask if isinstance(mask, dict) else coco_mask.merge(coco_mask.frPyObjects(mask, HEIGHT, WIDTH))
        found.append(coco_mask.decode(coded))
    return found


def test_VOC_keeps_the_pixels_of_masks(tmp_path: Path) -> None:
    given = [*OUTLINES, annotation(3, 2, 1, [20, 10, 16, 15], rle(RING))]
    given = [{**each, "id": i} for i, each in enumerate(sorted(given, key=lambda each: each["image_id"]), start=1)]
    found = there_and_back(tmp_path, Format.VOC, given)
    for one, other in zip(masks({"annotations": given}), masks(found), strict=True):
        assert (one == other).all()
    drop = ("segmentation",)
    assert [{k: v for k, v in each.items() if k not in drop} for each in found["annotations"]] == [
        {k: v for k, v in each.items() if k not in drop} for each in given
    ]


def test_YOLO_joins_the_outlines_of_an_object(tmp_path: Path) -> None:
    """All of both, and no more than the line of a pixel's width between them, 3.5 pixels long."""
    found = there_and_back(tmp_path, Format.YOLO, PARTS)
    assert [each["bbox"] for each in found["annotations"]] == [each["bbox"] for each in PARTS]
    (joined, square), (both, same) = masks(found), masks({"annotations": PARTS})
    assert (square == same).all()
    assert (joined >= both).all()
    assert joined.sum() - both.sum() <= 4


def test_what_YOLO_cannot_hold(tmp_path: Path) -> None:
    path = write(tmp_path, RUNS)
    with pytest.raises(UsageError, match=r"coco\.json: image 1: a run-length mask has no outline"):
        from_coco(path, tmp_path / "images", tmp_path / "yolo", Format.YOLO)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["coco.json", "images"]  # nothing was left
    path = write(tmp_path, [*BOXES, annotation(4, 3, 1, [5, 5, 9, 9], crowd=1)])
    done = from_coco(path, tmp_path / "images", tmp_path / "yolo", Format.YOLO)
    assert done.notes == [f"{path}: image 3: a crowd was left out: YOLO knows none"]
    described = yaml.safe_load((tmp_path / "yolo" / "data.yaml").read_text(encoding="utf-8"))
    assert described["names"] == {0: "cat", 1: "zebra crossing", 2: "été <&>"}
    assert (tmp_path / "yolo/labels/z.txt").read_text() == ""


def test_masks_over_each_other_are_said_in_VOC(tmp_path: Path) -> None:
    path = write(tmp_path, [OUTLINES[0], annotation(2, 1, 1, [4, 5, 10, 10], SQUARE)])
    done = from_coco(path, tmp_path / "images", tmp_path / "voc", Format.VOC)
    assert done.notes == [f"{path}: image 1: a mask lies over another, which loses these pixels"]


def test_a_folder_is_never_written_over(tmp_path: Path) -> None:
    path = write(tmp_path, BOXES)
    with pytest.raises(OutputExists, match="images is there already"):
        from_coco(path, tmp_path / "images", tmp_path / "images", Format.VOC)


@pytest.mark.parametrize("is_there", [True, False])
def test_v1_the_target_of_a_link_is_written(tmp_path: Path, is_there: bool) -> None:
    link, target = tmp_path / "link", tmp_path / "target"
    link.symlink_to(target)
    if is_there:
        target.mkdir()
    from_coco(write(tmp_path, BOXES), tmp_path / "images", link, Format.VOC)
    assert link.is_symlink()
    assert any((target / "Annotations").iterdir())


def test_images_with_one_stem_have_one_place_for_labels(tmp_path: Path) -> None:
    path = write(tmp_path, BOXES)
    document = json.loads(path.read_text())
    document["images"][2]["file_name"] = "a.jpg"
    path.write_text(json.dumps(document))
    with pytest.raises(UsageError, match=r"'a\.jpg' and 'a\.png' would have the same labels"):
        from_coco(path, tmp_path / "images", tmp_path / "voc", Format.VOC)
