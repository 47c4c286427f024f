"""One figure shows the same digits wherever it is printed: halves are rounded up, as one does by hand."""

import re
from decimal import Decimal

import pytest
from sample_report import accuracy_of, report_of

from cascadezoo.benchmarks.reports.html import html
from cascadezoo.benchmarks.reports.markdown import markdown
from cascadezoo.benchmarks.reports.rows import entry_details
from cascadezoo.benchmarks.reports.verdict import Verdict
from cascadezoo.coco.curves import METRICS as COCO_FIGURES
from cascadezoo.coco.metrics import METRICS, published, rounded
from cascadezoo.manifest import Scores

# measured, as published and agreeing at tolerance 0, at two digits, at three digits
HALVES = [
    (45.125, "45.13", "45.13", "45.125"),  # an even digit before the half
    (45.135, "45.14", "45.14", "45.135"),  # an odd one; stored as 45.134999…
    (44.95, "45.0", "44.95", "44.950"),
    (0.05, "0.1", "0.05", "0.050"),
    (45.1235, "45.1", "45.12", "45.124"),
    (45.1245, "45.1", "45.12", "45.125"),  # half even gives 45.124
]


@pytest.mark.parametrize(("measured", "digits", "expected"), [
    (45.125, "0.01", "45.13"), (45.135, "0.01", "45.14"), (45.145, "0.01", "45.15"), (44.95, "0.1", "45.0"),
    (0.05, "0.1", "0.1"), (0.04999, "0.1", "0.0"), (99.5, "1", "100"), (0.0, "0.01", "0.00"), (37.0, "0.001", "37.000"),
    (1e-7, "0.01", "0.00"),
])  # fmt: skip
def test_v7_halves_go_up(measured: float, digits: str, expected: str) -> None:
    assert str(rounded(measured, Decimal(digits))) == expected


@pytest.mark.parametrize(("measured", "printed", "two", "three"), HALVES)
def test_v7_every_place_shows_the_same_digits(measured: float, printed: str, two: str, three: str) -> None:
    part = accuracy_of({"box_ap": printed}, {"bbox": {"AP": measured}}, tolerance="0")
    report = report_of(part)
    assert (part.verdict, str(part.checks[0].rounded)) == (Verdict.PASS, printed)
    assert f"| PASS | {two} ({printed}) |" in markdown(report)
    assert f">{two} ({printed})</td>" in html(report)
    assert dict(entry_details(report.entries[0]))["bbox, plain, 5000 images, 9 detections"] == [("AP", three)]


@pytest.mark.parametrize(("measured", "shown"), [(45.125, "45.13"), (45.135, "45.14")])
def test_a_failure_names_the_same_digits(measured: float, shown: str) -> None:
    part = accuracy_of({"box_ap": "40.00"}, {"bbox": {"AP": measured}}, tolerance="0.1")
    assert part.reason == f"box AP {shown} for 40.00 (tolerance 0.1)"


def test_a_figure_that_coco_does_not_define_is_shown_as_none() -> None:
    part = accuracy_of({"box_ap": "41.2"}, {"bbox": {"AP": None}}, tolerance="0.1")
    report = report_of(part)
    assert (part.verdict, part.checks[0].rounded) == (Verdict.FAIL, None)
    assert part.reason == "box AP none for 41.2 (tolerance 0.1)"
    assert "| FAIL | (41.2) |" in markdown(report)
    assert ">(41.2)</td>" in html(report)
    assert next(entry_details(report.entries[0]))[1] == [("AP", "none")]


def test_the_table_of_metrics_fits_the_manifest_and_coco() -> None:
    assert list(METRICS) == list(Scores.model_fields)
    assert {metric.figure for metric in METRICS.values()} == set(COCO_FIGURES[:3])
    for name, metric in METRICS.items():
        kind, task = ("bbox", "object-detection") if name.startswith("box") else ("segm", "image-segmentation")
        assert (metric.kind, metric.hub_task) == (kind, task)
        assert metric.heading == re.sub("_ap", " AP", name)
        assert metric.figure == metric.heading.split()[1]
    assert METRICS["box_ap"].long_name == "box AP@[.50:.95]"
    assert METRICS["mask_ap75"].long_name == "mask AP@.75"


def test_only_printed_figures_are_published() -> None:
    scores = Scores(box_ap=Decimal("41.20"), mask_ap50=Decimal("0.1"))
    assert published(scores) == {"box_ap": Decimal("41.20"), "mask_ap50": Decimal("0.1")}
