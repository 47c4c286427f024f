"""Every kind of fault seeded into a sound data set of 40 images: alone, and all together."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cascadezoo.coco.checking import check, read
from cascadezoo.coco.faults import KINDS
from cascadezoo.errors import BadAnnotations

HEIGHT, WIDTH = 16, 24
TRIANGLE = [2, 2, 10, 2, 2, 10]
MASK = {"size": [HEIGHT, WIDTH], "counts": [40, 8, 336]}  # the lower half of column 2, rows 8 to 15
PACKED = {"size": [HEIGHT, WIDTH], "counts": "X18`:"}  # the same: 40 = 8 + 32, 8, 336 = 16 + 10 * 32

Document = dict[str, Any]
Seed = Callable[[Document, Path], None]


def sound() -> Document:
    return {
        "info": {"description": "made by hand"},
        "images": [{"id": i, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH} for i in range(1, 41)],
        "annotations": [
            {"id": i, "image_id": (i - 1) % 40 + 1, "category_id": 1 + i % 3, "bbox": [2, 2, 8, 8], "area": 32.5,
             "iscrowd": 0, "segmentation": [TRIANGLE]}
            for i in range(1, 81)
        ] + [
            {"id": 81, "image_id": 1, "category_id": 1, "bbox": [2, 8, 1, 8], "area": 8, "iscrowd": 1,
             "segmentation": MASK},
            {"id": 82, "image_id": 1, "category_id": 1, "bbox": [2, 8, 1, 8], "area": 8, "iscrowd": 0, "ignore": 0,
             "segmentation": PACKED},
        ],
        "categories": [{"id": i, "name": name, "supercategory": "pets"} for i, name in enumerate("abcdefgh", 1)],
    }  # fmt: skip


def draw(folder: Path) -> Path:
    folder.mkdir()
    for number in range(1, 41):
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / f"{number}.png")
    return folder


def of(part: str, number: int, **fields: Any) -> Seed:
    """Set fields of the item with this id; a value of ``...`` removes one."""

    def seed(document: Document, _: Path) -> None:
        item = document[part][number - 1]
        for key, value in fields.items():
            item.pop(key) if value is ... else item.__setitem__(key, value)

    return seed


def replaced(part: str, number: int, value: Any) -> Seed:
    return lambda document, _: document[part].__setitem__(number - 1, value)


def stored(number: int, width: int, height: int, orientation: int = 1) -> Seed:
    def seed(_: Document, folder: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new("RGB", (width, height)).save(folder / f"{number}.png", exif=exif)

    return seed


def written(number: int, content: bytes | None) -> Seed:
    def seed(_: Document, folder: Path) -> None:
        (folder / f"{number}.png").unlink()
        if content is not None:
            (folder / f"{number}.png").write_bytes(content)

    return seed


def listed(part: str, **fields: Any) -> Seed:
    return lambda document, _: document[part].append(fields)


def annotation(number: int, **fields: Any) -> Seed:
    return of("annotations", number, **fields)


def outline(number: int, *polygons: Any) -> Seed:
    return annotation(number, segmentation=list(polygons))


def rle(number: int, counts: Any, size: Any = (HEIGHT, WIDTH)) -> Seed:
    return annotation(number, segmentation={"size": size and list(size), "counts": counts})


ZIGZAG = [0, 0, 23, 15] * 50_000  # 100,000 edges of 23 pixels
# kind, what to do, part, id (None: none that can be used), field
SEEDS: list[tuple[str, Seed, str, int | None, str]] = [
    ("image-type", replaced("images", 2, "2.png"), "images", None, ""),
    ("image-id", of("images", 3, id="3"), "images", None, "id"),
    ("image-id", of("images", 4, id=...), "images", None, "id"),
    ("image-id", of("images", 5, id=10**400), "images", None, "id"),
    ("image-id-twice", listed("images", id=6, file_name="6b.png", height=HEIGHT, width=WIDTH), "images", 6, "id"),
    ("image-name", of("images", 7, file_name=...), "images", 7, "file_name"),
    ("image-name", of("images", 8, file_name=""), "images", 8, "file_name"),
    ("image-name", of("images", 9, file_name="\ud800.png"), "images", 9, "file_name"),
    ("image-name-twice", of("images", 10, file_name="1.png"), "images", 10, "file_name"),
    ("image-size", of("images", 11, height="16"), "images", 11, "height"),
    ("image-size", of("images", 12, width=0, height=16.0), "images", 12, "height, width"),
    ("image-size", of("images", 13, width=10**400), "images", 13, "height, width"),
    ("image-missing", written(14, None), "images", 14, "file_name"),
    ("image-unreadable", written(15, b"<html>not found</html>"), "images", 15, "file_name"),
    ("image-file-size", stored(16, HEIGHT, WIDTH), "images", 16, "width, height"),
    ("image-file-size", stored(17, WIDTH, HEIGHT + 1), "images", 17, "width, height"),
    ("image-exif", stored(18, WIDTH, HEIGHT, 6), "images", 18, "width, height"),
    ("category-type", replaced("categories", 4, "d"), "categories", None, ""),
    ("category-id", of("categories", 5, id="5"), "categories", None, "id"),
    ("category-id-twice", listed("categories", id=6, name="i"), "categories", 6, "id"),
    ("category-name", of("categories", 7, name=...), "categories", 7, "name"),
    ("category-name-twice", of("categories", 8, name="a"), "categories", 8, "name"),
    ("annotation-type", replaced("annotations", 19, [19]), "annotations", None, ""),
    ("id-missing", annotation(20, id=...), "annotations", None, "id"),
    ("id-missing", annotation(21, id=None), "annotations", None, "id"),
    ("id-type", annotation(22, id="22"), "annotations", None, "id"),
    ("id-type", annotation(23, id=True), "annotations", None, "id"),
    ("id-twice", annotation(24, id=1), "annotations", 1, "id"),
    ("id-below-1", annotation(25, id=0), "annotations", 0, "id"),
    ("id-below-1", annotation(26, id=-5), "annotations", -5, "id"),
    ("image-id-type", annotation(27, image_id="27"), "annotations", 27, "image_id"),
    ("image-id-type", annotation(28, image_id=...), "annotations", 28, "image_id"),
    ("image-unknown", annotation(29, image_id=999), "annotations", 29, "image_id"),
    ("category-id-type", annotation(30, category_id=1.0), "annotations", 30, "category_id"),
    ("category-unknown", annotation(31, category_id=99), "annotations", 31, "category_id"),
    ("bbox", annotation(32, bbox=...), "annotations", 32, "bbox"),
    ("bbox", annotation(33, bbox=[1, 2, 3]), "annotations", 33, "bbox"),
    ("bbox", annotation(34, bbox=[2, 2, float("nan"), 8]), "annotations", 34, "bbox"),
    ("bbox", annotation(35, bbox=[2, 2, 10**400, 8]), "annotations", 35, "bbox"),
    ("bbox", annotation(36, bbox=["2", 2, 8, 8]), "annotations", 36, "bbox"),
    ("bbox-small", annotation(37, bbox=[2, 2, 0, 8]), "annotations", 37, "bbox"),
    ("bbox-small", annotation(38, bbox=[2, 2, 8, -8]), "annotations", 38, "bbox"),
    ("bbox-outside", annotation(39, bbox=[30, 2, 8, 8]), "annotations", 39, "bbox"),
    ("bbox-beyond", annotation(40, bbox=[2, 2, 24, 8]), "annotations", 40, "bbox"),
    ("area-missing", annotation(41, area=...), "annotations", 41, "area"),
    ("area-missing", annotation(42, area=None), "annotations", 42, "area"),
    ("area", annotation(44, area=-1), "annotations", 44, "area"),
    ("area", annotation(61, area="32"), "annotations", 61, "area"),
    ("area", annotation(62, area=float("inf")), "annotations", 62, "area"),
    ("area", annotation(63, area=2e10), "annotations", 63, "area"),
    ("iscrowd-missing", annotation(64, iscrowd=None), "annotations", 64, "iscrowd"),
    ("iscrowd-missing", annotation(65, iscrowd=...), "annotations", 65, "iscrowd"),
    ("iscrowd", annotation(66, iscrowd="0"), "annotations", 66, "iscrowd"),
    ("iscrowd", annotation(67, iscrowd=2), "annotations", 67, "iscrowd"),
    ("ignore", annotation(68, ignore=1), "annotations", 68, "ignore"),
    ("ignore-type", annotation(69, ignore="1"), "annotations", 69, "ignore"),
    ("segmentation-type", annotation(70, segmentation="mask"), "annotations", 70, "segmentation"),
    ("segmentation-missing", annotation(71, segmentation=[]), "annotations", 71, "segmentation"),
    ("segmentation-missing", annotation(72, segmentation=...), "annotations", 72, "segmentation"),
    ("polygon-type", outline(73, [1, 1, 2]), "annotations", 73, "segmentation"),
    ("polygon-type", outline(74, [1, 1, 2, 2, 3, "3"]), "annotations", 74, "segmentation"),
    ("polygon-number", outline(75, [1, 1, float("nan"), 1, 5, 5]), "annotations", 75, "segmentation"),
    ("polygon-number", outline(76, [1, 1, float("inf"), 1, 5, 5]), "annotations", 76, "segmentation"),
    ("polygon-far", outline(77, [1, 1, 9e8, 1, 5, 5]), "annotations", 77, "segmentation"),
    ("polygon-far", outline(78, [1, 1, 1e300, 1, -1e300, 5]), "annotations", 78, "segmentation"),
    ("polygon-far", outline(79, [1, 1, 10**400, 1, 5, 5]), "annotations", 79, "segmentation"),
    ("polygon-far", outline(80, ZIGZAG), "annotations", 80, "segmentation"),
    ("polygon-beyond", outline(59, [2, 2, 26, 2, 5, 5]), "annotations", 59, "segmentation"),
    ("polygon-short", outline(1, []), "annotations", 1, "segmentation"),
    ("polygon-short", outline(43, [1, 1, 5, 5]), "annotations", 43, "segmentation"),
    ("rle-size", rle(60, [16 * 20], (16, 20)), "annotations", 60, "segmentation"),
    ("rle-size", rle(46, [HEIGHT * WIDTH], None), "annotations", 46, "segmentation"),
    ("rle-counts", rle(47, [HEIGHT * WIDTH - 1]), "annotations", 47, "segmentation"),
    ("rle-counts", rle(48, [HEIGHT * WIDTH + 1, -1]), "annotations", 48, "segmentation"),
    ("rle-counts", rle(49, None), "annotations", 49, "segmentation"),
    ("rle-text", rle(50, "5é"), "annotations", 50, "segmentation"),
    ("rle-text", rle(81, "X18"), "annotations", 81, "segmentation"),
]  # fmt: skip
ALONE: list[tuple[str, Seed, str]] = [
    ("list", lambda document, _: document.pop("annotations"), "annotations"),
    ("list", lambda document, _: document.pop("images"), "images"),
    ("list", lambda document, _: document.update(categories={"1": "a"}), "categories"),
    ("list-empty", lambda document, _: document["images"].clear(), "images"),
    ("list-empty", lambda document, _: document["categories"].clear(), "categories"),
]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return draw(tmp_path / "images")


def found(tmp_path: Path, document: Document | str, most: int = 20) -> list[tuple[str, str, int | None, str]]:
    path = tmp_path / "instances.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    _, faults = check(path, tmp_path / "images", most)
    assert all(fault.problem for fault in faults.first)
    return [(fault.kind, fault.part, fault.id, fault.field) for fault in faults.first]


def test_the_sound_data_set_has_no_fault(tmp_path: Path, images: Path) -> None:
    assert found(tmp_path, sound()) == []


@pytest.mark.parametrize("number", range(len(SEEDS)), ids=[f"{kind}-{i}" for i, (kind, *_) in enumerate(SEEDS)])
def test_T1_T2_T3_T4_T5_a_fault_alone_is_named_once(tmp_path: Path, images: Path, number: int) -> None:
    kind, seed, part, own, field = SEEDS[number]
    document = sound()
    seed(document, images)
    assert found(tmp_path, document) == [(kind, part, own, field)]


@pytest.mark.parametrize("order", [("images", "annotations", "categories"), ("annotations", "categories", "images")])
def test_T1_T2_T3_T4_T5_all_faults_together_are_each_named_once(tmp_path: Path, images: Path, order) -> None:
    document = sound()
    for _, seed, *_ in SEEDS:
        seed(document, images)
    expected = [(kind, part, own, field) for kind, _, part, own, field in SEEDS]
    named = found(tmp_path, {key: document[key] for key in order})
    assert sorted(named, key=repr) == sorted(expected, key=repr)


@pytest.mark.parametrize(("kind", "seed", "field"), ALONE)
def test_a_fault_of_the_whole_file_is_the_only_one_named(tmp_path: Path, images: Path, kind, seed, field) -> None:
    document = sound()
    seed(document, images)
    assert found(tmp_path, document) == [(kind, "file", None, field)]


def test_a_list_that_comes_twice_is_named(tmp_path: Path, images: Path) -> None:
    for part in ("images", "annotations", "categories"):
        text = json.dumps(sound())[:-1] + f', "{part}": []}}'
        assert found(tmp_path, text) == [("list", "file", None, part)]


@pytest.mark.parametrize("text", ["", "[]", '{"images": [', json.dumps(sound())[:-40], json.dumps(sound()) + "x"])
def test_what_is_no_json_is_named(tmp_path: Path, images: Path, text: str) -> None:
    assert found(tmp_path, text) == [("json", "file", None, "")]


def test_T9_an_unannotated_root_is_named_and_left_out(tmp_path: Path, images: Path) -> None:
    """Roboflow's: id 0 above all, here of the name of a real category."""
    document = sound()
    document["categories"] = [{"id": 0, "name": "a", "supercategory": "none"}] + [
        {**category, "supercategory": "a"} for category in document["categories"]
    ]
    assert found(tmp_path, document) == [("category-root", "categories", 0, "supercategory")]
    contents, met = read(tmp_path / "instances.json")
    assert list(contents.categories.values()) == list("abcdefgh")
    assert met.counts == {"category-root": 1}
    document["annotations"][0]["category_id"] = 0  # it is a class like others
    assert found(tmp_path, document) == [("category-name-twice", "categories", 1, "name")]


