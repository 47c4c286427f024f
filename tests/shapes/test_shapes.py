"""The drawn data set: geometry against formulas, images against recorded digests, files against COCO's tools."""

import hashlib
import json
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from cascadezoo.cli import main
from cascadezoo.errors import OutputExists, UnwritableOutput, UsageError
from cascadezoo.shapes import dataset as shapes
from cascadezoo.shapes import drawing as draw

# sha256 of pixels and annotations, as first drawn (version 1): a change of either needs a new version
GOLDEN = {
    ("train", 0): "9c6a0cbd75a8d504b430317ed269cfd59960b76e6865bb15add29f36e97e9d98",
    ("train", 2): "d405b1041443f07963775ec45cedb16b9172fef2ffb980b53a53d21fbd287f0e",
    ("train", 3999): "95bc54487691e5306aa0f9acc33372c962f0d2364011f1c2414dec8dfca9c5a2",
    ("val", 0): "4c277cbd748cd63d81adc5482b468a15953be0e87f514909da2f65dad25a2cd8",
    ("val", 499): "a6dc16a1b8e815edfb799af4568fd33acc1ab7c9fc3434eb2b99857348fe64a5",
}


def digest(scene: shapes.Scene) -> str:
    text = json.dumps(scene.annotations, sort_keys=True).encode()
    return hashlib.sha256(repr(scene.image.shape).encode() + scene.image.tobytes() + text).hexdigest()


def decoded(segmentation: dict) -> np.ndarray:
    if isinstance(segmentation["counts"], list):
        segmentation = coco_mask.frPyObjects(segmentation, *segmentation["size"])
    return coco_mask.decode(segmentation).astype(bool)


@pytest.fixture(scope="module")
def scenes() -> list[shapes.Scene]:
    return [shapes.scene("train", index) for index in range(150)]


@pytest.mark.parametrize(("split", "index"), GOLDEN)
def test_images_are_those_first_drawn(split: str, index: int) -> None:
    assert digest(shapes.scene(split, index)) == GOLDEN[split, index]


def test_a_planted_image_has_an_object_of_each_size_the_larger_below() -> None:
    image, annotations = shapes.planted(300, 420, [30, 200, 60, 30], 7)
    assert image.shape == (300, 420, 3)
    longer = [max(each["bbox"][2:]) for each in annotations]
    assert len(longer) == 4
    assert longer == sorted(longer, reverse=True)
    assert 100 < longer[0] <= 204
    assert longer[1] <= 64
    assert max(longer[2:]) <= 34
    masks = [decoded(each["segmentation"]) for each in annotations]
    assert [mask.sum() for mask in masks] == [each["area"] for each in annotations]
    assert sum(masks).max() == 1
    assert digest(shapes.planted(300, 420, [200, 60, 30, 30], 7)) == digest(
        shapes.planted(300, 420, [30, 200, 60, 30], 7)
    )
    assert digest(shapes.planted(300, 420, [30], 0)) != digest(shapes.planted(300, 420, [30], 1))


def test_the_splits_and_indices_differ() -> None:
    drawn = [shapes.scene(split, index) for split in shapes.SIZES for index in range(20)]
    assert len({scene.image.tobytes() for scene in drawn}) == 40


def test_masks_are_what_is_visible(scenes: list[shapes.Scene]) -> None:
    for image, annotations in scenes:
        height, width = image.shape[:2]
        assert image.dtype == np.uint8
        assert {height, width} == {192, 256}
        claimed = np.zeros((height, width), int)
        for annotation in annotations:
            mask = decoded(annotation["segmentation"])
            claimed += mask
            rows, columns = np.nonzero(mask)
            x, y, w, h = annotation["bbox"]
            assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x, y, x + w, y + h)
            assert annotation["area"] == mask.sum() >= 16
            assert isinstance(annotation["segmentation"]["counts"], list) == bool(annotation["iscrowd"])
        assert claimed.max(initial=0) <= 1  # no pixel belongs to two


