import json

import pytest
from pycocotools.coco import COCO as CocoIndex

from cascadezoo.coco.annotations import annotation_file
from cascadezoo.coco.categories import COCO, Categories
from cascadezoo.errors import FileError, UsageError
from cascadezoo.files import write_json


def test_coco_has_its_eighty_names_with_their_official_ids():
    assert len(COCO) == len(COCO.ids) == 80
    by_id = dict(zip(COCO.ids, COCO, strict=True))
    # from instances_val2017.json: the neighbours of each gap, the first and the last
    assert {i: by_id[i] for i in (1, 11, 13, 25, 27, 28, 31, 44, 46, 65, 67, 70, 72, 82, 84, 90)} == {
        1: "person", 11: "fire hydrant", 13: "stop sign", 25: "giraffe", 27: "backpack", 28: "umbrella",
        31: "handbag", 44: "bottle", 46: "wine glass", 65: "bed", 67: "dining table", 70: "toilet", 72: "tv",
        82: "refrigerator", 84: "book", 90: "toothbrush",
    }  # fmt: skip
    assert not {12, 26, 29, 30, 45, 66, 68, 69, 71, 83} & set(COCO.ids)


def test_categories_are_a_sequence_of_names():
    pets = Categories(["cat", "dog", "fish"], [7, 3, 9])
    assert list(pets) == ["cat", "dog", "fish"]
    assert (pets[1], pets[-1], pets[:2]) == ("dog", "fish", ("cat", "dog"))
    assert pets.index("fish") == 2
    assert "dog" in pets
    assert pets.ids == (7, 3, 9)
    assert repr(Categories("abcd"[i] for i in range(4))) == "Categories(4: a, b, c, …)"


def test_categories_cannot_change():
    pets = Categories(["cat", "dog"])
    with pytest.raises(AttributeError):
        pets.ids = (5, 6)
    with pytest.raises(AttributeError):
        pets.extra = 1


def test_equal_categories_are_one_key():
    assert Categories(["cat"], [1]) == Categories(["cat"])
    assert Categories(["cat"], [1]) != Categories(["cat"], [2])
    assert Categories(["cat"], [1]) != ["cat"]
    assert len({Categories(["cat"]), Categories(["cat"])}) == 1


@pytest.mark.parametrize(
    ("names", "ids", "says"),
    [
        (["cat", "cat"], None, "name given twice: cat"),
        (["cat", "dog"], [4, 4], "id given twice: 4"),
        (["cat", "dog"], [1], "2 category names but 1 ids"),
        (["cat", 5], None, "not 5"),
        (["cat"], ["1"], "not '1'"),
        (["cat"], [True], "not True"),
        ("cat", None, "single text"),
    ],
)
def test_bad_categories_are_named(names, ids, says):
    with pytest.raises(UsageError, match=says):
        Categories(names, ids)


def test_numbered_categories():
    assert list(Categories.numbered(3)) == ["class 0", "class 1", "class 2"]


def test_from_coco_labels_by_ascending_id():
    listed = [{"id": 9, "name": "fish", "supercategory": "animal"}, {"id": 2, "name": "dog"}]
    categories = Categories.from_coco(listed)
    assert list(categories) == ["dog", "fish"]
    assert categories.ids == (2, 9)
    assert Categories.from_coco(COCO.to_coco()) == COCO


@pytest.mark.parametrize("listed", [[{"id": 1}], [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}], 5, ["cat"]])
def test_from_coco_refuses_other_lists(listed):
    with pytest.raises(FileError, match="COCO list of categories"):
        Categories.from_coco(listed)


def test_json_is_compact_and_comes_back():
    pets = Categories(["cat", "chien à poil"], [7, 3])
    assert pets.to_json() == '{"ids":[7,3],"names":["cat","chien à poil"]}'
    assert Categories.from_json(pets.to_json()) == pets
    assert Categories.from_json(COCO.to_json()) == COCO


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"names": ["a"], "ids": [1, 2]}', '{"names": 1, "ids": 2}', "null"])
def test_from_json_refuses_other_text(text):
    with pytest.raises(FileError, match="categories"):
        Categories.from_json(text)


