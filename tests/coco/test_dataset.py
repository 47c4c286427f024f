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
from PIL import Image
from pycocotools import mask as coco_mask

from cascadezoo.coco.dataset import CocoDataset
from cascadezoo.coco.segmentations import bitmap
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
            {"id": 1, "image_id": 70, "category_id": 40, "bbox": [1, 1, 2, 3], "area": 6, "segmentation": SQUARE,
             "iscrowd": 0},
            {"id": 2, "image_id": 70, "category_id": 7, "bbox": [0, 0, 6, 4], "area": 2, "segmentation": RUNS,
             "iscrowd": 1},
        ],
    }  # fmt: skip


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


def test_T5_a_fine_outline_is_taken(write) -> None:
    """20,000 points round the image, 0.0005 pixels apart: 20 pixels long, however many points there are."""
    turns = np.linspace(0, 2 * np.pi, 20_000, endpoint=False)
    outline = np.stack([3 + 1.9 * np.cos(turns), 2 + 1.9 * np.sin(turns)], axis=1)
    far = np.tile([[0.0, 0.0], [6.0, 4.0]], (200_000, 1))  # 400,000 edges of 6 pixels
    data = CocoDataset(*write(changed(segmentation=[outline.ravel().tolist()] * 40)))
    assert len(data.record(0).boxes) == 2
    with pytest.raises(BadAnnotations, match=r"annotation 1: segmentation: its outlines are 2.4e\+06 pixels long"):
        CocoDataset(*write(changed(segmentation=[far.ravel().tolist()])))


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
    file, images = write(content)
    cv2.imwrite(str(images / "b.png"), np.zeros((*size, 3), np.uint8))
    assert len(CocoDataset(file, images).record(0).boxes) == 30


def test_boxes_are_clipped_and_what_teaches_nothing_is_left_out(write, caplog: pytest.LogCaptureFixture) -> None:
    content = document()
    template = content["annotations"][0]
    for number, box in enumerate([[-2, 1, 4.5, 9], [7, 1, 2, 2], [1, 1, 0, 3]]):
        content["annotations"].append({**template, "id": 10 + number, "bbox": box})
    with caplog.at_level(logging.WARNING):
        data = CocoDataset(*write(content))
    assert data.record(0).boxes[2:].tolist() == [[0, 1, 2.5, 4]]
    assert data.objects.tolist() == [2, 0]
    assert data.class_counts.tolist() == [0, 2]
    assert data.met == {"bbox-beyond": 1, "bbox-outside": 1, "bbox-small": 1}
    assert (
        "instances.json: annotation 10: bbox: it reaches beyond the image of 6 x 4 pixels (clipped for training); "
        "annotation 11: bbox: it lies outside the image of 6 x 4 pixels (no training object); "
        "annotation 12: bbox: it is 0 x 3 pixels (width x height) (no training object)"
    ) in caplog.text


@pytest.mark.parametrize("outline", [[[]], [[1, 1, 2, 2]], [[], [1, 1, 3, 3]]])
def test_T3_an_outline_of_less_than_three_points_leaves_the_box(write, outline) -> None:
    data = CocoDataset(*write(changed(segmentation=outline)))
    assert data.record(0).boxes.tolist() == [[1, 1, 3, 4], [0, 0, 6, 4]]
    assert data.record(0).crowd.tolist() == [False, True]
    assert data.record(0).segmentations[0] is None
    assert data.objects.tolist() == [1, 0]
    for _ in range(2):
        data.require_masks()  # a network with masks takes it as mmdetection does: neither object nor background
        assert data.record(0).crowd.tolist() == [True, True]
        assert data.objects.tolist() == [0, 0]


@pytest.mark.parametrize("value", ["0", "1", True, 2, 0.0, [0]])
@pytest.mark.parametrize("field", ["iscrowd", "ignore"])
def test_T3_types_are_strict(write, field: str, value) -> None:
    with pytest.raises(BadAnnotations, match=rf"instances\.json: annotation 1: {field}: 0 or 1 is wanted"):
        CocoDataset(*write(changed(**{field: value})))


def test_T3_what_is_to_be_ignored_is_no_object(write) -> None:
    data = CocoDataset(*write(changed(ignore=1)))
    assert data.record(0).boxes.tolist() == [[0, 0, 6, 4]]
    assert data.objects.tolist() == [0, 0]
    assert CocoDataset(*write(changed(ignore=0))).objects.tolist() == [1, 0]


