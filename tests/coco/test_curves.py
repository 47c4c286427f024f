"""Figures of each class and precision-recall curves, worked by hand, from both evaluators."""

import copy
import io
from contextlib import redirect_stdout

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cascadezoo.coco.curves import IOUS, METRICS, RECALLS
from cascadezoo.coco.evaluation import EVALUATORS, evaluate_fully

from scored import hit, thing, truth_of

BOX, OTHER = (10, 10, 40, 40), (100, 100, 40, 40)


def three_classes() -> tuple[dict, list[dict]]:
    """Cats: two objects, one found with IoU 32/40 = .8 after a detection of nothing.  A dog, not found, and a crowd.
    No cow, which is detected all the same."""
    things = [thing(1, 1, BOX), thing(2, 1, BOX), thing(1, 2, OTHER), thing(2, 2, OTHER, crowd=1)]
    results = [hit(1, 1, (150, 10, 40, 40), 0.9), hit(1, 1, (10, 10, 40, 32), 0.8), hit(2, 3, OTHER, 0.7)]
    return truth_of(things, 2, ("cat", "dog", "cow")), results


@pytest.mark.parametrize("evaluator", sorted(EVALUATORS))
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_figures_of_each_class_worked_by_hand(evaluator: str, kind) -> None:
    """Of the cats one of two is found, at precision 1/2: 51 of 101 recall points, at the seven thresholds to .80."""
    truth, results = three_classes()
    before = copy.deepcopy((truth, results))
    found = evaluate_fully(truth, results, [kind], evaluator=evaluator)[kind]
    assert (truth, results) == before
    cat, dog, cow = found.classes
    assert [(one.category_id, one.name, one.objects) for one in found.classes] == [
        (1, "cat", 2), (2, "dog", 1), (3, "cow", 0)
    ]  # fmt: skip
    ap50 = 100 * 51 / 101 / 2
    assert (cat.figures["AP50"], cat.figures["AP"]) == pytest.approx((ap50, 0.7 * ap50))
    assert (cat.figures["APm"], cat.figures["AR100"]) == pytest.approx((0.7 * ap50, 0.7 * 50))
    assert (dog.figures["AP"], dog.figures["AR1"]) == (0, 0)
    assert set(cow.figures.values()) == {None}
    assert cat.figures["APs"] is None
    assert found.figures["AP50"] == pytest.approx(ap50 / 2)  # the mean of cat and dog


@pytest.mark.parametrize("evaluator", sorted(EVALUATORS))
def test_curves_worked_by_hand(evaluator: str) -> None:
    truth, results = three_classes()
    found = evaluate_fully(truth, results, ["bbox"], evaluator=evaluator)["bbox"]
    half = np.where(np.arange(101) <= 50, 0.5, 0)
    assert found.curve(0.5, 0) == pytest.approx(half)
    assert found.curve(0.75, 0) == pytest.approx(half)
    assert found.curve(0.85, 0) == pytest.approx(0 * half)
    assert found.curve(None, 0) == pytest.approx(0.7 * half)
    assert found.curve(0.5) == pytest.approx(half / 2)
    assert np.isnan(found.curve(0.5, 2)).all()
    assert found.precision.shape == (len(IOUS), len(RECALLS), 3)
    assert (RECALLS[0], RECALLS[50], RECALLS[-1]) == (0, 0.5, 1)
    nothing = evaluate_fully(truth_of([]), [], ["bbox"], evaluator=evaluator)["bbox"]
    assert np.isnan(nothing.curve()).all()


@pytest.mark.parametrize("evaluator", sorted(EVALUATORS))
def test_only_chosen_images_and_classes_count(evaluator: str) -> None:
    truth, results = three_classes()
    found = evaluate_fully(truth, results, ["bbox"], [1], evaluator, category_ids=[1])["bbox"]
    assert [(one.name, one.objects) for one in found.classes] == [("cat", 1)]
    assert found.figures["AP50"] == pytest.approx(50)


def test_the_twelve_figures_are_those_that_pycocotools_prints() -> None:
    """To the last bit."""
    truth, results = three_classes()
    with redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {"info": {}, **copy.deepcopy(truth)}
        coco.createIndex()
        run = COCOeval(
            coco, coco.loadRes([{k: v for k, v in r.items() if k != "segmentation"} for r in results]), "bbox"
        )
        run.evaluate()
        run.accumulate()
        run.summarize()
    figures = evaluate_fully(truth, results, ["bbox"])["bbox"].figures
    assert [-1 if figures[name] is None else figures[name] for name in METRICS] == [
        100 * value if value > -1 else -1 for value in run.stats
    ]
