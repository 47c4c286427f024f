"""docs/torchvision.md: its lines, run as they stand there, make torchvision's code right.

What torchvision's evaluation does with outputs is written after pytorch/vision ``references/detection/coco_eval.py``
(BSD-3-Clause): ``prepare_for_coco_detection``, ``prepare_for_coco_segmentation``.
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from small_coco import NAME, tiny_load, write_coco

from cascadezoo.coco.categories import Categories
from cascadezoo.coco.evaluation import evaluate
from cascadezoo.images import read_image

PAGE = Path(__file__).parents[1] / "docs" / "torchvision.md"
EVALUATION, FROM_ONE, FROM_IDS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A data set whose objects are, some of them moved, what the model finds; the model; its outputs by image id."""
    root = write_coco(tmp_path_factory.mktemp("coco"))
    truth = root / "annotations" / "instances_val2017.json"
    document = json.loads(truth.read_text())
    model = tiny_load(NAME).eval()
    model.categories = Categories.from_coco(document["categories"])
    outputs = {}
    for image in document["images"]:
        pixels = read_image(root / "val2017" / image["file_name"])
        with torch.no_grad():
            (outputs[image["id"]],) = model([torch.from_numpy(pixels).permute(2, 0, 1)])
    return truth, model, outputs


def theirs(outputs: dict[int, dict[str, torch.Tensor]]) -> list[dict]:
    """COCO results as torchvision's evaluator makes them of a model's outputs."""
    results = []
    for image_id, output in outputs.items():
        x1, y1, x2, y2 = output["boxes"].unbind(1)
        boxes = torch.stack((x1, y1, x2 - x1, y2 - y1), dim=1).tolist()
        scores, labels = output["scores"].tolist(), output["labels"].tolist()
        masks = output["masks"] > 0.5
        rles = [coco_mask.encode(np.array(mask[0, :, :, np.newaxis], dtype=np.uint8, order="F"))[0] for mask in masks]
        for box, score, label, rle in zip(boxes, scores, labels, rles, strict=True):
            segmentation = {"size": rle["size"], "counts": rle["counts"].decode()}
            results.append(
                {"image_id": image_id, "category_id": label, "bbox": box, "score": score, "segmentation": segmentation}
            )
    return results


def run(lines: str, **names: object) -> None:
    exec(lines, {"torch": torch, **names})


def test_T14_torchvisions_evaluation_is_right_after_the_two_lines(found):
    truth, model, outputs = found
    copies = {image_id: dict(output) for image_id, output in outputs.items()}
    run(EVALUATION, model=model, outputs=list(copies.values()))
    figures = evaluate(truth, theirs(copies))
    document = json.loads(truth.read_text())
    own = [
        result
        for image in document["images"]
        for result in model.predict(truth.parents[1] / "val2017" / image["file_name"]).to_coco(image["id"])
    ]
    ours = evaluate(truth, own)
    for kind in ("bbox", "segm"):
        assert figures[kind]["AP"] == pytest.approx(ours[kind]["AP"], abs=0.01)
    assert figures["bbox"]["AP"] > 20  # some objects are found, so that a wrong label is seen


@pytest.mark.parametrize("left_out", [1, 2])
def test_T14_without_either_line_it_is_wrong(found, left_out):
    """As people find it: labels from 0 are taken for other classes, and (D, H, W) lacks an axis."""
    truth, model, outputs = found
    copies = {image_id: dict(output) for image_id, output in outputs.items()}
    lines = EVALUATION.splitlines()
    del lines[left_out]
    run("\n".join(lines), model=model, outputs=list(copies.values()))
    if left_out == 2:
        with pytest.raises(IndexError):
            theirs(copies)
        return
    known = set(model.categories.ids)
    wrong = evaluate(truth, [result for result in theirs(copies) if result["category_id"] in known])
    run(EVALUATION, model=model, outputs=(right := [dict(output) for output in outputs.values()]))
    correct = evaluate(truth, theirs(dict(zip(outputs, right, strict=True))))
    assert wrong["bbox"]["AP"] < correct["bbox"]["AP"] / 4


def test_T14_labels_of_targets_from_one():
    targets = [{"labels": torch.tensor([1, 3, 2])}, {"labels": torch.zeros(0, dtype=torch.int64)}]
    run(FROM_ONE, targets=targets)
    assert [target["labels"].tolist() for target in targets] == [[0, 2, 1], []]


class Model:
    categories = Categories(["box", "disc", "bar"], [3, 7, 40])


def test_T14_labels_of_targets_that_are_category_ids():
    targets = [{"labels": torch.tensor([40, 3])}]
    run(FROM_IDS, model=Model, targets=targets)
    assert targets[0]["labels"].tolist() == [2, 0]