@pytest.mark.parametrize("lacking", ["id", "area", "iscrowd"])
@pytest.mark.parametrize("as_null", [False, True])
def test_T4_what_is_missing_is_filled_in(write, lacking: str, as_null: bool) -> None:
    content = changed(**{lacking: None}) if as_null else document()
    if not as_null:
        del content["annotations"][0][lacking]
    data = CocoDataset(*write(content))
    assert data.record(0).boxes.tolist() == [[1, 1, 3, 4], [0, 0, 6, 4]]
    assert data.record(0).crowd.tolist() == [False, True]
    assert data.met == {f"{lacking}-missing": 1}


@pytest.mark.parametrize("segmentation", [None, [], [[]], [[1, 1, 2, 2]]])
@pytest.mark.parametrize("place", [0, 1])
def test_T4_masks_to_evaluate_on_are_asked_for_before_any_work(write, segmentation, place: int) -> None:
    content = document()
    CocoDataset(*write(content)).require_mask_truth()
    content["annotations"][place]["segmentation"] = segmentation
    with pytest.raises(BadAnnotations, match=rf"instances\.json: annotation {place + 1} has no segmentation"):
        CocoDataset(*write(content)).require_mask_truth()


@pytest.mark.parametrize("numbers", [(7, 7), (0, 1), (-5, -4)])
def test_T1_ids_of_annotations_are_internal(write, numbers: tuple[int, int]) -> None:
    content = document()
    for item, number in zip(content["annotations"], numbers, strict=True):
        item["id"] = number
    data = CocoDataset(*write(content))
    assert data.record(0).boxes.tolist() == [[1, 1, 3, 4], [0, 0, 6, 4]]


@pytest.mark.parametrize(
    ("stored", "orientation", "said"),
    [
        ((8, 4), 1, "6 x 4 is annotated, but .*b.png is 8 x 4"),
        ((4, 6), 1, "width and height are exchanged"),
        ((6, 4), 6, "EXIF orientation 6"),
        ((6, 4), 8, "EXIF orientation 8"),
    ],
)
def test_T2_sizes_are_those_of_the_files_as_they_are_shown(write, stored, orientation: int, said: str) -> None:
    file, images = write(document())
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", stored).save(images / "b.png", exif=exif)
    with pytest.raises(BadAnnotations, match=rf"instances\.json: image 70: .*{said}"):
        CocoDataset(file, images)


@pytest.mark.parametrize(("stored", "orientation"), [((6, 4), 3), ((4, 6), 6)])
def test_T2_a_turned_image_that_is_annotated_as_it_is_shown_is_taken(write, stored, orientation: int) -> None:
    file, images = write(document())
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", stored).save(images / "b.png", exif=exif)
    assert len(CocoDataset(file, images)) == 2


def test_T9_an_unannotated_root_is_no_class(write, caplog: pytest.LogCaptureFixture) -> None:
    content = document()
    for category in content["categories"]:
        category["supercategory"] = "cat"
    content["categories"].append({"id": 0, "name": "cat", "supercategory": "none"})
    with caplog.at_level(logging.WARNING):
        data = CocoDataset(*write(content))
    assert tuple(data.categories) == ("ant", "cat")
    assert data.class_counts.tolist() == [0, 1]
    said = 'category 0: supercategory: "cat" is above all others and has no objects (left out)'
    assert said in caplog.text


def test_of_many_faults_the_first_and_their_number_are_logged(write, caplog: pytest.LogCaptureFixture) -> None:
    content = document()
    for item in content["annotations"]:
        del item["area"]
    with caplog.at_level(logging.WARNING):
        CocoDataset(*write(content))
    assert "annotation 1: area: it is missing" in caplog.text
    assert "is taken) and 1 more of this kind" in caplog.text
    assert "annotation 2" not in caplog.text


def test_nothing_is_logged_when_nothing_is_wrong(write, caplog: pytest.LogCaptureFixture) -> None:
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


def test_what_is_wrong_is_said(write) -> None:
    """Every kind of fault is seeded in test_checking.py."""
    for content, message in (
        ('{"images": [', "is no JSON"),
        ("[]", "holds a list"),
        ({**document(), "categories": []}, "categories: the file lists no categories"),
        (changed(image_id=71), "annotation 1: image_id: the file has no image 71"),
        (changed(category_id=8), "annotation 1: category_id: the file has no category 8"),
        (changed(segmentation={"size": [6, 4], "counts": [24]}), r"its RLE is of size \[6, 4\]"),
    ):
        with pytest.raises(BadAnnotations, match=rf"instances\.json.*{message}"):
            CocoDataset(*write(content))


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
