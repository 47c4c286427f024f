"""What of a network's detections is wanted: classes, scores, numbers, and what the network is asked for them."""

import math

import numpy as np
import pytest
import torch

from cascadezoo.coco.categories import COCO, Categories
from cascadezoo.errors import UnknownName, UsageError, WrongType
from cascadezoo.modeling.tta import TTASettings
from cascadezoo.training.classes import chosen
from cascadezoo.wanted import Wanted, label_of

from tiny import lively, tiny

RULE = tiny().conventions.selection  # above 0.05, the best 100
THREE = Categories(["ring", "bar", "blob"], [7, 20, 3])
IMAGE = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


def wanted(classes=None, threshold=None, most=None, categories=THREE):
    return Wanted.of(categories, classes, threshold, most, RULE)


@pytest.mark.parametrize(
    ("classes", "threshold", "lowest"),
    [
        (None, None, None),
        (None, 0.5, (0.5, 0.5, 0.5)),
        (["bar"], None, (math.inf, 0.05, math.inf)),
        ("bar", 0.3, (math.inf, 0.3, math.inf)),
        ([20, "blob"], 0, (math.inf, 0.0, 0.0)),
        (np.array([7, 3]), 1, (1.0, math.inf, 1.0)),
        (None, {"bar": 0.3}, (0.05, 0.3, 0.05)),
        (None, {7: 0.3, "*": 0.6}, (0.3, 0.6, 0.6)),
        ({"ring"}, {"bar": 0.3, "*": 0.6}, (0.6, math.inf, math.inf)),
        (["3"], None, (math.inf, math.inf, 0.05)),
    ],
)
def test_the_lowest_score_of_each_class(classes, threshold, lowest) -> None:
    assert wanted(classes, threshold) == (lowest, None)


def test_names_go_before_ids_and_a_class_may_be_called_as_the_others_are() -> None:
    odd = Categories(["2", "*", "a,b"])
    assert label_of(odd, "2") == 0
    assert label_of(odd, 2) == 1
    assert wanted(None, {"*": 0.5}, categories=odd).lowest == (0.05, 0.5, 0.05)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"classes": ["persn"], "categories": COCO}, UnknownName, "did you mean person?"),
        ({"classes": ["Person"], "categories": COCO}, UnknownName, "did you mean person?"),
        ({"classes": ["unicorn"], "categories": THREE}, UnknownName, "ring, bar, blob"),
        ({"classes": [12]}, UnknownName, "no category has the id 12"),
        ({"classes": ["12"]}, UnknownName, "no category has the id 12"),
        ({"classes": []}, UsageError, "classes is empty"),
        ({"classes": [1.5]}, WrongType, "by its name or its id, not as 1.5"),
        ({"classes": [True]}, WrongType, "by its name or its id, not as True"),
        ({"threshold": 1.5}, UsageError, "threshold 1.5: give a score from 0 to 1"),
        ({"threshold": math.nan}, UsageError, "threshold nan: give a score from 0 to 1"),
        ({"threshold": {"bar": -1}}, UsageError, "threshold -1: give a score from 0 to 1"),
        ({"threshold": {"bra": 0.5}}, UnknownName, "did you mean bar?"),
        ({"threshold": "0.5"}, WrongType, "not '0.5'"),
        ({"threshold": True}, WrongType, "not True"),
        ({"most": 0}, UsageError, "max_detections 0: give 1 to 100,000"),
        ({"most": 10**6}, UsageError, "max_detections 1000000: give 1 to 100,000"),
        ({"most": 2.0}, WrongType, "max_detections: give a whole number, not 2.0"),
        ({"most": True}, WrongType, "max_detections: give a whole number, not True"),
    ],
)
def test_what_cannot_be_wanted_is_said(arguments, error, words) -> None:
    with pytest.raises(error) as refused:
        wanted(**arguments)
    assert words in str(refused.value)


def test_the_network_is_asked_for_what_it_would_drop() -> None:
    assert wanted().asks(RULE) is RULE
    assert wanted(None, 0.05, 100).asks(RULE) is RULE
    assert wanted(None, {"bar": 0.01, "*": 0.5}, 30).asks(RULE) == RULE.model_copy(update={"score_thresh": 0.01})
    assert wanted(["ring"], {"bar": 0.01}).asks(RULE) is RULE
    assert wanted(None, None, 300).asks(RULE) == RULE.model_copy(update={"detections_per_img": 300})


