"""Detections as clients get them."""

import io
import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from cascadezoo.detections import Detections
from cascadezoo.ops.mask_paste import Crop
from cascadezoo.serving.answers import FORMATS, Asked, acceptable, answer


@pytest.mark.parametrize(
    ("accept", "format"),
    [
        ("", "coco"),
        ("*/*", "coco"),
        ("application/json", "coco"),
        ("image/png", "png"),
        ("image/*", "jpeg"),
        ("text/html, image/png;q=0.5, image/jpeg; q=0.4, */*;q=0.1", "png"),
        ("IMAGE/JPEG", "jpeg"),
        ("*/*;q=0.5, application/json;q=0", "jpeg"),
        ("image/png;q=much, application/*", "coco"),
        ("text/html", None),
        ("*/*;q=0", None),
    ],
)
def test_accept_chooses(accept: str, format: str | None) -> None:
    assert acceptable(accept) == format


def found(masks: bool = True) -> Detections:
    """Two of them on a grey image of 30 x 40, the second less sure."""
    return Detections(
        boxes=torch.tensor([[5.0, 6.0, 25.0, 20.0], [20.5, 4.25, 38.0, 28.0]]),
        scores=torch.tensor([0.9, 0.6]),
        labels=torch.tensor([0, 2]),
        image_size=(30, 40),
        mask_probs=torch.full((2, 28, 28), 0.9) if masks else None,
    )


IMAGE = np.full((30, 40, 3), 100, np.uint8)


def document(detections: Detections, **asked: object) -> dict:
    return json.loads(answer(detections, IMAGE, Asked(**{"format": "coco", **asked}), "words"))


def test_coco_is_the_annotation_file_with_the_same_numbers() -> None:
    got = document(found(), image_id=7, file_name="a.jpg")
    assert got["info"] == {"description": "words"}
    assert got["images"] == [{"id": 7, "height": 30, "width": 40, "file_name": "a.jpg"}]
    assert len(got["categories"]) == 80
    keys = ("image_id", "category_id", "bbox", "score", "segmentation")
    assert [{key: one[key] for key in keys} for one in got["annotations"]] == found().to_coco(7)


def test_a_score_leaves_out_what_is_below() -> None:
    assert [one["score"] for one in document(found(), score=0.7)["annotations"]] == pytest.approx([0.9])
    assert document(found(), score=1.0)["annotations"] == []


def test_polygons_take_the_place_of_encodings() -> None:
    got, encoded = document(found(), format="polygons"), document(found())
    for one, other in zip(got["annotations"], encoded["annotations"], strict=True):
        (drawn,) = coco_mask.frPyObjects(one["segmentation"], 30, 40)
        assert (coco_mask.decode(drawn) == coco_mask.decode(other["segmentation"])).all()
        assert one["area"] == other["area"]


def test_without_masks_there_are_none() -> None:
    for format in ("coco", "polygons"):
        assert all("segmentation" not in one for one in document(found(masks=False), format=format)["annotations"])


@pytest.mark.parametrize(("format", "kind"), [("png", "PNG"), ("jpeg", "JPEG")])
def test_pictures_are_the_image_with_what_was_found(format: str, kind: str) -> None:
    picture = Image.open(io.BytesIO(answer(found(), IMAGE, Asked(format), "words")))
    assert (picture.format, picture.size) == (kind, (40, 30))
    difference = np.abs(np.asarray(picture, np.int16) - np.asarray(found().plot(IMAGE), np.int16))
    assert difference.max() <= (0 if format == "png" else 60)
    assert np.abs(np.asarray(picture, np.int16) - IMAGE).max() > 60
    assert FORMATS[format] == f"image/{format}"


def mask_of(shape: tuple[int, int], seed: int) -> np.ndarray:
    """A few discs, of which some overlap, and single pixels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    mask = rng.random(shape) > 0.995
    for _ in range(3):
        cy, cx, radius = rng.uniform(0, shape[0]), rng.uniform(0, shape[1]), rng.uniform(2, 9)
        mask |= (y - cy) ** 2 + (x - cx) ** 2 < radius**2
    return mask


@pytest.mark.parametrize("seed", range(4))
def test_polygons_draw_the_same_pixels_again(seed: int) -> None:
    mask = mask_of((30, 40), seed)
    mask[4:9, 4:9] = np.pad(np.zeros((3, 3), bool), 1, constant_values=True)  # a hole

    def paste(*_: object) -> Iterator[Crop]:
        return iter([Crop(0, 0, torch.from_numpy(mask)), Crop(0, 0, torch.zeros(0, 0, dtype=torch.bool))])

    one, nothing = document(replace(found(), paste_method=paste), format="polygons")["annotations"]
    drawn = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(one["segmentation"], 30, 40))).astype(bool)
    assert (drawn == mask).all()
    assert one["area"] == mask.sum()
    assert (nothing["segmentation"], nothing["area"]) == ([], 0)
