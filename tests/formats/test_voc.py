"""Pascal VOC's layout; expected boxes and masks worked by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from cascadezoo.errors import BadAnnotations, CascadezooError, MissingResource, UsageError
from cascadezoo.formats.conversion import found_format, to_coco

SIZE = "<size><width>20</width><height>10</height><depth>3</depth></size>"


def thing(name: str, x1: object, y1: object, x2: object, y2: object, more: str = "") -> str:
    """An object; its part has a box of its own, as VOC's people have."""
    box = f"<bndbox><xmax>{x2}</xmax><xmin>{x1}</xmin><ymin>{y1}</ymin><ymax>{y2}</ymax></bndbox>"
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    return f"\n<object>{part}<name>{name}</name>{more}<truncated>1</truncated>{box}</object>"


def document(*things: str, size: str = SIZE) -> str:
    return f"<annotation><folder>gone</folder><filename>stale.jpg</filename>{size}{''.join(things)}</annotation>"


def lay(folder: Path, documents: dict[str, str | bytes], size: tuple[int, int] = (20, 10)) -> Path:
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for stem, text in documents.items():
        content = text if isinstance(text, bytes) else text.encode()
        (folder / "Annotations" / f"{stem}.xml").write_bytes(content)
        Image.new("RGB", size).save(folder / "JPEGImages" / f"{stem}.jpg")
    return folder


def converted(source: Path, **options: Any) -> dict[str, Any]:
    out = source.parent / "coco.json"
    to_coco(source, out, **options)
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def test_boxes_are_counted_from_1_and_hold_their_last_pixels(tmp_path: Path) -> None:
    """From pixel 3 to pixel 7 are 5 pixels, the first of which has its left edge at 2."""
    difficult = "<difficult>1</difficult>"
    source = lay(
        tmp_path / "voc",
        {"b": document(thing("dog", 3, 2, 7, 10)), "a": document(thing("cat", 1, 1, 20, 10, difficult), size="")},
    )
    assert found_format(source) == "voc"
    assert converted(source) == {
        "images": [
            {"id": 1, "file_name": "a.jpg", "height": 10, "width": 20},
            {"id": 2, "file_name": "b.jpg", "height": 10, "width": 20},
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 20, 10], "area": 200, "iscrowd": 1},
            {"id": 2, "image_id": 2, "category_id": 2, "bbox": [2, 1, 5, 9], "area": 45, "iscrowd": 0},
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }


def test_splits_have_the_categories_of_the_whole(tmp_path: Path) -> None:
    source = lay(tmp_path / "voc", {name: document(thing(name, 1, 1, 5, 5)) for name in "abc"})
    (source / "ImageSets/Main/train.txt").write_text("c\nb\n")
    (source / "ImageSets/Main/cat_train.txt").write_text("c  1\nb -1\n")
    (source / "ImageSets/Main/gone.txt").write_text("c\n\nd\n")
    found = converted(source, split="train")
    assert [each["file_name"] for each in found["images"]] == ["b.jpg", "c.jpg"]
    assert [each["category_id"] for each in found["annotations"]] == [2, 3]
    with pytest.raises(BadAnnotations, match=r"cat_train\.txt:1: this is the list of one class"):
        converted(source, split="cat_train")
    with pytest.raises(MissingResource, match=r"gone\.txt:3: 'd' has no XML file"):
        converted(source, split="gone")
    with pytest.raises(MissingResource, match=r"there is no file .*ImageSets/Main/val\.txt"):
        converted(source, split="val")
    (source / "labels.txt").write_text("c\nb\na\n")
    assert [each["category_id"] for each in converted(source, split="train")["annotations"]] == [2, 1]
    (source / "labels.txt").write_text("c\nb\n")
    with pytest.raises(BadAnnotations, match=r"a\.xml:2: .*labels\.txt has no class 'a'"):
        converted(source)


def test_masks_are_the_pixels_of_an_objects_number(tmp_path: Path) -> None:
    source = lay(tmp_path / "voc", {"a": document(thing("cat", 1, 1, 4, 4), thing("dog", 6, 6, 9, 9))})
    numbers = np.zeros((10, 20), np.uint8)
    numbers[0:4, 0:4], numbers[5:9, 5:9], numbers[4, :] = 1, 2, 255
    numbers[1, 1] = 255
    (source / "SegmentationObject").mkdir()
    picture = Image.fromarray(numbers)
    picture.putpalette([value for i in range(256) for value in (i, 0, 0)])
    picture.save(source / "SegmentationObject/a.png")
    cat, dog = converted(source)["annotations"]
    assert (cat["area"], dog["area"]) == (15, 16)
    assert (coco_mask.decode(cat["segmentation"]) == (numbers == 1)).all()
    assert (coco_mask.decode(dog["segmentation"]) == (numbers == 2)).all()

    lay(source, {"b": document(thing("cat", 1, 1, 4, 4))})
    done = to_coco(source, tmp_path / "boxes.json")
    assert "segmentation" not in (tmp_path / "boxes.json").read_text()
    assert len(done.notes) == 1
    assert "SegmentationObject: masks of 1 of the 2 images are there, so boxes alone" in done.notes[0]

    numbers[9, 19] = 3
    Image.fromarray(numbers).save(source / "SegmentationObject/b.png")
    with pytest.raises(BadAnnotations, match=r"b\.png has pixels of object 2, but .*b\.xml has 1 objects"):
        converted(source)
    Image.fromarray(numbers[:, :9]).save(source / "SegmentationObject/b.png")
    with pytest.raises(BadAnnotations, match=r"b\.png is of another size"):
        converted(source)
    Image.new("RGB", (20, 10)).save(source / "SegmentationObject/b.png")
    with pytest.raises(BadAnnotations, match=r"b\.png holds colours"):
        converted(source)
    Image.new("L", (20, 10)).save(source / "SegmentationObject/b.png")
    done = to_coco(source, tmp_path / "boxes.json")
    assert done.notes == [f"{source / 'Annotations/b.xml'}:2: the picture of masks has no pixel of object 1"]


