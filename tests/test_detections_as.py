"""Detections as other things: outlines, dicts, tables; chosen by name, joined, with the image they were found on."""

import copy
import json
import pickle
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO as CocoIndex

from cascadezoo.coco.annotations import annotation_file
from cascadezoo.coco.categories import COCO, Categories
from cascadezoo.detections import Detections
from cascadezoo.errors import FailedImages, MissingResource, UnknownName, UsageError
from cascadezoo.files import write_json
from cascadezoo.ops.mask_paste import paste_integer_box

HEIGHT, WIDTH = 60, 80
PIXELS = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)


def ring_and_parts() -> Detections:
    """A person with a hole, a dog in two parts, a person of whom nothing is seen, on 60 x 80 pixels."""
    ring, parts = torch.ones(28, 28), torch.ones(28, 28)
    ring[9:19, 9:19] = 0
    parts[:, 11:16] = 0
    return Detections(
        boxes=torch.tensor([[2.0, 3.0, 40.0, 44.5], [30.0, 20.0, 79.0, 58.0], [0.0, 0.0, 5.0, 5.0]]),
        scores=torch.tensor([0.9, 0.75, 0.25]),
        labels=torch.tensor([COCO.index("person"), COCO.index("dog"), COCO.index("person")]),
        image_size=(HEIGHT, WIDTH),
        mask_probs=torch.stack([ring, parts, torch.zeros(28, 28)]),
    )


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / (one | other).sum()


def test_polygons_have_parts_and_holes() -> None:
    ring, parts, nothing = ring_and_parts().polygons()
    assert [len(one.holes) for one in ring] == [1]
    assert [len(one.holes) for one in parts] == [0, 0]
    assert nothing == []
    for outlines, mask in zip((ring, parts), ring_and_parts().masks[:2], strict=True):
        assert sum(one.area for one in outlines) == mask.sum()
    assert replace(ring_and_parts(), mask_probs=None).polygons() is None


def test_cocos_polygons_are_the_masks(tmp_path) -> None:
    found = ring_and_parts()
    results = found.to_coco(7, masks="polygon")
    assert json.loads(json.dumps(results)) == results
    assert [len(one["segmentation"]) for one in results] == [1, 2, 0]
    images = [{"id": 7, "height": HEIGHT, "width": WIDTH}]
    path = write_json(tmp_path / "a.json", annotation_file(COCO, images, results, "words"))
    index = CocoIndex(str(path))
    for one, mask in zip(index.loadAnns([1, 2]), found.masks.numpy(), strict=False):
        drawn = index.annToMask(one).astype(bool)
        assert iou(drawn, mask) >= 0.99
        assert (drawn == mask).all()
        assert one["area"] == mask.sum()
    without = [{key: value for key, value in one.items() if key != "segmentation"} for one in results]
    assert without == replace(found, mask_probs=None).to_coco(7, masks="polygon")


def test_cocos_rles_are_the_masks_and_other_words_are_refused() -> None:
    found = ring_and_parts()
    for one, mask in zip(found.to_coco(1, masks="rle"), found.masks.numpy(), strict=True):
        assert (coco_mask.decode(one["segmentation"]) == mask).all()
    with pytest.raises(UsageError, match="masks 'polygons': give 'rle' or 'polygon'"):
        found.to_coco(1, masks="polygons")


def test_a_dict_is_plain() -> None:
    values = ring_and_parts().to_dict()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert (values["height"], values["width"]) == (HEIGHT, WIDTH)
    dog = values["detections"][1]
    assert (dog["name"], dog["category_id"], dog["label"]) == ("dog", 18, COCO.index("dog"))
    assert dog["box"] == [30.0, 20.0, 79.0, 58.0]
    assert dog["score"] == pytest.approx(0.75)
    assert dog["segmentation"] == ring_and_parts().rles()[1]
    boxes = replace(ring_and_parts(), mask_probs=None).to_dict()["detections"]
    assert [set(one) for one in boxes] == [{"name", "label", "category_id", "score", "box"}] * 3
    assert ring_and_parts()[[]].to_dict()["detections"] == []


def test_a_table_has_a_row_for_each(monkeypatch) -> None:
    """Of a stand-in for pandas: tests/integrations/test_pandas.py has the library itself."""
    stand_in = SimpleNamespace(Series=lambda values, dtype: values, DataFrame=dict)
    monkeypatch.setitem(sys.modules, "pandas", stand_in)
    table = ring_and_parts().to_pandas()
    assert list(table) == ["name", "label", "category_id", "score", "x1", "y1", "x2", "y2", "segmentation"]
    assert table["name"] == ["person", "dog", "person"]
    assert table["x1"] == [2, 30, 0]
    assert table["segmentation"] == ring_and_parts().rles()
    assert "segmentation" not in replace(ring_and_parts(), mask_probs=None).to_pandas()


def test_C7_pandas_is_optional(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingResource, match=r"pip install pandas$"):
        ring_and_parts().to_pandas()


