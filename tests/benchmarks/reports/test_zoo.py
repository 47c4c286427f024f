"""The rows of the zoo: what was published, computed and measured, each from its source."""

from decimal import Decimal

import pytest
from sample_report import accuracy_of, report_of, sample, speed

from cascadezoo import registry
from cascadezoo.benchmarks.reports.schema import EntryReport, GivenWeights
from cascadezoo.benchmarks.reports.speeds import Conditions, Speed
from cascadezoo.benchmarks.reports.verdict import Verdict
from cascadezoo.benchmarks.reports.zoo import Row, Zoo, zoo
from cascadezoo.computed import computed

NAME, OTHER = "cascade_mask_r50_fpn_1x.mmdet", "cascade_mask_r50_fpn_3x.mmdet"
GPU, CPU = Conditions("a GPU", "fp16", 1, "an image"), Conditions("a CPU", "fp32", 1, "an image")


def row(found: Zoo, name: str) -> Row:
    return next(each for each in found.rows if each.entry.name == name)


def test_every_entry_is_there_with_what_is_computed_of_it() -> None:
    found = zoo({}, [])
    assert [each.entry for each in found.rows] == list(registry.entries())
    assert all(each.computed == computed(each.entry) for each in found.rows)
    assert not any(each.verified or each.speeds for each in found.rows)
    assert (found.conditions, found.strangers) == ([], [])


def test_what_a_report_measured_of_all_images_counts() -> None:
    found = row(zoo({"night": sample()}, []), OTHER).verified
    assert found == (Decimal("41.25"), Decimal("35.95"), Verdict.PASS, 5000, "night")
    assert row(zoo({"night": sample()}, []), NAME).verified.verdict == Verdict.FAIL


@pytest.mark.parametrize("verdict", [Verdict.PARTIAL, Verdict.SKIPPED, Verdict.ERROR])
def test_what_was_not_measured_of_all_images_does_not(verdict: Verdict) -> None:
    part = accuracy_of({"box_ap": "41.2"}, {"bbox": {"AP": 41.2}}, "0.1").model_copy(update={"verdict": verdict})
    assert row(zoo({"r": report_of(part)}, []), NAME).verified is None


def test_given_weights_are_not_the_published_ones() -> None:
    report = sample()
    given = GivenWeights(name="mine.pth", sha256="c" * 64)
    entries = tuple(entry.model_copy(update={"given": given}) for entry in report.entries)
    assert row(zoo({"r": report.model_copy(update={"entries": entries})}, []), OTHER).verified is None


def test_of_several_reports_the_last_counts() -> None:
    later = report_of(accuracy_of({"box_ap": "41.2"}, {"bbox": {"AP": 41.0}}, "0.1"))
    assert row(zoo({"one": sample(), "two": later}, []), NAME).verified.box_ap == Decimal("41.00")


def test_speeds_stand_under_their_conditions_the_most_measured_first() -> None:
    speeds = [Speed(NAME, GPU, 20.0), Speed(NAME, CPU, 0.5), Speed(OTHER, CPU, 0.6), Speed("torchvision's", GPU, 1.0)]
    found = zoo({}, speeds)
    assert found.conditions == [CPU, GPU]
    assert (row(found, NAME).speeds, row(found, OTHER).speeds) == ({1: 20.0, 0: 0.5}, {0: 0.6})


def test_augmented_figures_stand_beside_no_cost() -> None:
    tta = "mask_x152_32x8d_in5k_fpn_s1x.detectron"  # printed as 48.1 with augmentation, 45.2 without
    assert row(zoo({}, []), tta).published.box_ap == Decimal("45.2")
    both = (accuracy_of({"box_ap": "48.1"}, {"bbox": {"AP": 48.1}}, "0.1").model_copy(update={"tta": True}),
            accuracy_of({"box_ap": "45.2"}, {"bbox": {"AP": 45.23}}, "0.1"))  # fmt: skip
    entry = EntryReport(name=tta, verdict=Verdict.PASS, accuracy=both)
    report = sample().model_copy(update={"entries": (entry,)})
    assert row(zoo({"r": report}, []), tta).verified.box_ap == Decimal("45.23")


def test_entries_that_the_manifest_has_not_are_named() -> None:
    report = sample()
    stranger = EntryReport(name="x", verdict=Verdict.PASS, speed=speed(1.0))
    assert zoo({"r": report.model_copy(update={"entries": (*report.entries, stranger)})}, []).strangers == ["x"]