@pytest.mark.parametrize(
    "text",
    [
        '<?xml version="1.0" encoding="ISO-8859-1"?>' + document(thing("\xe9t\xe9", 1, 1, 5, 5)),
        "\ufeff" + document(thing("\xe9t\xe9", 1, 1, 5, 5)),
    ],
    ids=["latin-1 as declared", "UTF-8 with a mark"],
)
def test_encodings(tmp_path: Path, text: str) -> None:
    content = text.encode("latin-1") if "ISO" in text else text.encode()
    assert converted(lay(tmp_path / "voc", {"a": content}))["categories"] == [{"id": 1, "name": "\xe9t\xe9"}]


BOMB = (
    '<?xml version="1.0"?>\n<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>\n'
    f"{document(thing('&b;', 1, 1, 5, 5))}"
)
EXTERNAL = f'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>{document(thing("&a;", 1, 1, 5, 5))}'
WRONG: dict[str, tuple[str | bytes, type[CascadezooError], str]] = {
    "an entity bomb": (BOMB, BadAnnotations, r"a\.xml:2: it declares a document type"),
    "an external entity": (EXTERNAL, BadAnnotations, r"a\.xml:1: it declares a document type"),
    "deep": ("<a>" * 100_000, BadAnnotations, r"a\.xml:1: its elements are nested too deeply"),
    "cut short": (document()[:-4], BadAnnotations, r"a\.xml:1: it is no XML"),
    "latin-1": (document(thing("\xe9", 1, 1, 5, 5)).encode("latin-1"), BadAnnotations, r"a\.xml:2: it is no XML"),
    "no encoding": (b"<?xml version='1.0' encoding='klingon'?><a/>", BadAnnotations, r"a\.xml.* no XML"),
    "nan": (document(thing("cat", "nan", 1, 5, 5)), BadAnnotations, r"a\.xml:2: xmin is to be a number.*'nan'"),
    "text": (document(thing("cat", 1, "two", 5, 5)), BadAnnotations, r"a\.xml:2: ymin is to be a number.*'two'"),
    "backwards": (document(thing("cat", 5, 1, 1, 5)), BadAnnotations, r"a\.xml:2: a box of which xmax"),
    "no box": (document("\n<object><name>cat</name></object>"), BadAnnotations, r"a\.xml:2: an object without a box"),
    "no name": (document("\n<object></object>"), BadAnnotations, r"a\.xml:2: an object without a name"),
    "another size": (document(size=SIZE.replace("20", "99")), BadAnnotations, r"99 x 10 pixels .*20 x 10 as it is"),
    "exchanged": (document(size=SIZE.replace("20", "9").replace("10", "20")), BadAnnotations, "9 x 20 pixels"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_one_sentence_with_file_and_line(tmp_path: Path, what: str) -> None:
    text, error, message = WRONG[what]
    source = lay(tmp_path / "voc", {"a": text, "z": document(thing("cat", 1, 1, 2, 2))})
    with pytest.raises(error, match=message) as caught:
        to_coco(source, tmp_path / "coco.json")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "coco.json").exists()


def test_images_that_are_missing_or_there_twice(tmp_path: Path) -> None:
    source = lay(tmp_path / "voc", {"a": document(thing("cat", 1, 1, 5, 5))})
    Image.new("RGB", (20, 10)).save(source / "JPEGImages/a.png")
    with pytest.raises(BadAnnotations, match=r"a\.jpg and a\.png would have the same labels"):
        converted(source)
    for path in (source / "JPEGImages").iterdir():
        path.unlink()
    with pytest.raises(MissingResource, match=r"a\.xml annotates no image"):
        converted(source)
    with pytest.raises(MissingResource, match="there are no XML files"):
        to_coco(source / "JPEGImages", tmp_path / "coco.json", form=found_format(source))
    with pytest.raises(UsageError, match="is a file: give the folder"):
        to_coco(source / "Annotations/a.xml", tmp_path / "coco.json", form=found_format(source))


def test_what_VOC_cannot_hold(tmp_path: Path) -> None:
    from cascadezoo.formats.conversion import Format, from_coco

    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    image = {"id": 1, "file_name": "a.png", "height": 10, "width": 20}
    object_ = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "area": 25, "iscrowd": 0}
    path = tmp_path / "coco.json"

    def write(name: str, objects: list[dict[str, Any]]) -> None:
        numbered = [{"id": i, **each} for i, each in enumerate(objects, start=1)]
        text = json.dumps({"images": [image], "annotations": numbered, "categories": [{"id": 1, "name": name}]})
        path.write_text(text)

    write("a\x08b", [object_])
    with pytest.raises(UsageError, match="XML cannot hold the name"):
        from_coco(path, tmp_path, tmp_path / "voc", Format.VOC)
    write("cat", [object_ | {"segmentation": [[1, 1, 6, 1, 6, 6]]}] * 255)
    with pytest.raises(UsageError, match="255 objects, and VOC's masks"):
        from_coco(path, tmp_path, tmp_path / "voc", Format.VOC)
    assert not (tmp_path / "voc").exists()
