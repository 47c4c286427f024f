"""The analysis of COCO results: one for ``cascadezoo verify`` and for ``cascadezoo analyse`` of any results file."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import Any

from cascadezoo.coco.confusion import IOU, SCORE, ConfusionMatrix, ImageMatches, matches, matrix_of
from cascadezoo.coco.curves import Evaluation
from cascadezoo.coco.error_kinds import ErrorBreakdown, error_breakdown
from cascadezoo.coco.evaluation import Kind, Truth, evaluate_fully
from cascadezoo.coco.overlaps import overlaps

WORST = 12  # images


@dataclass(frozen=True)
class Analysis:
    """What is known of boxes, or of masks.

    Attributes:
        evaluation: COCO's figures, those of each class, and the curves.
        confusion: which class is taken for which, by detections of at least ``confusion.score``.
        errors: the mistakes by kind, and what each costs.
        worst: the images with the most mistakes in the matrix (``ImageMatches.mistakes``), the worst first and of
            equals the first in the file; images without any are not among them.
        images: how many counted.
        detections: how many results there are on them.
    """

    kind: Kind
    evaluation: Evaluation
    confusion: ConfusionMatrix
    errors: ErrorBreakdown
    worst: tuple[ImageMatches, ...]
    images: int
    detections: int


def analyse(
    truth: Truth,
    results: Sequence[Mapping[str, Any]],
    kinds: Sequence[Kind],
    *,
    image_ids: Iterable[int] | None = None,
    evaluator: str | None = None,
    score: float = SCORE,
    worst: int = WORST,
    evaluations: Mapping[Kind, Evaluation] | None = None,
) -> dict[Kind, Analysis]:
    """The analysis of each kind.

    Args:
        truth: as ``cascadezoo.coco.evaluation.read_truth`` gives it for these kinds.
        results: COCO results.
        kinds: "bbox", "segm" or both.
        image_ids: the images that count; default: all.
        evaluator: of the average precision; default: as ``evaluate_fully``.
        score: the threshold of the confusion matrix, and with it of the worst images.
        worst: how many images at most.
        evaluations: what ``evaluate_fully`` gave for the same, where it is there already.

    Raises as ``evaluate_fully``.
    """
    chosen = {image["id"] for image in truth["images"]} if image_ids is None else set(image_ids)
    if evaluations is None:
        evaluations = evaluate_fully(truth, results, kinds, chosen, evaluator)
    own = [result for result in results if result["image_id"] in chosen]
    categories = sorted((item["id"], item["name"]) for item in truth["categories"])
    found: dict[Kind, Analysis] = {}
    for kind in kinds:
        matched = list(matches(overlaps(truth, own, kind, chosen, score), IOU))
        with_mistakes = [image for image in matched if image.mistakes]
        found[kind] = Analysis(
            kind=kind,
            evaluation=evaluations[kind],
            confusion=matrix_of(categories, matched, kind, score, IOU),
            errors=error_breakdown(truth, own, kind, chosen),
            worst=tuple(nsmallest(worst, with_mistakes, key=lambda image: -image.mistakes)),
            images=len(chosen),
            detections=len(own),
        )
    return found
