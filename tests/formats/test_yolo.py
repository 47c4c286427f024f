"""YOLO's labels in the layouts that people have; expected boxes and masks worked by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cascadezoo.errors import BadAnnotations, CascadezooError, MissingResource, UsageError
from cascadezoo.formats.conversion import found_format, to_coco

YAML = "names: [cat, dog]\ntrain: images/train\n"
BOX = "1 0.5 0.5 0.5 0.25\n"  # in 40 x 20 pixels: centre 20, 10; 20 wide, 5 high


def lay(folder: Path, files: dict[str, str | bytes], images: tuple[str, ...] = ("images/train/a.png",)) -> Path:
    for name in images:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 20)).save(folder / name)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def converted(source: Path, **options: Any) -> dict[str, Any]:
    out = source.parent / "coco.json"
    to_coco(source, out, **options)
    found: dict[str, Any] = json.loads(out.read_text())
    return found


@pytest.mark.parametrize("names", ["names: [cat, dog]", "names: {1: dog, 0: cat}", "names:\n  0: cat\n  1: dog\nnc: 2"])
def test_a_box_and_an_outline(tmp_path: Path, names: str) -> None:
    lines = b"\xef\xbb\xbf" + BOX.encode() + b"\r\n0 0.25 0.5 0.5 0.5 0.5 1 0.25 1.0\r\n"
    source = lay(tmp_path / "set", {"data.yaml": f"{names}\ntrain: images/train", "labels/train/a.txt": lines})
    assert converted(source) == {
        "images": [{"id": 1, "file_name": "a.png", "height": 20, "width": 40}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 2, "bbox": [10, 7.5, 20, 5], "area": 100, "iscrowd": 0},
            {"id": 2, "image_id": 1, "category_id": 1, "bbox": [10, 10, 10, 10], "area": 100, "iscrowd": 0,
             "segmentation": [[10, 10, 20, 10, 20, 20, 10, 20]]},
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }  # fmt: skip


def test_images_are_numbered_by_their_names_and_may_be_without_labels(tmp_path: Path) -> None:
    images = ("images/train/b.jpg", "images/train/a.png", "images/train/A/c.png")
    source = lay(tmp_path / "set", {"data.yaml": YAML, "labels/train/b.txt": BOX, "labels/train/A/c.txt": ""}, images)
    done = to_coco(source / "data.yaml", tmp_path / "coco.json")
    found = json.loads((tmp_path / "coco.json").read_text())
    assert [(each["id"], each["file_name"]) for each in found["images"]] == [(1, "A/c.png"), (2, "a.png"), (3, "b.jpg")]
    assert [each["image_id"] for each in found["annotations"]] == [3]
    assert done.images == source / "images" / "train"
    label = source / "labels" / "train" / "a.txt"
    assert done.notes == [f"{label}: it is not there, so its image is taken to have no objects"]


def test_splits(tmp_path: Path) -> None:
    files = {
        "data.yaml": "names: [cat, dog]\npath: ..\ntrain: set/train.txt\nval: [set/images/v, set/images/w]",
        "train.txt": "./images/train/a.png\n\n",
        "labels/train/a.txt": BOX, "labels/v/a.txt": BOX, "labels/w/b.txt": BOX,
    }  # fmt: skip
    source = lay(tmp_path / "set", files, ("images/train/a.png", "images/v/a.png", "images/w/b.png"))
    with pytest.raises(UsageError, match=r"data\.yaml has the splits train, val: choose one \(--split\)"):
        converted(source)
    with pytest.raises(UsageError, match="no split 'test': it has train, val"):
        converted(source, split="test")
    assert [each["file_name"] for each in converted(source, split="train")["images"]] == ["set/images/train/a.png"]
    found = converted(source, split="val")
    assert [each["file_name"] for each in found["images"]] == ["set/images/v/a.png", "set/images/w/b.png"]
    assert len(found["annotations"]) == 2


def test_roboflow_and_darknet_and_images_elsewhere(tmp_path: Path) -> None:
    roboflow = lay(
        tmp_path / "roboflow", {"data.yaml": "names: [cat, dog]\ntrain: ../train/images", "train/labels/a.txt": BOX},
        ("train/images/a.png",),
    )  # fmt: skip
    darknet = lay(tmp_path / "darknet", {"classes.txt": "cat\ndog\n", "labels/a.txt": BOX}, ("images/a.png",))
    beside = lay(tmp_path / "beside", {"classes.txt": "cat\ndog\n", "a.txt": BOX}, ("a.png",))
    apart = lay(tmp_path / "apart", {"data.yaml": YAML, "labels/train/a.txt": BOX}, ("../pictures/a.png",))
    found = [converted(each) for each in (roboflow, darknet, beside)]
    found.append(converted(apart, images=tmp_path / "pictures"))
    assert [[each["bbox"] for each in one["annotations"]] for one in found] == [[[10, 7.5, 20, 5]]] * 4
    assert all(one == found[0] for one in found)


def test_the_size_is_that_of_the_image_as_it_is_shown(tmp_path: Path) -> None:
    source = lay(tmp_path / "set", {"data.yaml": YAML, "labels/train/a.txt": BOX})
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.new("RGB", (40, 20)).save(source / "images/train/a.png", exif=exif)
    found = converted(source)
    assert (found["images"][0]["width"], found["images"][0]["height"]) == (20, 40)
    assert found["annotations"][0]["bbox"] == [5, 15, 10, 10]


def test_what_reaches_beyond_is_clipped_and_what_is_left_out_is_said(tmp_path: Path) -> None:
    lines = "0 1 0.5 0.5 0.5\n0 0.5 0.5 0.01 0.5\n0 0 0.5 0.5 0.5\n"
    source = lay(tmp_path / "set", {"data.yaml": YAML, "labels/train/a.txt": lines})
    done, label = to_coco(source, tmp_path / "coco.json"), source / "labels/train/a.txt"
    found = json.loads((tmp_path / "coco.json").read_text())
    assert [each["bbox"] for each in found["annotations"]] == [[30, 5, 10, 10], [0, 5, 10, 10]]
    assert done.notes == [
        f"{label}:1: an object that reaches beyond its image was clipped (the first of 2)",
        f"{label}:2: an object of which less than a pixel is in its image was left out",
    ]


def labelled(lines: str | bytes) -> dict[str, str | bytes]:
    return {"data.yaml": YAML, "labels/train/a.txt": lines}


WRONG: dict[str, tuple[dict[str, str | bytes], type[CascadezooError], str]] = {
    "class": (labelled(f"{BOX}2 0.5 0.5 0.5 0.5"), BadAnnotations, r"a\.txt:2: there is no class 2"),
    "half a class": (labelled("0.5 0.5 0.5 0.5 0.5"), BadAnnotations, r"a\.txt:1: there is no class 0\.5"),
    "class nan": (labelled("nan 0.5 0.5 0.5 0.5"), BadAnnotations, r"a\.txt:1: there is no class nan"),
    "nan": (labelled("0 0.5 nan 0.5 0.5"), BadAnnotations, r"a\.txt:1: coordinates are from 0 to 1.*not nan"),
    "negative": (labelled("0 0.5 0.5 0.5 -0.5"), BadAnnotations, r"a\.txt:1: coordinates are from 0 to 1.*not -0\.5"),
    "pixels": (labelled("0 20 10 20 5"), BadAnnotations, r"a\.txt:1: coordinates are from 0 to 1.*not 20"),
    "flat": (labelled("0 0.5 0.5 0 0.5"), BadAnnotations, r"a\.txt:1: a box's width and height are above 0"),
    "text": (labelled("cat 0.5 0.5 0.5 0.5"), BadAnnotations, r"a\.txt:1: a line is a class and numbers, but 'cat'"),
    "five": (labelled("0 .1 .1 .5 .5 .9"), BadAnnotations, r"a\.txt:1: after its class .* not 5"),
    "latin-1": (labelled(BOX.encode() + b"\xe9t\xe9"), BadAnnotations, r"a\.txt:2: it is no text in UTF-8"),
    "no image": (labelled("") | {"labels/train/b.txt": BOX}, MissingResource, r"b\.txt labels no image"),
    "yaml": (labelled("") | {"data.yaml": "names: [a\ntrain: x"}, BadAnnotations, r"data\.yaml:2: it is no YAML"),
    "yaml tag": (
        labelled("") | {"data.yaml": "names: !!python/object/apply:os.getcwd []"}, BadAnnotations, "it is no YAML"
    ),
    "yaml deep": (labelled("") | {"data.yaml": "[" * 5000}, BadAnnotations, "is no YAML"),
    "yaml list": (labelled("") | {"data.yaml": "[1]"}, BadAnnotations, "holds no mapping"),
    "no names": (labelled("") | {"data.yaml": "train: images/train"}, BadAnnotations, "names: a list of names"),
    "a gap": (labelled("") | {"data.yaml": "names: {0: a, 2: b}\ntrain: x"}, BadAnnotations, "without gaps"),
    "names twice": (labelled("") | {"data.yaml": "names: [a, a]\ntrain: x"}, BadAnnotations, "two classes .*'a'"),
    "keypoints": (labelled("") | {"data.yaml": f"{YAML}kpt_shape: [17, 3]"}, BadAnnotations, "keypoints"),
    "no folder": (labelled("") | {"data.yaml": "names: [a]\ntrain: gone"}, MissingResource, "there is no .*gone"),
    "no split": (labelled("") | {"data.yaml": "names: [a]"}, UsageError, "no split None: it has none"),
    "split": (labelled("") | {"data.yaml": "names: [a]\ntrain: 5"}, BadAnnotations, "train: a path is wanted"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_one_sentence_with_file_and_line(tmp_path: Path, what: str) -> None:
    files, error, message = WRONG[what]
    source = lay(tmp_path / "set", files)
    with pytest.raises(error, match=message) as caught:
        to_coco(source, tmp_path / "coco.json")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "coco.json").exists()


def test_two_images_of_one_stem_and_a_list_with_a_missing_image(tmp_path: Path) -> None:
    source = lay(tmp_path / "set", labelled(BOX), ("images/train/a.png", "images/train/a.jpg"))
    with pytest.raises(BadAnnotations, match=r"a\.jpg and a\.png would have the same labels"):
        converted(source)
    (source / "data.yaml").write_text("names: [a, b]\ntrain: t.txt")
    (source / "t.txt").write_text("images/train/a.png\nimages/train/gone.png")
    with pytest.raises(MissingResource, match=r"t\.txt:2: there is no image .*gone\.png"):
        converted(source)
    (source / "t.txt").write_text("images/train/a.png\nimages/train/a.jpg")
    with pytest.raises(BadAnnotations, match="would have the same labels"):
        converted(source)


def test_the_format_is_found_or_asked_for(tmp_path: Path) -> None:
    source = lay(tmp_path / "set", labelled(BOX))
    assert found_format(source) == found_format(source / "data.yaml") == "yolo"
    with pytest.raises(
        UsageError, match=r"is in none of the formats known here: say which \(--from yolo\|voc\|labelme"
    ):
        found_format(source / "images")
    (source / "data.yaml").rename(source / "cats.yaml")
    (source / "args.yaml").write_text("epochs: 3")
    (source / "broken.yaml").write_text("[")
    assert len(converted(source)["annotations"]) == 1
    (source / "dogs.yaml").write_text(YAML)
    with pytest.raises(UsageError, match=r"cats\.yaml and dogs\.yaml may both describe the data set"):
        converted(source)
    (source / "dogs.yaml").unlink()
    (source / "Annotations").mkdir()
    with pytest.raises(UsageError, match="may be yolo or voc: say which"):
        found_format(source)