def test_there_is_something_of_everything(scenes: list[shapes.Scene]) -> None:
    singles = [a for scene in scenes for a in scene.annotations if not a["iscrowd"]]
    assert min(Counter(a["category_id"] for a in singles).values()) > 50
    assert set(shapes.CATEGORIES.ids) == {a["category_id"] for a in singles}
    sides = np.array([max(a["bbox"][2:]) for a in singles])
    assert 0.01 < (sides <= 16).mean() < 0.1  # tiny
    assert ((sides >= 24) & (sides <= 111)).mean() > 0.8
    counts = [len(scene.annotations) for scene in scenes]
    assert 0 < counts.count(0) < 10
    assert max(counts) <= 9  # eight objects and a crowd
    crowds = sum(a["iscrowd"] for scene in scenes for a in scene.annotations)
    assert 3 < crowds < 20
    assert 30 < sum(scene.image.shape[0] > scene.image.shape[1] for scene in scenes) < 75  # a third upright


def lens(distance: float, one: float, other: float) -> float:
    """The area that two discs share."""
    near = (distance**2 + one**2 - other**2) / (2 * distance)
    far = distance - near
    half = one**2 * math.acos(near / one) - near * math.sqrt(one**2 - near**2)
    return half + other**2 * math.acos(far / other) - far * math.sqrt(other**2 - far**2)


# areas with the largest radius 1; each shape's proportion is 0
AREAS = {
    "ellipse": math.pi,
    "rectangle": (2 * 724 / 1024) ** 2,
    "triangle": 3 * math.sqrt(3) / 4,
    # ten triangles from the centre: of a tip, at r / cos 72°, and a notch, at r / cos 36°, 36° apart
    "star": 10 / 2 * (316 / 1024) ** 2 * math.tan(math.pi / 5) / math.cos(2 * math.pi / 5),
    "ring": math.pi * (1 - (480 / 1024) ** 2),
    "cross": (4 * 2 * 230 * 960 - (2 * 230) ** 2) / 1024**2,
    "heart": (806 / 1024) ** 2 * (2 + math.pi / 2),
    "crescent": math.pi - lens(500 / 1024, 1, 830 / 1024),
}


@pytest.mark.parametrize("name", shapes.CATEGORIES)
@pytest.mark.parametrize("direction", [0, 37, 128])
def test_shapes_have_the_area_of_their_geometry(name: str, direction: int) -> None:
    size = 400
    steps = np.arange(-size + 1, size, 2, dtype=np.int32)
    u, v = draw.turned(steps[:, None], steps[None], direction, size)
    mask = getattr(draw, name)(u, v, 0)
    assert mask.sum() / (size / 2) ** 2 == pytest.approx(AREAS[name], rel=0.01)