def test_every_kind_is_seeded_here() -> None:
    seeded = {kind for kind, *_ in (*SEEDS, *ALONE)} | {"json", "category-root", "image-damaged"}
    assert seeded == KINDS.keys()


def test_decoding_is_asked_for(tmp_path: Path, images: Path) -> None:
    whole = (images / "3.png").read_bytes()
    (images / "3.png").write_bytes(whole[:-12])
    assert found(tmp_path, sound()) == []
    _, faults = check(tmp_path / "instances.json", images, 20, decode=True)
    assert [(fault.kind, fault.id) for fault in faults.first] == [("image-damaged", 3)]


def test_what_is_shown_of_a_kind_is_bounded(tmp_path: Path, images: Path) -> None:
    document = sound()
    for item in document["annotations"]:
        del item["area"]
    assert found(tmp_path, document, most=5) == [("area-missing", "annotations", i, "area") for i in range(1, 6)]
    _, faults = check(tmp_path / "instances.json", images, 5)
    assert faults.counts == {"area-missing": 82}
    assert faults.refused == 0


def test_the_first_refused_fault_is_raised_with_file_annotation_and_field(tmp_path: Path, images: Path) -> None:
    document = sound()
    document["annotations"][16]["iscrowd"] = "0"
    found(tmp_path, document)
    with pytest.raises(BadAnnotations, match=r'instances\.json: annotation 17: iscrowd: 0 or 1 is wanted, not "0"'):
        read(tmp_path / "instances.json")


def test_objects_per_class(tmp_path: Path, images: Path) -> None:
    found(tmp_path, sound())
    contents, _ = read(tmp_path / "instances.json")
    # ids 1..80: 1 + i % 3 is 1 for the 26 multiples of 3, 2 and 3 for 27 each; two more of category 1
    assert contents.objects == {1: 28, 2: 27, 3: 27}
    assert contents.annotations == 82
