"""A data set of two images, written by hand, and the ways in which one can be wrong."""

import hashlib
import json
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from cascadezoo.coco.dataset import CocoDataset, bitmap
from cascadezoo.errors import BadAnnotations, MissingResource

SQUARE = [[1, 1, 3, 1, 3, 4, 1, 4]]  # columns 1 and 2, rows 1 to 3
# 4 rows x 6 columns, down the columns: 5 pixels without, 2 with (column 1, rows 1 and 2), 17 without
RUNS = {"size": [4, 6], "counts": [5, 2, 17]}


def document() -> dict[str, Any]:
    return {
        "images": [
            {"id": 70, "file_name": "b.png", "height": 4, "width": 6},
            {"id": 5, "file_name": "a.png", "height": 8, "width": 6},
        ],
        "categories": [{"id": 40, "name": "cat"}, {"id": 7, "name": "ant"}],
        "annotations": [
            {"id": 1, "image_id": 70, "category_id": 40, "bbox": [1, 1, 2, 3], "segmentation": SQUARE, "iscrowd": 0},
            {"id": 2, "image_id": 70, "category_id": 7, "bbox": [0, 0, 6, 4], "segmentation": RUNS, "iscrowd": 1},
        ],
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    def written(content: dict[str, Any] | str) -> tuple[Path, Path]:
        images = tmp_path / "images"
        images.mkdir(exist_ok=True)
        for name, height in (("a.png", 8), ("b.png", 4)):
            cv2.imwrite(str(images / name), np.zeros((height, 6, 3), np.uint8))
        file = tmp_path / "instances.json"
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        return file, images

    return written


def changed(**annotation: Any) -> dict[str, Any]:
    content = document()
    content["annotations"][0].update(annotation)
    return content


def test_two_images(write) -> None:
    file, images = write(document())
    data = CocoDataset(file, images)
    assert len(data) == 2
    assert data.image_ids == (70, 5)
    assert (data.categories.ids, tuple(data.categories)) == ((7, 40), ("ant", "cat"))
    assert (data.heights.tolist(), data.widths.tolist(), data.objects.tolist()) == ([4, 8], [6, 6], [1, 0])
    assert data.digest == hashlib.sha256(file.read_bytes()).hexdigest()
    first, second = data.record(0), data.record(1)
    assert (first.image_id, first.path, first.height, first.width) == (70, images / "b.png", 4, 6)
    assert first.boxes.tolist() == [[1, 1, 3, 4], [0, 0, 6, 4]]
    assert first.labels.tolist() == [1, 0]
    assert first.crowd.tolist() == [False, True]
    assert second.boxes.shape == (0, 4)
    assert second.segmentations == ()
    with pytest.raises(IndexError):
        data.record(2)


def test_it_travels_to_other_processes(write) -> None:
    data = CocoDataset(*write(document()))
    twin = pickle.loads(pickle.dumps(data))
    assert twin.record(0).boxes.tolist() == data.record(0).boxes.tolist()


def test_every_kind_of_segmentation_becomes_the_same_mask() -> None:
    expected = np.zeros((4, 6), np.uint8)
    expected[1:4, 1:3] = 1
    runs = {"size": [4, 6], "counts": [5, 3, 1, 3, 12]}
    packed = coco_mask.encode(np.asfortranarray(expected))["counts"].decode()
    for segmentation in ([np.array(SQUARE[0]).reshape(-1, 2)], runs, {"size": [4, 6], "counts": packed}):
        mask = bitmap(segmentation, 4, 6)
        assert (mask == expected).all()
        assert mask.dtype == np.uint8


def test_polygons_are_joined() -> None:
    corners = [np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float) + shift for shift in (0, (4, 3))]
    assert np.argwhere(bitmap(corners, 4, 6)).tolist() == [[0, 0], [3, 4]]


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (40, 30)])
def test_every_sound_compressed_mask_is_taken(write, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    content = document()
    content["images"] = [{"id": 70, "file_name": "b.png", "height": size[0], "width": size[1]}]
    content["annotations"] = [
        {"id": i, "image_id": 70, "category_id": 7, "bbox": [0, 0, *size[::-1]], "iscrowd": 0,
         "segmentation": {"size": list(size), "counts": coco_mask.encode(np.asfortranarray(mask))["counts"].decode()}}
        for i, mask in enumerate((rng.random((30, *size)) < np.linspace(0, 1, 30)[:, None, None]).astype(np.uint8))
    ]  # fmt: skip
    assert len(CocoDataset(*write(content)).record(0).boxes) == 30


def test_boxes_are_clipped_and_what_teaches_nothing_is_counted(write, caplog: pytest.LogCaptureFixture) -> None:
    content = document()
    template = content["annotations"][0]
    for number, (box, segmentation) in enumerate(
        [([-2, 1, 4.5, 9], SQUARE), ([7, 1, 2, 2], SQUARE), ([1, 1, 0, 3], SQUARE), ([1, 1, 2, 2], [[1, 1, 2, 2]])]
    ):
        content["annotations"].append({**template, "id": 10 + number, "bbox": box, "segmentation": segmentation})
    with caplog.at_level(logging.WARNING):
        data = CocoDataset(*write(content))
    assert data.record(0).boxes[2:].tolist() == [[0, 1, 2.5, 4]]
    assert sorted(data.skipped.values()) == [1, 1, 1]
    assert "1 outside their image" in caplog.text
    assert "instances.json" in caplog.text


def test_nothing_is_logged_when_nothing_is_skipped(write, caplog: pytest.LogCaptureFixture) -> None:
    CocoDataset(*write(document()))
    assert not caplog.text


@pytest.mark.parametrize("segmentation", [None, []])
def test_boxes_need_no_masks_unless_the_network_does(write, segmentation) -> None:
    data = CocoDataset(*write(changed(segmentation=segmentation)))
    assert data.record(0).segmentations[0] is None
    with pytest.raises(BadAnnotations, match=r"instances.json: an object of image 70 has no segmentation"):
        data.require_masks()


def test_a_crowd_needs_no_mask(write) -> None:
    content = document()
    content["annotations"][1]["segmentation"] = None
    CocoDataset(*write(content)).require_masks()


def without(key: str, where: str = "") -> dict[str, Any]:
    content = document()
    del (content[where][0] if where else content)[key]
    return content


WRONG = {
    "no JSON": '{"images": [',
    "holds a list": "[]",
    "no list of images": without("images"),
    "no list of annotations": without("annotations"),
    "no list of categories": without("categories"),
    "lists no images": {**document(), "images": []},
    "lists no categories": {**document(), "categories": []},
    "unique id and name": {**document(), "categories": [{"id": 7, "name": "ant"}] * 2},
    "image id 70 comes twice": {**document(), "images": document()["images"][:1] * 2},
    "an image needs id": without("file_name", "images"),
    "image 70 has the size": {
        **document(),
        "images": [{"id": 70, "file_name": "b.png", "height": 0, "width": 6}],
    },
    "id is a whole number": {**document(), "images": [{"id": "x", "file_name": "b.png", "height": 4, "width": 6}]},
    "an annotation needs": without("bbox", "annotations"),
    "annotation 1 of image 71: the file has no image": changed(image_id=71),
    "annotation 1 of image 70: the file has no category of id 8": changed(category_id=8),
    "annotation 1 of image 70: a bbox is four numbers": changed(bbox=[1, 2, 3]),
    "a bbox is four numbers": changed(bbox=[1, 2, float("nan"), 3]),
    "image 70: a bbox is four numbers": changed(bbox=[1, 2, 10**400, 3]),
    "annotation 1 of image 70: a polygon": changed(segmentation=[[1, 1, 2]]),
    "pairs of finite numbers": changed(segmentation=[[1, 1, 2, "3", 4, 4]]),
    "annotation 1 of image 70: a segmentation": changed(segmentation="mask"),
    r"its RLE is of size \[6, 4\]": changed(segmentation={"size": [6, 4], "counts": [24]}),
    "do not add up": changed(segmentation={"size": [4, 6], "counts": [20]}),
    "compressed RLE is damaged": changed(segmentation={"size": [4, 6], "counts": "52"}),
    "RLE is damaged": changed(segmentation={"size": [4, 6], "counts": "5é"}),
    "is damaged": changed(segmentation={"size": [4, 6], "counts": "ooooooooooooo"}),
    "runs do not fill": changed(segmentation={"size": [4, 6]}),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_wrong_is_said(write, message: str) -> None:
    with pytest.raises(BadAnnotations, match=rf"instances\.json.*{message}"):
        CocoDataset(*write(WRONG[message]))


def test_missing_files(write, tmp_path: Path) -> None:
    file, images = write(document())
    with pytest.raises(MissingResource, match=r"no such annotation file: .*none\.json"):
        CocoDataset(tmp_path / "none.json", images)
    with pytest.raises(MissingResource, match="cannot be read"):
        CocoDataset(tmp_path, images)
    with pytest.raises(MissingResource, match="no folder of images"):
        CocoDataset(file, tmp_path / "none")
    (images / "a.png").unlink()
    with pytest.raises(MissingResource, match=r"1 of the 2 images .* such as a\.png"):
        CocoDataset(file, images)