def test_a_quarter_turn_turns_an_image() -> None:
    steps = np.arange(-9, 10, 2, dtype=np.int32)
    straight, turned = (
        draw.heart(*draw.turned(steps[:, None], steps[None], direction, 10), 0) for direction in (0, draw.TURN // 2)
    )
    assert straight.any()
    assert (turned == straight[::-1, ::-1]).mean() > 0.95  # floor division is not symmetric about 0


def test_rim_and_softening_by_hand() -> None:
    assert draw.rim(np.ones((4, 3), bool)[:3]).sum() == 0  # the array's edge is no outside
    dot = np.zeros((5, 5), bool)
    dot[1:4, 1:4] = True
    assert draw.rim(dot).sum() == 8
    image = np.zeros((3, 3, 3), np.uint8)
    image[1, 1] = 160
    assert draw.soften(image)[..., 0].tolist() == [[10, 20, 10], [20, 40, 20], [10, 20, 10]]


def test_clouds_are_blended_between_levels() -> None:
    field = draw.clouds(draw.Dice(1, 2), 9, 9, 4)
    assert field[0, 2] == (field[0, 0] * 2 + field[0, 4] * 2) // 4
    assert field[1, 4] == (field[0, 4] * 3 + field[4, 4]) // 4
    assert field.min() >= 0
    assert field.max() <= 255


@pytest.mark.parametrize(("split", "index"), [("test", 0), ("train", -1)])
def test_unknown_images_are_refused(split: str, index: int) -> None:
    with pytest.raises(UsageError):
        shapes.scene(split, index)


def test_files_are_coco_s_and_the_images_lossless(tmp_path: Path) -> None:
    progressed: list[int] = []
    path = shapes.generate("val", tmp_path, 12, progress=progressed.append)
    assert path == tmp_path / "annotations/instances_val.json"
    assert sum(progressed) == 12
    coco = COCO(path)
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(shapes.CATEGORIES)
    assert len(set(coco.anns)) == sum(len(shapes.scene("val", i).annotations) for i in range(12))
    for index, image_id in enumerate(sorted(coco.imgs)):
        expected = shapes.scene("val", index)
        image = cv2.imread(str(tmp_path / "val" / coco.imgs[image_id]["file_name"]))
        assert (image[..., ::-1] == expected.image).all()
        assert (coco.imgs[image_id]["height"], coco.imgs[image_id]["width"]) == expected.image.shape[:2]
        for annotation in coco.imgToAnns[image_id]:
            assert coco.annToMask(annotation).sum() == annotation["area"]
    assert not list(tmp_path.rglob(".*"))


def test_what_is_whole_is_left_alone_and_what_is_not_is_completed(tmp_path: Path) -> None:
    path = shapes.generate("val", tmp_path, 4)
    before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in tmp_path.rglob("*.*")}
    assert shapes.generate("val", tmp_path, 4) == path
    assert {file: file.stat().st_mtime_ns for file in before} == {file: time for file, (time, _) in before.items()}
    (tmp_path / "val/000002.png").unlink()
    shapes.generate("val", tmp_path, 4)
    assert {file: file.read_bytes() for file in before} == {file: data for file, (_, data) in before.items()}


def test_other_annotations_are_not_overwritten_without_force(tmp_path: Path) -> None:
    path = shapes.generate("val", tmp_path, 3)
    with pytest.raises(OutputExists, match="instances_val"):
        shapes.generate("val", tmp_path, 4)
    path.write_text("{}")
    with pytest.raises(OutputExists):
        shapes.generate("val", tmp_path, 3)
    shapes.generate("val", tmp_path, 4, force=True)
    assert len(json.loads(path.read_text())["images"]) == 4


def test_an_interrupted_run_leaves_no_annotations(tmp_path: Path) -> None:
    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shapes.generate("val", tmp_path, 3, progress=stop)
    assert [file.name for file in tmp_path.rglob("*.*")] == ["000001.png"]
    path = shapes.generate("val", tmp_path, 3)
    with pytest.raises(KeyboardInterrupt):
        shapes.generate("val", tmp_path, 4, force=True, progress=stop)
    assert not path.exists()


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(UnwritableOutput, match="out"):
        shapes.generate("val", tmp_path / "out", 1)


@pytest.mark.parametrize("images", [0, -1])
def test_no_images_is_no_data_set(tmp_path: Path, images: int) -> None:
    with pytest.raises(UsageError, match="1 or more"):
        shapes.generate("val", tmp_path, images)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["shapes", "--split", "val", "--out", str(tmp_path), "--images", "2"]
    with pytest.raises(SystemExit) as done:
        main([*arguments, "--json"])
    assert done.value.code == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["images"], record["split"]) == (2, "val")
    assert len(json.loads(Path(record["annotations"]).read_text())["images"]) == 2
    assert len(list(Path(record["folder"]).glob("*.png"))) == 2
    with pytest.raises(SystemExit) as done:
        main([*arguments[:-1], "3"])
    assert done.value.code == 2
    assert "--force" in capsys.readouterr().err


def test_drawing_needs_no_torch(tmp_path: Path) -> None:
    code = "import sys; from cascadezoo import shapes; shapes.scene('val', 0); print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
