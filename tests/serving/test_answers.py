"""Detections as clients get them."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from cascadezoo.detections import Detections
from cascadezoo.ops.mask_paste import Crop
from cascadezoo.serving.answers import FORMATS, Asked, acceptable, answer, polygons


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


def filled(mask: np.ndarray) -> np.ndarray:
    """Without holes: the empty pixels that no path of four neighbours leads out of are set."""
    outside = np.zeros(np.add(mask.shape, 2), bool)
    outside[0, 0] = True
    free = np.pad(~mask, 1, constant_values=True)
    while True:
        grown = outside.copy()
        grown[1:] |= outside[:-1]
        grown[:-1] |= outside[1:]
        grown[:, 1:] |= outside[:, :-1]
        grown[:, :-1] |= outside[:, 1:]
        grown &= free
        if (grown == outside).all():
            return ~outside[1:-1, 1:-1]
        outside = grown


@pytest.mark.parametrize("seed", range(8))
def test_polygons_draw_the_same_pixels_again(seed: int) -> None:
    mask = mask_of((40, 50), seed)
    outlines = polygons(Crop(3, 5, torch.from_numpy(mask)))
    assert all(len(outline) >= 6 for outline in outlines)
    whole = np.zeros((60, 70), bool)
    whole[3:43, 5:55] = filled(mask)
    drawn = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(outlines, 60, 70))).astype(bool)
    assert (drawn & whole).sum() / (drawn | whole).sum() >= 0.99


def test_a_ring_is_filled_and_an_empty_mask_has_no_outline() -> None:
    ring = np.ones((9, 9), bool)
    ring[3:6, 3:6] = False
    (outline,) = polygons(Crop(0, 0, torch.from_numpy(ring)))
    assert outline == [0.25, 0.25, 0.25, 8.75, 8.75, 8.75, 8.75, 0.25]
    assert polygons(Crop(0, 0, torch.zeros(0, 4, dtype=torch.bool))) == []
    assert polygons(Crop(0, 0, torch.zeros(4, 4, dtype=torch.bool))) == []
