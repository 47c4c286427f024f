"""How long entries will take: recorded where it was, else in proportion to what the network computes."""

import pytest
from sample_report import accuracy, sample, skipped, speed

from cascadezoo import registry
from cascadezoo.benchmarks.reports.schema import EntryReport, Settings
from cascadezoo.benchmarks.reports.verdict import Verdict
from cascadezoo.benchmarks.verify.estimates import costs, recorded
from cascadezoo.computed import computed

FIRST, SECOND = "cascade_mask_r50_fpn_1x.mmdet", "cascade_mask_r50_fpn_3x.mmdet"


def report_entry(*parts, of_speed=None) -> EntryReport:
    return EntryReport(name=FIRST, verdict=Verdict.PASS, accuracy=parts, speed=of_speed)


def test_recorded_seconds() -> None:
    part = accuracy(41.25, 35.9)  # 10 s, of them 1 s evaluation, 5000 of 5000 images
    assert recorded(report_entry(part, skipped())) == 10
    timed = speed(12.5)  # 24 runs of 80 ms
    assert recorded(report_entry(part, of_speed=timed)) == pytest.approx(10 + 24 * 0.08)
    resumed = part.model_copy(update={"timing": part.timing.model_copy(update={"images": 1000})})
    assert recorded(report_entry(resumed)) == 1 + 9 * 5
    again = part.model_copy(update={"timing": part.timing.model_copy(update={"images": 0})})
    assert recorded(report_entry(again)) is None  # its detections were there
    assert recorded(report_entry(skipped())) is None


def test_entries_without_a_record_are_estimated_by_those_that_have_one() -> None:
    names = (FIRST, "cascade_mask_r101_fpn_1x.mmdet")
    entries = [registry.info(name) for name in names]
    sizes = [computed(entry).total_flops for entry in entries]
    unknown = costs(entries, Settings())
    assert unknown.pace is None
    assert unknown.of[names[1]] / unknown.of[names[0]] == pytest.approx(sizes[1] / sizes[0])
    known = costs(entries, Settings(), [sample()])
    assert (known.of[FIRST], known.pace) == (10, 1)
    # of the network of the first one there are two times, 10 s and, with its speed, 11.92 s
    assert known.of[names[1]] == pytest.approx(10.96 * sizes[1] / sizes[0])


def test_augmentation_and_the_limit_count() -> None:
    entry = registry.info("cascade_mask_x152_32x8d_in5k_fpn_s1x.detectron")
    (plain,), (both,), (few,) = (
        costs([entry], settings).of.values() for settings in (Settings(), Settings(tta=True), Settings(limit=500))
    )
    assert both > 2 * plain
    assert few == pytest.approx(plain / 10)


def test_networks_are_in_their_order() -> None:
    # the images per second of mmdetection's own table on one device: 16.1, 13.5, 11.2, 9.8 and 6.7
    names = ("cascade_r50", "cascade_r101", "cascade_mask_r50", "cascade_mask_r101", "cascade_mask_x101_64x4d")
    sizes = [computed(registry.info(f"{name}_fpn_1x.mmdet")).total_flops for name in names]
    assert sizes == sorted(sizes)
    times = [1 / fps for fps in (16.1, 13.5, 11.2, 9.8, 6.7)]
    ratios = [size / seconds for size, seconds in zip(sizes, times, strict=True)]
    assert max(ratios) < 1.4 * min(ratios)