@pytest.fixture(scope="module")
def model():
    return lively(tiny())


def rows(found):
    return list(zip(found.labels.tolist(), found.scores.tolist(), map(tuple, found.boxes.tolist()), strict=True))


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("options", [{}, {"tta": TTASettings(scales=())}])
def test_predict_keeps_what_is_wanted(model, options, optimize) -> None:
    model = model.optimize("cpu") if optimize else model
    names = model.categories
    every = model.predict(IMAGE, **options)
    middle = float(every.scores.median())
    first, second = every.labels[0].item(), next(label for label in every.labels.tolist() if label != every.labels[0])
    for asked, kept in (
        ({"threshold": middle}, every.scores >= middle),
        ({"classes": [names[second]]}, every.labels == second),
        ({"max_detections": 3}, torch.arange(len(every)) < 3),
        (
            {"classes": [names[first], names[second]], "threshold": {names[first]: middle}, "max_detections": 4},
            ((every.labels == second) | ((every.labels == first) & (every.scores >= middle))),
        ),
    ):
        found, expected = model.predict(IMAGE, **options, **asked), every[kept][: asked.get("max_detections")]
        assert 0 < len(found) < len(every)
        assert rows(found) == rows(expected)
        assert (found.masks != expected.masks).sum() <= 2  # fewer masks go through the heads together
        assert found.masks.any()


@pytest.mark.parametrize("optimize", [False, True])
def test_predict_reaches_below_and_beyond_what_the_model_keeps(model, optimize) -> None:
    rule = RULE.model_copy(update={"score_thresh": 0.25, "detections_per_img": 40})
    conventions = tiny().conventions.model_copy(update={"selection": rule})
    strict = lively(tiny(conventions=conventions.model_dump()))
    if optimize:
        strict = strict.optimize("cpu", exact=True)
        model = model.optimize("cpu", exact=True)
    every = strict.predict(IMAGE)
    assert every.scores.min() > 0.25
    lower = strict.predict(IMAGE, threshold=0.2)
    assert len(every) < len(lower) == 40
    assert rows(lower)[: len(every)] == rows(every)
    more = strict.predict(IMAGE, threshold=0.2, max_detections=300)
    assert len(more) > 40
    assert rows(more) == rows(model.predict(IMAGE, threshold=0.2))
    assert rows(strict.predict(IMAGE)) == rows(every)  # the model itself is as it was
    assert strict.spec.conventions.selection == rule


def test_a_batch_of_several_images_keeps_what_each_alone_would(model) -> None:
    images = [IMAGE, IMAGE[::-1].copy(), IMAGE[:, ::-1].copy()]
    threshold = float(model.predict(IMAGE).scores[10])
    together = model.predict(images, batch_size=3, threshold=threshold)
    for image, found in zip(images, together, strict=True):
        alone = model.predict(image, threshold=threshold)
        assert found.labels.tolist() == alone.labels.tolist()
        torch.testing.assert_close(found.boxes, alone.boxes, atol=1e-3, rtol=0)
    assert len({len(found) for found in together}) > 1


def test_nothing_wanted_is_there(model) -> None:
    found = model.predict(IMAGE, threshold=1.0)
    assert len(found) == 0
    assert found.masks.shape == (0, 60, 90)


@pytest.mark.timeout(10)
def test_p14_many_classes_are_found_in_one_go() -> None:
    """16,000 classes took half a minute each time, for each name was looked for among all."""
    many = Categories([f"class {number}" for number in range(16_000)])
    for given in (list(many), list(many.ids)):
        assert Wanted.of(many, given, None, None, RULE).lowest == (RULE.score_thresh,) * 16_000
    assert Wanted.of(many, None, dict.fromkeys(many, 0.5), None, RULE).lowest == (0.5,) * 16_000
    assert chosen(many, [f"-{name}" for name in many[1:]], "a file") == Categories([many[0]])
