"""LabelMe's shapes; expected boxes and masks worked by hand."""

import base64
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from cascadezoo.errors import BadAnnotations, CascadezooError, MissingResource, UsageError
from cascadezoo.formats.conversion import Format, found_format, to_coco


def shape(label: str, kind: str, points: Any, **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}


def png(mask: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


SQUARE = [[2, 3], [8, 3], [8, 9], [2, 9]]


def document(*shapes: Any, **changes: Any) -> dict[str, Any]:
    size = {"imageHeight": 20, "imageWidth": 30, "imageData": "iVBORw0KGgo="}
    return {"version": "5.5.0", "flags": {}, "shapes": list(shapes), "imagePath": "a.png", **size, **changes}


def lay(folder: Path, documents: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    for stem, content in documents.items():
        Image.new("RGB", (30, 20)).save(folder / f"{stem}.png")
        text = json.dumps(content) if isinstance(content, dict | list) else content
        (folder / f"{stem}.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def converted(source: Path, **options: Any) -> dict[str, Any]:
    out = source.parent / "coco.json"
    to_coco(source, out, Format.LABELME, **options)
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def test_a_polygon_and_a_group(tmp_path: Path) -> None:
    other = [[12, 3], [18, 3], [18, 9], [12, 9]]
    shapes = [
        shape("dog", "polygon", SQUARE, group_id=4), shape("cat", "polygon", SQUARE, group_id=4),
        shape("dog", "polygon", other, group_id=4), shape("dog", "polygon", SQUARE),
    ]  # fmt: skip
    source = lay(tmp_path / "set", {"a": document(*shapes)})
    assert found_format(source) == "labelme"
    flat = [2, 3, 8, 3, 8, 9, 2, 9]
    common = {"image_id": 1, "iscrowd": 0}
    assert converted(source) == {
        "images": [{"id": 1, "file_name": "a.png", "height": 20, "width": 30}],
        "annotations": [
            {"id": 1, **common, "category_id": 2, "bbox": [2, 3, 16, 6], "area": 72,
             "segmentation": [flat, [12, 3, 18, 3, 18, 9, 12, 9]]},
            {"id": 2, **common, "category_id": 1, "bbox": [2, 3, 6, 6], "area": 36, "segmentation": [flat]},
            {"id": 3, **common, "category_id": 2, "bbox": [2, 3, 6, 6], "area": 36, "segmentation": [flat]},
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }  # fmt: skip


def test_rectangles_are_boxes_alone_or_outlines_among_outlines(tmp_path: Path) -> None:
    rectangle = shape("cat", "rectangle", [[8, 9], [2, 3]])
    (found,) = converted(lay(tmp_path / "set", {"a": document(rectangle)}))["annotations"]
    assert found["bbox"] == [2, 3, 6, 6]
    assert "segmentation" not in found
    source = lay(tmp_path / "set", {"b": document(shape("cat", "polygon", SQUARE), imagePath="..\\set\\b.png")})
    assert [each["segmentation"] for each in converted(source)["annotations"]] == [[[2, 3, 8, 3, 8, 9, 2, 9]]] * 2


def test_a_circle_is_within_a_pixel(tmp_path: Path) -> None:
    (found,) = converted(lay(tmp_path / "set", {"a": document(shape("cat", "circle", [[15, 10], [15, 2]]))}))[
        "annotations"
    ]
    assert found["bbox"] == [7, 2, 16, 16]
    polygon = np.array(found["segmentation"][0]).reshape(-1, 2)
    assert np.allclose(np.hypot(*(polygon - (15, 10)).T), 8, atol=1e-3)
    assert found["area"] == pytest.approx(math.pi * 64, rel=0.06)


def test_masks_and_masks_with_outlines(tmp_path: Path) -> None:
    ring = np.ones((5, 6), bool)
    ring[2, 2:4] = False
    mask = shape("cat", "mask", [[20, 10], [25, 14]], mask=png(ring))
    shapes = [mask, {**mask, "group_id": 1}, shape("cat", "polygon", SQUARE, group_id=1)]
    alone, both = converted(lay(tmp_path / "set", {"a": document(*shapes)}))["annotations"]
    expected = np.zeros((20, 30), np.uint8)
    expected[10:15, 20:26] = ring
    assert (alone["bbox"], alone["area"]) == ([20, 10, 6, 5], 28)
    assert (coco_mask.decode(alone["segmentation"]) == expected).all()
    expected[3:9, 2:8] = 1
    assert (both["bbox"], both["area"]) == ([2, 3, 24, 12], 64)
    assert (coco_mask.decode(both["segmentation"]) == expected).all()


def test_what_has_no_area_is_left_out_and_said(tmp_path: Path) -> None:
    shapes = [shape("cat", "polygon", SQUARE), shape("cat", "point", [[1, 1]]), shape("dog", "point", [[1, 1]])]
    source = lay(tmp_path / "set", {"a": document(*shapes)})
    done = to_coco(source, tmp_path / "coco.json")
    found = json.loads((tmp_path / "coco.json").read_text())
    assert len(found["annotations"]) == 1
    assert found["categories"] == [{"id": 1, "name": "cat"}]
    place = f"{source / 'a.json'}: shapes[1]"
    assert done.notes == [f"{place}: a shape without an area (point) was left out (the first of 2)"]


def test_names_in_their_order(tmp_path: Path) -> None:
    source = lay(tmp_path / "set", {"a": document(shape("cat", "polygon", SQUARE))})
    (source / "labels.txt").write_text("__ignore__\n_background_\nzebra\ncat\n")
    found = converted(source)
    assert found["categories"] == [{"id": 1, "name": "zebra"}, {"id": 2, "name": "cat"}]
    assert found["annotations"][0]["category_id"] == 2
    (tmp_path / "names.txt").write_text("dog\n")
    with pytest.raises(BadAnnotations, match=r"names\.txt has no class 'cat', which is in"):
        converted(source, names=tmp_path / "names.txt")


def test_images_in_another_folder(tmp_path: Path) -> None:
    source = lay(tmp_path / "set", {"a": document(shape("cat", "polygon", SQUARE))})
    (tmp_path / "images").mkdir()
    (source / "a.png").rename(tmp_path / "images" / "a.png")
    with pytest.raises(MissingResource, match=r"a\.json: there is no image .*a\.png: give the folder"):
        converted(source)
    assert converted(source, images=tmp_path / "images")["images"][0]["file_name"] == "a.png"
    (source / "a.json").write_text(json.dumps(document(imagePath="../images/a.png")))
    with pytest.raises(BadAnnotations, match="hold no objects"):
        converted(source, images=tmp_path / "images")


def cat(kind: str, points: Any, **more: Any) -> dict[str, Any]:
    return document(shape("cat", kind, points, **more))


WRONG: dict[str, tuple[Any, type[CascadezooError], str]] = {
    "no JSON": ('{"shapes": [', BadAnnotations, r"a\.json is no JSON"),
    "deep": ("[" * 100_000, BadAnnotations, r"a\.json is no JSON: it is nested too deeply"),
    "latin-1": (b'{"shapes": "\xe9"}', BadAnnotations, r"a\.json is no JSON"),
    "shapes": (document() | {"shapes": 5}, BadAnnotations, r"a\.json: shapes: a list is wanted"),
    "a shape": (document(5), BadAnnotations, r"a\.json: shapes\[0\]: an object is wanted"),
    "label": (document(shape("", "polygon", SQUARE)), BadAnnotations, r"shapes\[0\]: label: the name"),
    "nan": (cat("polygon", [[math.nan, 1], [2, 2], [3, 1]]), BadAnnotations, r"shapes\[0\]: points: a list of finite"),
    "far": (cat("polygon", [[1e8, 1], [2, 2], [3, 1]]), BadAnnotations, r"shapes\[0\]: a polygon's point at 1e\+08"),
    "endless": (cat("circle", [[1, 1], [1e8, 1]]), BadAnnotations, r"shapes\[0\]: a polygon's point at"),
    "two points": (cat("polygon", [[1, 1], [2, 2]]), BadAnnotations, r"shapes\[0\]: a polygon has three points"),
    "rectangle": (cat("rectangle", [[1, 1]]), BadAnnotations, r"shapes\[0\]: a rectangle has 2 points, not 1"),
    "circle": (cat("circle", [[1, 1]]), BadAnnotations, r"shapes\[0\]: a circle has 2 points, not 1"),
    "group": (cat("polygon", SQUARE, group_id="a"), BadAnnotations, r"shapes\[0\]: group_id"),
    "no picture": (cat("mask", [[1, 1], [2, 2]]), BadAnnotations, r"shapes\[0\]: a mask has two points, and its"),
    "mask": (cat("mask", [[1, 1], [2, 2]], mask="?"), BadAnnotations, r"shapes\[0\]: mask: it is no picture"),
    "mask bytes": (cat("mask", [[1, 1], [2, 2]], mask="AAAA"), CascadezooError, r"shapes\[0\]: mask"),
    "mask outside": (
        cat("mask", [[28, 1], [33, 5]], mask=png(np.ones((5, 6)))), BadAnnotations, r"shapes\[0\]: its mask reaches"
    ),
    "mask empty": (cat("mask", [[1, 1], [3, 3]], mask=png(np.zeros((3, 3)))), BadAnnotations, r"its mask is empty"),
    "imagePath": (document(imagePath=None), BadAnnotations, r"a\.json: imagePath: the path of an image"),
    "another size": (cat("polygon", SQUARE) | {"imageWidth": 99}, BadAnnotations, "99 x 20 pixels .* 30 x 20 as it is"),
    "of nobody": ([1], MissingResource, "there are no JSON files of LabelMe"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_one_sentence_with_file_and_place(tmp_path: Path, what: str) -> None:
    content, error, message = WRONG[what]
    source = lay(tmp_path / "set", {"a": content})
    with pytest.raises(error, match=message) as caught:
        converted(source)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "coco.json").exists()


def test_one_image_is_annotated_once(tmp_path: Path) -> None:
    source = lay(tmp_path / "set", {"a": cat("polygon", SQUARE), "b": cat("polygon", SQUARE)})
    with pytest.raises(BadAnnotations, match=r"a\.json and .*b\.json annotate the same image a\.png"):
        converted(source)
    with pytest.raises(UsageError, match="have no splits"):
        converted(source, split="train")