def test_torchvisions_dict() -> None:
    found = ring_and_parts()
    output = found.to_torchvision()
    assert output["boxes"] is found.boxes
    assert output["masks"].shape == (3, HEIGHT, WIDTH)
    assert set(replace(found, mask_probs=None).to_torchvision()) == {"boxes", "scores", "labels"}


def test_categories_choose_by_name() -> None:
    found = ring_and_parts()
    assert found["person"].scores.tolist() == found.scores[[0, 2]].tolist()
    assert torch.equal(found[["dog", "person"]].boxes, found.boxes)  # in the order of the detections
    assert torch.equal(found["dog"].masks, found.masks[1:2])
    assert len(found["cat"]) == 0
    assert len(found[["cat", "toaster"]]) == 0


@pytest.mark.parametrize("index", ["persn", ["dog", "persn"], ("persn",)])
def test_a_name_of_no_category_is_refused_with_the_nearest(index) -> None:
    with pytest.raises(UnknownName, match=r"^no category is called 'persn': did you mean person\?$"):
        ring_and_parts()[index]


def test_names_unlike_any_are_answered_with_the_names() -> None:
    shapes = Categories(["circle", "star"])
    with pytest.raises(UnknownName, match=r"^no category is called 'xyz': the categories are circle, star$"):
        shapes.label_of("xyz")
    with pytest.raises(UnknownName, match=r"the categories are person, .*, …$"):
        COCO.label_of("qqqqqqqq" * 99)
    assert shapes.label_of("star") == 1


def test_names_among_numbers_are_no_index() -> None:
    with pytest.raises((IndexError, TypeError, ValueError)):
        ring_and_parts()[["dog", 1]]


def test_concat_joins_in_order() -> None:
    found = replace(ring_and_parts(), source=PIXELS)
    joined = Detections.concat([found[1:], found[:1], found[[]]])
    assert type(joined) is Detections
    assert joined.scores.tolist() == found.scores[[1, 2, 0]].tolist()
    assert torch.equal(joined.masks, found.masks[[1, 2, 0]])
    assert joined.source is PIXELS
    best_first = joined[joined.scores.argsort(descending=True)]
    assert torch.equal(best_first.boxes, found.boxes)
    assert Detections.concat([found, ring_and_parts()]).source is None
    boxes = replace(found, mask_probs=None)
    assert Detections.concat(iter([boxes, boxes])).mask_probs is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"image_size": (9, 9)}, r"image_size: \(60, 80\) and \(9, 9\)"),
        ({"categories": Categories.numbered(80)}, r"categories: Categories\(80: person"),
        ({"mask_probs": None}, r"the sides of mask_probs: \(28, 28\) and None"),
        ({"mask_probs": torch.zeros(3, 14, 14)}, r"the sides of mask_probs: \(28, 28\) and \(14, 14\)"),
        ({"extent": 1}, "extent: 0 and 1"),
        ({"paste_method": paste_integer_box}, "paste_method"),
    ],
)
def test_concat_refuses_what_is_not_of_one_image_and_model(changes, says) -> None:
    found = ring_and_parts()
    with pytest.raises(UsageError, match=f"concat: the detections differ in {says}"):
        Detections.concat([found, replace(found, **changes)])


def test_concat_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="give one Detections or more"):
        Detections.concat([])


def test_the_source_is_drawn_on_when_no_image_is_given() -> None:
    found = replace(ring_and_parts(), source=PIXELS)
    assert found.source is PIXELS
    assert np.array_equal(np.asarray(found.plot()), np.asarray(found.plot(PIXELS)))
    for one in (found[:2], found["dog"], found.to("cpu")):
        assert one.source is PIXELS
    white = PIXELS + 127
    assert np.asarray(found.plot(white)).mean() > np.asarray(found.plot()).mean() + 50


def test_copies_take_a_path_along_and_no_pixels(tmp_path) -> None:
    of_pixels, of_path = (replace(ring_and_parts(), source=source) for source in (PIXELS, tmp_path / "a.png"))
    for again in (copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))):
        assert again(of_pixels).source is None
        assert again(of_path).source == tmp_path / "a.png"
        assert torch.equal(again(of_path).boxes, of_path.boxes)
    assert of_pixels.source is PIXELS


def test_predict_says_what_it_was_given(mask_model, tmp_path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    images = [PIXELS, tmp_path / "a.png", Image.fromarray(PIXELS)]
    for found, image in zip(mask_model.predict(images), images, strict=True):
        assert found.source is image
        assert found.plot().size == (WIDTH, HEIGHT)
    assert mask_model.predict(PIXELS).source is PIXELS
    assert [one.source is PIXELS for one in mask_model.predict([PIXELS] * 2, batch_size=2)] == [True, True]
    with pytest.raises(FailedImages) as caught:
        mask_model.predict([PIXELS, tmp_path / "missing.png"])
    assert caught.value.results[0].source is PIXELS
    assert caught.value.results[1] is None
