"""The accuracy that a model card shows: from the publisher's page, or from a report, and marked as which."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import BaseModel, ValidationError

from cascadezoo.errors import FileError, MissingResource, UsageError
from cascadezoo.manifest import ZooEntry
from cascadezoo.spec.record import Record

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

COCO = "COCO val2017"

_ON_THE_HUB = {COCO: "detection-datasets/coco"}


class Metric(NamedTuple):
    """A figure of the manifest: where a report has it, the task and the name the Hub knows it by, its column."""

    kind: str
    key: str
    task: str
    name: str
    heading: str


METRICS = {
    "box_ap": Metric("bbox", "AP", "object-detection", "box AP@[.50:.95]", "box AP"),
    "box_ap50": Metric("bbox", "AP50", "object-detection", "box AP@.50", "box AP50"),
    "box_ap75": Metric("bbox", "AP75", "object-detection", "box AP@.75", "box AP75"),
    "mask_ap": Metric("segm", "AP", "image-segmentation", "mask AP@[.50:.95]", "mask AP"),
    "mask_ap50": Metric("segm", "AP50", "image-segmentation", "mask AP@.50", "mask AP50"),
    "mask_ap75": Metric("segm", "AP75", "image-segmentation", "mask AP@.75", "mask AP75"),
}

# the page of a publisher whose table links no configuration by its whole address
_PAGES = {
    "internimage": "https://github.com/OpenGVLab/InternImage/tree/master/detection/configs/coco",
    "detectron": "https://github.com/zhaoweicai/Detectron-Cascade-RCNN",
}


class Row(Record):
    """One evaluation: percent by metric, with as many digits as its source gives."""

    tta: bool
    values: dict[str, Decimal]


class Figures(Record):
    """What is known of the accuracy of some weights, on which data set, and who says so."""

    basis: Literal["published", "measured"]
    dataset: str
    rows: tuple[Row, ...]
    source_name: str
    source_url: str


def published(entry: ZooEntry) -> Figures:
    """What the publisher's page says of the entry, digit for digit."""
    later = entry.evaluations[0].basis == "later"
    return Figures(
        basis="published",
        dataset=COCO,
        rows=tuple(
            Row(tta=each.tta, values={field: value for field in METRICS if (value := getattr(each, field))})
            for each in entry.evaluations
        ),
        source_name=entry.later_figures[0].evidence if later else f'the publisher\'s table "{entry.source.table}"',
        source_url=page_of(entry),
    )


def page_of(entry: ZooEntry) -> str:
    """The publisher's page with the entry's table: the folder of its configuration."""
    config = entry.source.config_url or ""
    return config.rpartition("/")[0] if config.startswith("http") else _PAGES[entry.publisher]


def measured(report: Path, entry: ZooEntry, digest: str, url: str) -> Figures:
    """What a report of ``cascadezoo verify`` says of the entry with weights of this content digest.

    ``url`` is where the report will lie.  Raises MissingResource, FileError for a file that is no such report, and
    UsageError for one without a complete evaluation of these weights.
    """
    found = next((each for each in _read(report).entries if each.name == entry.name), None)
    whole = [each for each in found.accuracy if each.verdict in _WHOLE and each.figures] if found else []
    if found is None or not whole:
        raise UsageError(f"{report} holds no complete evaluation of {entry.name}: run `cascadezoo verify {entry.name}`")
    if found.weights_digest != digest:
        raise UsageError(
            f"{report} measured weights of {entry.name} with content digest {found.weights_digest}, not {digest}: "
            "verify the file that you publish"
        )
    return Figures(
        basis="measured",
        dataset=whole[0].dataset or "unnamed data set",
        rows=tuple(Row(tta=each.tta, values=dict(_rounded(each.figures))) for each in whole),
        source_name="report of cascadezoo verify",
        source_url=url,
    )


def eval_results(figures: Figures) -> list["EvalResult"]:
    """The figures as a model card's ``model-index`` has them, in fractions of 1."""
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type=METRICS[field].task,
            dataset_type=_ON_THE_HUB.get(figures.dataset, figures.dataset),
            dataset_name=figures.dataset,
            dataset_split="validation",
            metric_type="precision",  # the Hub has no identifier for COCO's average precision
            metric_name=METRICS[field].name + (", test-time augmentation" if row.tta else ""),
            metric_value=float(value / 100),
            source_name=f"{figures.basis}: {figures.source_name}",
            source_url=figures.source_url,
        )
        for row in figures.rows
        for field, value in row.values.items()
    ]


# what is read of a report; the whole of it is benchmarks/reports/schema.py, which stands above this room
_WHOLE = ("PASS", "FAIL", "NO-REFERENCE")


class _Evaluation(BaseModel):
    tta: bool
    verdict: str
    figures: dict[str, dict[str, float | None]]
    dataset: str | None


class _Entry(BaseModel):
    name: str
    weights_digest: str | None
    accuracy: tuple[_Evaluation, ...]


class _Report(BaseModel):
    format: Literal["cascadezoo verify 1"]
    entries: tuple[_Entry, ...]


def _read(path: Path) -> _Report:
    try:
        return _Report.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise MissingResource(f"{path}: no such report") from error
    except ValidationError as error:
        raise FileError(f"{path} is not a report of `cascadezoo verify` ({error.errors()[0]['msg']})") from error


def _rounded(figures: dict[str, dict[str, float | None]]) -> Iterator[tuple[str, Decimal]]:
    for field, metric in METRICS.items():
        value = figures.get(metric.kind, {}).get(metric.key)
        if value is not None:
            yield field, Decimal(repr(value)).quantize(Decimal("0.01"))
