"""What labelling programs are given is read again: a ring, two parts and a disc, as they were."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from cascadezoo.coco.polygons import polygons_of
from cascadezoo.coco.segmentations import as_arrays, bitmap
from cascadezoo.formats.conversion import to_coco
from cascadezoo.formats.outlines import one_outline
from cascadezoo.outputs.found import Window
from cascadezoo.outputs.kinds import KINDS
from cascadezoo.outputs.label_studio import packed
from cascadezoo.outputs.outlines import outlines_of, rings_of
from cascadezoo.outputs.outputs import Outputs

from painted import CATEGORIES, HEIGHT, WIDTH, masks_of, overlap, painted, pixels_of, shown


def save(folder, kind, path=None, with_masks=True):
    with Outputs((kind,), folder, CATEGORIES, has_masks=with_masks, description="model 1") as outputs:
        written = outputs.add(shown(path=path), painted(with_masks))
        return [*written, *outputs.finish()], outputs.notes


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photos" / "a.png"
    path.parent.mkdir()
    Image.fromarray(pixels_of(1)).save(path)
    return path


def read_again(source, tmp_path, images):
    """COCO's annotations of a folder as `data convert` reads it, and their masks."""
    to_coco(source, tmp_path / "back.json", images=images, split="train" if (source / "data.yaml").exists() else None)
    document = json.loads((tmp_path / "back.json").read_text())
    names = {category["id"]: category["name"] for category in document["categories"]}
    found = document["annotations"]
    given = [as_arrays(each.get("segmentation")) for each in found]
    masks = [None if each is None else bitmap(each, HEIGHT, WIDTH) > 0 for each in given]
    return [names[each["category_id"]] for each in found], [each["bbox"] for each in found], masks


def test_yolo(tmp_path, photo):
    written, notes = save(tmp_path / "out", "yolo", photo)
    assert written == [tmp_path / "out" / "yolo" / "labels" / "a.txt", tmp_path / "out" / "yolo" / "data.yaml"]
    assert yaml.safe_load(written[1].read_text())["names"] == dict(enumerate(CATEGORIES))
    names, _, masks = read_again(tmp_path / "out" / "yolo", tmp_path, photo.parent)
    assert names == ["cat", "traffic light", "été <&>"]
    assert min(overlap(one, other) for one, other in zip(masks, masks_of()[:3], strict=True)) >= 0.99
    assert not masks[0][60, 50]  # in the middle of the ring
    assert notes == [
        f"{photo}: detection 4: a detection without a pixel was left out for YOLO",
        f"{photo}: detection 1: a mask of several parts or with holes became one outline, joined by lines "
        "(the first of 2)",
    ]


def test_yolo_without_masks_has_boxes(tmp_path, photo):
    save(tmp_path / "out", "yolo", photo, with_masks=False)
    lines = (tmp_path / "out" / "yolo" / "labels" / "a.txt").read_text().splitlines()
    assert [len(line.split()) for line in lines] == [5] * 4
    _, boxes, _ = read_again(tmp_path / "out" / "yolo", tmp_path, photo.parent)
    x1, y1, x2, y2 = painted().boxes[0].tolist()
    assert boxes[0] == pytest.approx([x1, y1, x2 - x1, y2 - y1], abs=1e-4)


def test_labelme(tmp_path, photo):
    written, _ = save(tmp_path / "out", "labelme", photo)
    assert [path.name for path in written] == ["a.json", "labels.txt"]
    document = json.loads(written[0].read_text())
    assert (written[0].parent / document["imagePath"]).samefile(photo)
    kinds = [(shape["shape_type"], shape["group_id"], shape["description"]) for shape in document["shapes"]]
    assert kinds == [
        ("mask", None, "score 0.900"), ("polygon", 1, "score 0.800"), ("polygon", 1, "score 0.800"),
        ("polygon", None, "score 0.700"),
    ]  # fmt: skip
    names, _, masks = read_again(tmp_path / "out" / "labelme", tmp_path, photo.parent)
    assert names == ["cat", "traffic light", "été <&>"]
    assert (masks[0] == masks_of()[0]).all()
    assert min(overlap(one, other) for one, other in zip(masks, masks_of()[:3], strict=True)) >= 0.99


def test_labelme_without_masks_has_rectangles(tmp_path, photo):
    save(tmp_path / "out", "labelme", photo, with_masks=False)
    _, boxes, masks = read_again(tmp_path / "out" / "labelme", tmp_path, photo.parent)
    assert masks == [None] * 4
    assert boxes[3] == [10, 10, 3, 3]


@pytest.mark.parametrize("kind", ["labelme", "labelstudio"])
def test_an_image_that_is_no_file_of_its_own_is_written_beside(tmp_path, kind):
    written, _ = save(tmp_path, kind)
    beside = next(path for path in written if path.suffix == ".png")
    with Image.open(beside) as picture:
        assert (np.array(picture) == pixels_of(1)).all()
    text = (tmp_path / kind / ("a.json" if kind == "labelme" else "tasks.json")).read_text()
    assert beside.name in text


