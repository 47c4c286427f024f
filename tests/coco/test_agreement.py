"""hotcoco, the default evaluator, against pycocotools, the reference: equal to the last bit, or refused alike."""

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascadezoo.coco.evaluation import evaluate_fully
from cascadezoo.errors import UsageError

from scored import SIDE, drawn_by_lot, hit, rle, thing, truth_of

BOX = (10, 10, 40, 40)


def require_equal(truth: dict, results: list[dict], **options: Any) -> None:
    for kind in ("bbox", "segm"):
        ours, theirs = (
            evaluate_fully(truth, results, [kind], evaluator=name, **options)[kind]
            for name in ("hotcoco", "pycocotools")
        )
        assert (ours.figures, ours.classes) == (theirs.figures, theirs.classes)
        assert np.array_equal(ours.precision, theirs.precision)


@pytest.mark.parametrize("seed", range(24))
def test_what_is_drawn_by_lot_is_scored_equally(seed: int) -> None:
    truth, results = drawn_by_lot(seed)
    require_equal(truth, results)
    require_equal(truth, results, image_ids=[image["id"] for image in truth["images"]][::2])


def test_the_lots_are_worth_evaluating() -> None:
    """All sizes, crowds, and figures that are neither 0 nor 100."""
    figures = [evaluate_fully(*drawn_by_lot(seed), ["segm"])["segm"].figures for seed in range(24)]
    for name in ("AP", "APs", "APm", "APl"):
        assert sum(figure[name] is not None and 0 < figure[name] < 100 for figure in figures) >= 5
    assert any(one["iscrowd"] for one in drawn_by_lot(0)[0]["annotations"])


TWO = [thing(1, 1, BOX), thing(2, 1, BOX)]
CASES: dict[str, tuple[dict, list[dict]]] = {
    "nothing found": (truth_of(TWO, 2), []),
    "nothing annotated": (truth_of([], 2), [hit(1, 1, BOX, 0.5)]),
    "no images": (truth_of([], 0), []),
    "no classes": (truth_of([], 1, ()), []),
    "a class that is not annotated": (truth_of(TWO, 2), [hit(1, 2, BOX, 0.5)]),
    "crowds alone": (truth_of([thing(1, 1, BOX, 1)]), [hit(1, 1, BOX, 0.5)]),
    "150 of equal scores": (
        truth_of([thing(1, 1, (i * 20, i * 20, 40, 40)) for i in range(7)]),
        [hit(1, 1, (i % 7 * 20, i % 5 * 30, 40, 40), 0.5) for i in range(150)],
    ),
    "equal scores over images": (
        truth_of(TWO, 2),
        [hit(2, 1, (0, 0, 40, 40), 0.5), hit(1, 1, BOX, 0.5), hit(2, 1, BOX, 0.5), hit(1, 1, (0, 0, 9, 9), 0.5)],
    ),
    "an object twice": (truth_of([TWO[0], TWO[0]]), [hit(1, 1, BOX, 0.5), hit(1, 1, BOX, 0.5)]),
    "a crowd over an object": (
        truth_of([TWO[0], thing(1, 1, (0, 0, 150, 150), 1)]), [hit(1, 1, BOX, 0.5), hit(1, 1, BOX, 0.4)],
    ),
    "to be ignored": (truth_of([TWO[0] | {"ignore": 1}]), []),
    "keys of no result": (truth_of(TWO, 2), [hit(1, 1, BOX, 0.5) | {"id": 7, "area": 3, "iscrowd": 1, "caption": "x"}]),
    "an area without end": (truth_of([TWO[0] | {"area": 1e10}]), [hit(1, 1, BOX, 0.5)]),
}  # fmt: skip
CASES |= {
    f"area {area}": (truth_of([TWO[0] | {"area": area}]), [hit(1, 1, BOX, 0.5)])
    for area in (0, 1023.99, 1024, 1024.0000001, 9216, 9216.01)
}
CASES |= {
    f"IoU {percent}": (truth_of([thing(1, 1, (10, 10, 100, 100))]), [hit(1, 1, (10, 10, percent, 100), 0.5)])
    for percent in range(50, 100, 5)
}
CASES |= {
    f"score {score}": (truth_of(TWO, 2), [hit(1, 1, (0, 0, 9, 9), 0.5), hit(2, 1, BOX, score), hit(1, 1, BOX, 0)])
    for score in (-1.0, -0.0, 0, 2, 5e-324, 1e300)
}
CASES |= {
    f"box {box}": (truth_of(TWO, 2), [hit(1, 1, BOX, 0.5) | {"bbox": box}])
    for box in ([10, 10, 0, 0], [10, 10, -5, 40], [1e300, 10, 40, 40], [-100, -100, 400, 400], [10.5, 10.25, 40.1, 39])
}