@pytest.mark.parametrize("depth", [200, 950, 980, 990, 100_000])
@pytest.mark.parametrize(("opening", "closing"), ["[]", ('{"a":', "}")])
def test_R9_deep_nests_are_refused(depth, opening, closing):
    nest = opening * depth + "1" + closing * depth
    for text in (
        f'{{"names":{nest},"ids":[1]}}',
        f'{{"names":[{nest}],"ids":[1]}}',
        f'{{"names":["a"],"ids":[{nest}]}}',
        f'{{"names":["a","b"],"ids":[{nest},{nest}]}}',
        nest,
    ):
        with pytest.raises(FileError, match="JSON record of categories"):
            Categories.from_json(text)


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("depth", [200, 980, 100_000])
def test_R9_deep_nests_in_a_coco_list_are_refused(depth):
    for items in (
        [{"id": nested(depth), "name": "a"}, {"id": nested(depth), "name": "b"}],
        [{"id": 1, "name": nested(depth)}, {"id": 1, "name": nested(depth)}],
        nested(depth),
    ):
        with pytest.raises(FileError, match="COCO list of categories"):
            Categories.from_coco(items)


@pytest.mark.parametrize("digits", [20, 4000, 5000])
def test_R9_long_numbers_are_refused(digits):
    for text in (f'{{"names":["a"],"ids":[{"9" * digits}]}}', f'{{"names":[{"9" * digits}],"ids":[1]}}'):
        with pytest.raises(FileError, match="JSON record of categories"):
            Categories.from_json(text)
    with pytest.raises(UsageError, match="name is a text, not so long a number"):
        Categories([10**digits])


def test_R9_messages_stay_short():
    with pytest.raises(UsageError) as caught:
        Categories(["x" * 10**6] * 2)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", ['{"names": {"a": 1}, "ids": {"1": 2}}', '{"names": "a", "ids": [1]}'])
def test_R9_names_and_ids_are_lists(text):
    with pytest.raises(FileError, match="both are lists"):
        Categories.from_json(text)


def test_annotation_file_opens_in_pycocotools(tmp_path):
    images = [{"id": 5, "file_name": "a.jpg", "height": 10, "width": 20}]
    # a 10x20 mask with one run of 6 pixels after 12 empty ones and before 182: each digit is 48 + five bits, the lowest
    # first, with 32 added where more follow: 12 is "<", 6 is "6", 182 = 5 * 32 + 22 is "f" (22 + 32 + 48), "5"
    results = [
        {"image_id": 5, "category_id": 1, "bbox": [1.0, 2.0, 4.0, 2.5], "score": 0.75},
        {"image_id": 5, "category_id": 3, "bbox": [0.0, 0.0, 3.0, 9.0], "score": 0.5,
         "segmentation": {"size": [10, 20], "counts": "<6f5"}},
    ]  # fmt: skip
    path = write_json(tmp_path / "out.json", annotation_file(COCO, images, results, "made by hand"))
    index = CocoIndex(str(path))
    assert index.imgs[5]["file_name"] == "a.jpg"
    assert index.loadCats([3])[0]["name"] == "car"
    boxed, masked = index.loadAnns(index.getAnnIds(imgIds=[5]))
    assert (boxed["id"], boxed["area"], boxed["iscrowd"], boxed["score"]) == (1, 10.0, 0, 0.75)
    assert (masked["id"], masked["area"]) == (2, 6.0)
    rows, columns = index.annToMask(masked).nonzero()
    assert list(zip(columns, rows, strict=True)) == [(1, row) for row in range(2, 8)]  # 12 is one column and two pixels
    assert len(index.loadRes(json.loads(path.read_text())["annotations"]).anns) == 2


def test_write_json_leaves_the_old_file_when_it_fails(tmp_path):
    path = write_json(tmp_path / "out.json", {"name": "é"})
    assert path.read_text(encoding="utf-8") == '{"name": "é"}\n'
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"score": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8")) == {"name": "é"}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.timeout(10)
def test_p14_many_names_are_checked_in_one_go():
    """16,000 names took 17 s, now some milliseconds; the bound is for a return of that."""
    names = [f"class {number}" for number in range(16_000)]
    assert len(Categories(names)) == 16_000
    with pytest.raises(UsageError, match=r"^category name given twice: class 7$"):
        Categories([*names, "class 7"])