def unpacked(data):
    """What Label Studio makes of a packed mask, by the description of rle-pack: (values,) uint8."""
    bits = "".join(f"{byte:08b}" for byte in data)
    at = 0

    def take(size):
        nonlocal at
        at += size
        return int(bits[at - size : at], 2)

    total, value_bits, sizes = take(32), take(5) + 1, [take(4) + 1 for _ in range(4)]
    values = []
    while len(values) < total:
        is_run, length = take(1), take(sizes[take(2)]) + 1
        values += [take(value_bits)] * length if is_run else [take(value_bits) for _ in range(length)]
    return np.array(values, np.uint8)


def test_label_studio(tmp_path, photo):
    written, _ = save(tmp_path / "out", "labelstudio", photo)
    (task,) = json.loads(written[0].read_text())
    assert task["data"] == {"image": f"/data/local-files/?d={photo}"}
    (prediction,) = task["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("model 1", pytest.approx(0.9))
    regions = prediction["result"]
    assert [region["value"]["brushlabels"] for region in regions] == [["cat"], ["traffic light"], ["été <&>"]]
    assert len({region["id"] for region in regions}) == 3
    for region, mask in zip(regions, masks_of()[:3], strict=True):
        assert (region["original_height"], region["original_width"]) == (HEIGHT, WIDTH)
        image = unpacked(region["value"]["rle"]).reshape(HEIGHT, WIDTH, 4)
        assert (image == (mask * np.uint8(255))[..., None]).all()
    config = ET.fromstring((tmp_path / "out" / "labelstudio" / "config.xml").read_text())
    control = config.find("BrushLabels")
    assert [label.get("value") for label in control] == list(CATEGORIES)
    assert {(region["from_name"], region["to_name"]) for region in regions} == {(control.get("name"), "image")}
    assert config.find("Image").get("name") == control.get("toName")


def test_label_studio_without_masks_has_rectangles(tmp_path, photo):
    written, _ = save(tmp_path / "out", "labelstudio", photo, with_masks=False)
    (task,) = json.loads(written[0].read_text())
    value = task["predictions"][0]["result"][3]["value"]
    assert value == {
        "x": 100 * 10 / WIDTH, "y": 100 * 10 / HEIGHT, "width": 100 * 3 / WIDTH, "height": 100 * 3 / HEIGHT,
        "rotation": 0, "rectanglelabels": ["cat"],
    }  # fmt: skip
    assert "RectangleLabels" in (tmp_path / "out" / "labelstudio" / "config.xml").read_text()


def test_label_studio_takes_an_address_as_it_is(tmp_path):
    with Outputs(("labelstudio",), tmp_path, CATEGORIES) as outputs:
        assert outputs.add(shown()._replace(name="https://example.org/a.jpg?x=1"), painted()) == []
        outputs.finish()
    (task,) = json.loads((tmp_path / "labelstudio" / "tasks.json").read_text())
    assert task["data"]["image"] == "https://example.org/a.jpg?x=1"


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (3, 1), (130, 130), (7, 5)])
@pytest.mark.parametrize("fill", ["all", "first", "last", "noise"])
def test_any_mask_is_packed_to_the_pixel(size, fill):
    mask = np.random.default_rng(0).random(size) < 0.5 if fill == "noise" else np.full(size, fill == "all")
    mask.flat[{"first": 0, "last": -1}.get(fill, 0)] = True
    height, width = size
    image = unpacked(packed(Window(0, 0, mask), height, width)).reshape(height, width, 4)
    assert (image == (mask * np.uint8(255))[..., None]).all()
    assert (unpacked(packed(Window(2, 1, mask), height + 4, width + 3)).reshape(height + 4, width + 3, 4)
            [2 : height + 2, 1 : width + 1, 3] > 0).tolist() == mask.tolist()  # fmt: skip


def window_of(mask):
    return Window(0, 0, mask)


def test_outlines_have_few_points_and_lose_next_to_nothing():
    for mask in masks_of()[:3]:
        outlines = outlines_of(window_of(mask))
        assert len(outlines) == len(polygons_of(mask, 0, 0))
        assert sum(map(len, rings_of(outlines))) < sum(map(len, rings_of(polygons_of(mask, 0, 0)))) / 2.9
        assert overlap(bitmap([one_outline(rings_of(outlines))], HEIGHT, WIDTH) > 0, mask) >= 0.99


@pytest.mark.parametrize("seed", range(5))
def test_outlines_of_ragged_masks_stay_exact(seed):
    """Few pixels at random: hardly a point can be left out."""
    mask = np.random.default_rng(seed).random((9, 11)) < 0.5
    joined = one_outline(rings_of(outlines_of(window_of(mask))))
    assert overlap(bitmap([joined], 9, 11) > 0, mask) == 1


def test_an_outline_of_parts_far_apart_covers_the_parts_alone():
    mask = np.zeros((400, 600), bool)
    mask[5:12, 3:10] = mask[380:390, 570:590] = mask[200:230, 300:340] = True
    mask[210:220, 310:330] = False
    joined = one_outline(rings_of(polygons_of(mask, 0, 0)))
    assert (bitmap([joined], 400, 600) > 0).tolist() == mask.tolist()


def test_every_kind_is_described():
    described = re.findall(r"^## `([a-z]+)`", (Path(__file__).parents[2] / "docs" / "outputs.md").read_text(), re.M)
    assert sorted(described) == sorted(KINDS)
