"""A data set is checked before anything runs on it: what is missing or damaged is named, and how to get it."""

import json
from pathlib import Path

import pytest
from filelock import FileLock, Timeout
from small_coco import write_coco

from cascadezoo import shapes
from cascadezoo.benchmarks.verify.coco_layout import coco_val2017, found_in, require_limit, shapes_val
from cascadezoo.errors import BadAnnotations, FileError, MissingResource, UsageError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_coco(tmp_path / "coco")


def test_a_whole_data_set_passes(root: Path) -> None:
    dataset = coco_val2017(root)
    dataset.check()
    assert [image.image_id for image in dataset.chosen(3)] == [1, 2, 3]
    assert dataset.images[1].path == root / "val2017" / "000000000002.jpg"
    assert (dataset.images[1].height, dataset.images[1].width) == (80, 60)


@pytest.mark.parametrize("layout", ["images/val2017", "val2017/val2017", "images/val2017/val2017"])
def test_V6_images_may_lie_as_other_programs_want_them(root: Path, layout: str) -> None:
    (root / "val2017").rename(root / "aside")
    (root / layout).parent.mkdir(parents=True, exist_ok=True)
    (root / "aside").rename(root / layout)
    (root / "val2017").mkdir(exist_ok=True)  # there, and without images
    dataset = coco_val2017(root)
    dataset.check()
    assert dataset.images[1].path == root / layout / "000000000002.jpg"


def test_V6_annotations_may_lie_where_their_archive_was_unpacked(root: Path) -> None:
    (root / "annotations_trainval2017").mkdir()
    (root / "annotations").rename(root / "annotations_trainval2017" / "annotations")
    coco_val2017(root).check()


def test_images_come_in_the_order_of_their_ids(root: Path) -> None:
    path = root / "annotations" / "instances_val2017.json"
    document = json.loads(path.read_text())
    document["images"].reverse()
    path.write_text(json.dumps(document))
    assert [image.image_id for image in coco_val2017(root).images] == list(range(1, 9))


def test_what_is_missing_is_named_with_its_source(root: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingResource, match=r"nowhere/annotations/instances_val2017\.json.*annotations_trainval2017"):
        coco_val2017(tmp_path / "nowhere").check()
    (root / "val2017" / "000000000004.jpg").unlink()
    with pytest.raises(MissingResource, match=r"1 of 8 images are missing \(.*000000000004\.jpg\).*val2017\.zip"):
        coco_val2017(root).check()
    coco_val2017(root).check(limit=3)
    (root / "val2017").rename(root / "elsewhere")
    with pytest.raises(MissingResource, match=r"no .*val2017"):
        coco_val2017(root).check()


@pytest.mark.parametrize("keep", [0, 1, 200])
def test_an_image_cut_short_is_named(root: Path, keep: int) -> None:
    path = root / "val2017" / "000000000005.jpg"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(FileError, match=r"1 of 8 images are damaged.*000000000005\.jpg"):
        coco_val2017(root).check()


def test_damaged_annotations_are_named(root: Path) -> None:
    path = root / "annotations" / "instances_val2017.json"
    for text, message in (
        (path.read_text()[:-40], "no JSON"),
        ('{"images": [], "annotations": [], "categories": []}', "lists no images"),
        ('{"images": [{"id": 1}], "annotations": [], "categories": []}', "image 1: file_name: it is missing"),
    ):
        path.write_text(text)
        with pytest.raises(FileError, match=message):
            coco_val2017(root).check()


def _annotations(root: Path, number: int, **fields: object) -> None:
    path = root / "annotations" / "instances_val2017.json"
    document = json.loads(path.read_text())
    document["annotations"][number].update(fields)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize("outline", [None, [], [[]], [[1, 1, 5, 5]]])
def test_T4_masks_to_verify_on_are_asked_for_first(root: Path, outline: object) -> None:
    coco_val2017(root).check(masks=True)
    _annotations(root, 1, segmentation=outline)
    coco_val2017(root).check()
    with pytest.raises(BadAnnotations, match=r"instances_val2017\.json: annotation 2 has no segmentation"):
        coco_val2017(root).check(masks=True)


@pytest.mark.parametrize("fields", [{"iscrowd": "0"}, {"bbox": [1, 2, 3]}, {"segmentation": [[1, 1, 9e8, 1, 5, 5]]}])
def test_T5_annotations_are_checked_before_any_work(root: Path, fields: dict) -> None:
    _annotations(root, 1, **fields)
    with pytest.raises(BadAnnotations, match=rf"instances_val2017\.json: annotation 2: {next(iter(fields))}: "):
        coco_val2017(root).check()


def test_T2_sizes_are_those_of_the_files(root: Path) -> None:
    path = root / "annotations" / "instances_val2017.json"
    document = json.loads(path.read_text())
    assert (document["images"][2]["height"], document["images"][2]["width"]) == (60, 80)
    document["images"][2].update(height=80, width=60)
    document["annotations"] = []
    path.write_text(json.dumps(document))
    coco_val2017(root).check(limit=2)
    with pytest.raises(BadAnnotations, match=r"instances_val2017\.json: image 3: .*width and height are exchanged"):
        coco_val2017(root).check()


def test_the_drawn_data_set_is_made_once(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path))
    dataset = shapes_val(3)
    dataset.check()
    assert len(dataset.images) == 3
    first = dataset.annotations.stat().st_mtime_ns
    assert shapes_val(3).annotations.stat().st_mtime_ns == first


def test_one_process_draws_while_the_others_wait(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path))
    generate = shapes.generate

    def drawing(*arguments):
        (lock,) = (tmp_path / "locks").iterdir()
        with pytest.raises(Timeout):
            FileLock(lock).acquire(blocking=False)
        return generate(*arguments)

    monkeypatch.setattr(shapes, "generate", drawing)
    shapes_val(2)
    monkeypatch.setattr(shapes, "generate", lambda *_: pytest.fail("drawn twice"))
    shapes_val(2)


def test_a_damaged_drawing_is_named_with_its_cure(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path))
    dataset = shapes_val(3)
    path = dataset.images[1].path
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(FileError, match=rf"{path.name}\).*delete {path.parents[1]}, and they are drawn again"):
        shapes_val(3)


def test_a_limit_leaves_an_image() -> None:
    require_limit(None)
    with pytest.raises(UsageError, match="limit of 0"):
        require_limit(0)


def test_nuimages_lies_as_mmdetection3d_writes_it(root: Path) -> None:
    with pytest.raises(MissingResource, match=r"nuImages val: no .*nuimages_v1\.0-val\.json: .*nuimage_converter\.py"):
        found_in(root, "nuimages").check()
    document = json.loads((root / "annotations" / "instances_val2017.json").read_text())
    (root / "val2017").rename(root / "samples")
    for number, image in enumerate(document["images"]):
        image.update(id=number, file_name=f"samples/{image['file_name']}")
    for number, annotation in enumerate(document["annotations"]):
        annotation.update(id=number, image_id=annotation["image_id"] - 1, category_id=annotation["category_id"] - 1)
    for category in document["categories"]:
        category["id"] -= 1
    (root / "annotations" / "nuimages_v1.0-val.json").write_text(json.dumps(document))
    dataset = found_in(root, "nuimages")
    dataset.check(masks=True)
    assert (dataset.name, len(dataset.images)) == ("nuImages val", 8)
    assert dataset.images[0].path == root / "samples" / "000000000001.jpg"