@pytest.mark.parametrize("case", CASES)
def test_the_edges_of_what_is_valid_are_scored_equally(case: str) -> None:
    truth, results = copy.deepcopy(CASES[case])
    require_equal(truth, results)


def test_no_image_chosen_is_nothing_annotated() -> None:
    truth, results = truth_of(TWO, 2), [hit(1, 1, BOX, 0.5)]
    require_equal(truth, results, image_ids=[])
    assert set(evaluate_fully(truth, results, ["bbox"], [])["bbox"].figures.values()) == {None}


WRONG: list[tuple[dict, str]] = [
    ({"score": float("nan")}, "result 1: score: a finite number is wanted, not NaN"),
    ({"score": float("inf")}, "result 1: score: "),
    ({"score": True}, "result 1: score: "),
    ({"score": "0.5"}, "result 1: score: "),
    ({"score": None}, "result 1: score: "),
    ({"image_id": "1"}, "result 1: image_id: a number is wanted"),
    ({"image_id": [1]}, "result 1: image_id: "),
    ({"image_id": 10**400}, "result 1: image_id: "),
    ({"image_id": 3}, "the results have image_id 3, which the truth lacks"),
    ({"category_id": None}, "result 1: category_id: "),
    ({"category_id": 3}, "the results have category_id 3"),
    ({"bbox": None}, "result 1: bbox: four finite numbers"),
    ({"bbox": [1, 2, 3]}, "result 1: bbox: "),
    ({"bbox": [1, 2, 3, 4, 5]}, "result 1: bbox: "),
    ({"bbox": ["1", 2, 3, 4]}, "result 1: bbox: "),
    ({"bbox": [float("nan"), 2, 3, 4]}, "result 1: bbox: "),
    ({"bbox": [1, 2, float("inf"), 4]}, "result 1: bbox: "),
    ({"segmentation": None}, "result 1 has no segmentation"),
    ({"segmentation": []}, "result 1: segmentation: a compressed RLE"),
    ({"segmentation": [[1, 1, 9, 1, 9, 9]]}, "result 1: segmentation: "),
    ({"segmentation": {"size": [SIDE, SIDE], "counts": [SIDE * SIDE]}}, "result 1: segmentation: "),
    ({"segmentation": {"size": [SIDE, SIDE]}}, "result 1: segmentation: "),
    ({"segmentation": {"counts": "11"}}, "result 1: segmentation: "),
    ({"segmentation": rle([[1, 1, 9, 1, 9, 9]]) | {"size": [9, 9]}}, "result 1: segmentation: "),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_what_is_no_sound_result_is_refused_whoever_would_evaluate_it(number: int) -> None:
    change, message = WRONG[number]
    results = [hit(1, 1, BOX, 0.5), hit(1, 1, BOX, 0.5) | change]
    for evaluator in ("hotcoco", "pycocotools"):
        with pytest.raises(UsageError, match=message.replace("(", r"\(")):
            evaluate_fully(truth_of(TWO, 2), results, evaluator=evaluator)


FORKED = """
import os, signal, sys
from cascadezoo.coco.evaluation import default_evaluator, evaluate_fully
from cascadezoo.errors import UsageError
from scored import drawn_by_lot
truth, results = drawn_by_lot(3)
figures = evaluate_fully(truth, results, ["bbox"])["bbox"].figures
assert default_evaluator() == "hotcoco"
if child := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
signal.alarm(100)  # should it wait for ever
assert default_evaluator() == "pycocotools"
assert evaluate_fully(truth, results, ["bbox"])["bbox"].figures == figures
try:
    evaluate_fully(truth, results, ["bbox"], evaluator="hotcoco")
except UsageError as error:
    os._exit(7 if "before this process was forked" in str(error) else 8)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_fork_of_a_process_where_hotcoco_ran_does_not_wait_for_it() -> None:
    paths = os.pathsep.join(filter(None, (str(Path(__file__).parents[1]), *sys.path)))
    done = subprocess.run(
        [sys.executable, "-c", FORKED], env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True
    )
    assert done.returncode == 7, done.stderr
