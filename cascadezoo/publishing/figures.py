"""The accuracy that a model card shows: from the publisher's page, or from a report, and marked as which."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cascadezoo.benchmarks.reports.markdown import is_web_address, words
from cascadezoo.benchmarks.reports.schema import read_report
from cascadezoo.benchmarks.reports.verdict import Verdict
from cascadezoo.coco import metrics
from cascadezoo.coco.metrics import HUNDREDTH, METRICS, Measured, rounded
from cascadezoo.errors import UsageError
from cascadezoo.manifest import ZooEntry
from cascadezoo.spec.record import Record

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

COCO = "COCO val2017"
_NAMES = {"coco": COCO, "nuimages": "nuImages val"}

_ON_THE_HUB = {COCO: "detection-datasets/coco"}
_WHOLE = (Verdict.PASS, Verdict.FAIL, Verdict.NO_REFERENCE)  # all images were measured


class Row(Record):
    """One evaluation: percent by metric, at the digits to show."""

    tta: bool
    values: dict[str, Decimal]


class Figures(Record):
    """The accuracy of weights on one data set, and its source.

    Attributes:
        basis: "published" by the publisher, or "measured" with these weights.
        dataset: its name.
        rows: one per evaluation.
        source_name: for people.
        source_url: the publisher's page, or the report; None: it has no address.
    """

    basis: Literal["published", "measured"]
    dataset: str
    rows: tuple[Row, ...]
    source_name: str
    source_url: str | None


def published(entry: ZooEntry) -> Figures:
    """The figures of the entry on its publisher's page, digit for digit; an embedded entry's were measured here."""
    later, ours = entry.evaluations[0].basis == "later", entry.availability == "embedded"
    table = f'the publisher\'s table "{entry.source.table}"' if not ours else "cascadezoo's own evaluation"
    return Figures(
        basis="measured" if ours else "published",
        dataset=_NAMES.get(entry.data, entry.data),
        rows=tuple(Row(tta=each.tta, values=metrics.published(each)) for each in entry.evaluations),
        source_name=entry.later_figures[0].evidence if later else table,
        source_url=entry.page_url,
    )


def measured(report: Path, entry: ZooEntry, digest: str, url: str) -> Figures:
    """The figures of the entry, with weights of this content digest, in a report of ``cascadezoo verify``.

    ``url`` is where the report will lie.  Raises MissingResource, FileError for a file that is no such report, and
    UsageError for one without a complete evaluation of these weights.
    """
    of_entry = next((each for each in read_report(report).entries if each.name == entry.name), None)
    whole = [each for each in of_entry.accuracy if each.verdict in _WHOLE and each.figures] if of_entry else []
    if of_entry is None or not whole:
        raise UsageError(f"{report} holds no complete evaluation of {entry.name}: run `cascadezoo verify {entry.name}`")
    if of_entry.weights_digest != digest:
        raise UsageError(
            f"{report} measured weights of {entry.name} with content digest {of_entry.weights_digest}, not {digest}: "
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

    url = figures.source_url  # the Hub takes a source's name with its address only
    linked = url is not None and is_web_address(url)
    return [
        EvalResult(
            task_type=METRICS[field].hub_task,
            dataset_type=_ON_THE_HUB.get(figures.dataset, words(figures.dataset)),
            dataset_name=words(figures.dataset),
            dataset_split="validation",
            metric_type="precision",  # the Hub has no identifier for COCO's average precision
            metric_name=METRICS[field].long_name + (", test-time augmentation" if row.tta else ""),
            metric_value=float(value / 100),
            source_name=words(f"{figures.basis}: {figures.source_name}") if linked else None,
            source_url=url if linked else None,
        )
        for row in figures.rows
        for field, value in row.values.items()
    ]


def _rounded(figures: Measured) -> Iterator[tuple[str, Decimal]]:
    for field, metric in METRICS.items():
        value = metric.of(figures)
        if value is not None:
            yield field, rounded(value, HUNDREDTH)
