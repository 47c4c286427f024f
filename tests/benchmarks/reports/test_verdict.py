"""Each rule of judging, worked by hand."""

from decimal import Decimal
from itertools import pairwise

import pytest

from cascadezoo.benchmarks.reports.verdict import (
    Check,
    SpeedReference,
    Verdict,
    check,
    exit_code,
    judge_accuracy,
    judge_speed,
    overall,
)

TENTH = Decimal("0.1")


def figures(box: float | None = None, mask: float | None = None) -> dict:
    return {"bbox": {"AP": box, "AP50": 60.0}, "segm": {"AP": mask}}


@pytest.mark.parametrize(
    ("published", "measured", "agrees"),
    [
        ("41.2", 41.2, True),
        ("41.2", 41.3499, True),  # 41.3, a tenth away
        ("41.2", 41.35, False),  # 41.4
        ("41.2", 41.05, True),  # 41.1
        ("41.2", 41.0499, False),  # 41.0
        ("41.20", 41.304, True),  # 41.30
        ("41.20", 41.305, False),  # 41.31: two digits were printed
        ("41", 41.49, True),  # 41
        ("41", 41.5, False),  # 42
    ],
)
def test_figures_agree_at_their_printed_digits(published: str, measured: float, agrees: bool) -> None:
    found = check("box_ap", Decimal(published), figures(measured), TENTH)
    assert found.agrees is agrees
    assert found.measured == measured


@pytest.mark.parametrize(
    ("measured", "tolerance", "difference", "agrees"),
    [
        (41.3, "0.1", "0.1", True),  # exactly the tolerance, above and below
        (41.1, "0.1", "-0.1", True),
        (41.3, "0.09", "0.1", False),  # one digit less of it
        (41.1, "0.09", "-0.1", False),
        (41.2, "0", "0.0", True),
        (41.25, "0", "0.1", False),
        (41.15, "0", "0.0", True),  # a half goes up, also towards the published figure
    ],
)
def test_a_difference_of_the_tolerance_agrees(measured: float, tolerance: str, difference: str, agrees: bool) -> None:
    found = check("box_ap", Decimal("41.2"), figures(measured), Decimal(tolerance))
    assert (str(found.difference), found.agrees) == (difference, agrees)


def test_a_check_holds_both_figures() -> None:
    assert check("mask_ap", Decimal("35.90"), figures(mask=36.125), TENTH) == Check(
        metric="mask_ap", published=Decimal("35.90"), measured=36.125, rounded=Decimal("36.13"),
        difference=Decimal("0.23"), agrees=False,
    )  # fmt: skip
    nothing = Check(
        metric="mask_ap", published=Decimal("35.90"), measured=None, rounded=None, difference=None, agrees=False
    )
    assert check("mask_ap", Decimal("35.90"), figures(), TENTH) == nothing
    assert check("mask_ap", Decimal("35.90"), {"bbox": {"AP": 36.0}}, TENTH) == nothing  # no masks at all
    assert check("mask_ap50", Decimal("35.90"), figures(mask=36.0), TENTH).measured is None


@pytest.mark.parametrize(
    ("metric", "kind", "figure"),
    [
        ("box_ap", "bbox", "AP"), ("box_ap50", "bbox", "AP50"), ("box_ap75", "bbox", "AP75"),
        ("mask_ap", "segm", "AP"), ("mask_ap50", "segm", "AP50"), ("mask_ap75", "segm", "AP75"),
    ],
)  # fmt: skip
def test_a_figure_is_held_to_its_own_kind(metric: str, kind: str, figure: str) -> None:
    others = dict.fromkeys(("AP", "AP50", "AP75"), 1.0)
    everything = {"bbox": dict(others), "segm": dict(others)}
    everything[kind][figure] = 60.0
    assert check(metric, Decimal(60), everything, Decimal(0)).agrees


def test_every_published_figure_has_to_agree() -> None:
    published = {"box_ap": Decimal("41.2"), "mask_ap": Decimal("35.9"), "box_ap50": Decimal("60.0")}
    verdict, reason, checks = judge_accuracy(published, figures(41.2, 35.9), TENTH)
    assert (verdict, reason) == (Verdict.PASS, "within 0.1 of the published figures")
    assert [(c.metric, c.measured, c.agrees) for c in checks] == [
        ("box_ap", 41.2, True), ("mask_ap", 35.9, True), ("box_ap50", 60.0, True),
    ]  # fmt: skip
    verdict, reason, checks = judge_accuracy(published, figures(41.2, 35.6), TENTH)
    assert (verdict, reason) == (Verdict.FAIL, "mask AP 35.6 for 35.9 (tolerance 0.1)")
    assert [c.agrees for c in checks] == [True, False, True]
    assert judge_accuracy(published, figures(41.2, 35.6), Decimal("0.3"))[0] is Verdict.PASS
    # nothing annotated is no agreement
    verdict, reason, _ = judge_accuracy(published, figures(41.0, None), TENTH)
    assert (verdict, reason) == (Verdict.FAIL, "box AP 41.0 for 41.2, mask AP none for 35.9 (tolerance 0.1)")


def test_a_part_of_the_images_never_passes() -> None:
    published = {"box_ap": Decimal("41.2")}
    for measured in (41.2, 3.0):
        verdict, reason, (held,) = judge_accuracy(published, figures(measured), TENTH, partial="10 of 5000 images")
        assert verdict is Verdict.PARTIAL
        assert reason == "only 10 of 5000 images: not comparable with the published figures"
        assert held.measured == measured
    assert judge_accuracy({}, figures(41.2), TENTH, partial="1 of 2 images")[0] is Verdict.PARTIAL


def test_nothing_published_is_no_reference() -> None:
    assert judge_accuracy({}, figures(41.2), TENTH) == (
        Verdict.NO_REFERENCE,
        "no figure was published for this evaluation",
        (),
    )


BASELINE = SpeedReference(device="H100", precision="fp32", fps={1: 10.0, 8: 20.0})


@pytest.mark.parametrize(
    ("device", "precision", "fps", "reason"),
    [
        ("V100", "fp32", 1.0, "the baseline was measured on H100 in fp32, not on V100 in fp32"),
        ("H100", "fp16", 1.0, "the baseline was measured on H100 in fp32, not on H100 in fp16"),
        ("V100", "fp32", 99.0, "the baseline was measured on H100 in fp32, not on V100 in fp32"),
    ],
)
def test_speed_is_judged_against_the_same_device_and_precision_only(
    device: str, precision: str, fps: float, reason: str
) -> None:
    assert judge_speed(device, precision, {1: fps}, BASELINE) == (Verdict.NO_REFERENCE, reason)


def test_speed_without_a_baseline_has_no_reference() -> None:
    assert judge_speed("H100", "fp32", {1: 9.0}, None) == (
        Verdict.NO_REFERENCE,
        "no baseline report of this entry: published fps are never a pass mark",
    )
    assert judge_speed("H100", "fp32", {2: 1.0}, BASELINE) == (
        Verdict.NO_REFERENCE,
        "the baseline has no batch size in common",
    )


def test_speed_with_decoding_is_judged_against_the_same_only() -> None:
    decoding = BASELINE.model_copy(update={"decode": True})
    reason = "of this and the baseline only one was measured with --decode"
    assert judge_speed("H100", "fp32", {1: 9.0}, decoding) == (Verdict.NO_REFERENCE, reason)
    assert judge_speed("H100", "fp32", {1: 9.0}, BASELINE, decode=True) == (Verdict.NO_REFERENCE, reason)
    assert judge_speed("H100", "fp32", {1: 8.0}, decoding, decode=True)[0] is Verdict.FAIL


@pytest.mark.parametrize(
    ("fps", "baseline", "verdict"),
    [
        (9.0, 10.0, Verdict.PASS),  # exactly 10 % slower
        (8.99, 10.0, Verdict.FAIL),
        (9.01, 10.0, Verdict.PASS),
        (8.1, 9.0, Verdict.PASS),  # in binary 1 - 8.1 / 9.0 is 0.10000000000000009
        (8.099, 9.0, Verdict.FAIL),
        (8.101, 9.0, Verdict.PASS),
        (10.0, 10.0, Verdict.PASS),
        (30.0, 10.0, Verdict.PASS),  # faster is never a failure
        (0.0, 10.0, Verdict.FAIL),
    ],
)
def test_more_than_a_tenth_slower_fails(fps: float, baseline: float, verdict: Verdict) -> None:
    reference = SpeedReference(device="H100", precision="fp32", fps={4: baseline})
    found, reason = judge_speed("H100", "fp32", {4: fps}, reference)
    assert found is verdict
    assert reason == (
        "no more than 10% slower than the baseline"
        if verdict is Verdict.PASS
        else f"{fps:.2f} fps for {baseline:.2f} at batch 4: more than 10% slower than the baseline"
    )


def test_every_batch_size_in_common_is_judged() -> None:
    assert judge_speed("H100", "fp32", {1: 9.01, 8: 30.0, 16: 0.1}, BASELINE)[0] is Verdict.PASS
    verdict, reason = judge_speed("H100", "fp32", {8: 17.9, 1: 11.0}, BASELINE)
    assert (verdict, reason) == (
        Verdict.FAIL, "17.90 fps for 20.00 at batch 8: more than 10% slower than the baseline",
    )  # fmt: skip
    _, reason = judge_speed("H100", "fp32", {8: 17.9, 1: 1.0}, BASELINE)
    assert reason.startswith("1.00 fps for 10.00 at batch 1, 17.90 fps for 20.00 at batch 8: more")


def test_verdicts_are_ordered_the_gravest_first() -> None:
    assert [str(verdict) for verdict in Verdict] == ["ERROR", "FAIL", "PARTIAL", "PASS", "NO-REFERENCE", "SKIPPED"]
    order = list(Verdict)
    for grave, light in pairwise(order):
        assert overall([light, grave]) is overall([grave, light]) is grave


def test_an_entry_has_the_gravest_verdict_of_its_parts() -> None:
    assert overall([Verdict.PASS, Verdict.SKIPPED, Verdict.NO_REFERENCE]) is Verdict.PASS
    assert overall([Verdict.PASS, Verdict.FAIL, Verdict.SKIPPED]) is Verdict.FAIL
    assert overall([Verdict.FAIL, Verdict.ERROR]) is Verdict.ERROR
    assert overall([Verdict.PARTIAL, Verdict.PASS]) is Verdict.PARTIAL
    assert overall([Verdict.SKIPPED, Verdict.NO_REFERENCE]) is Verdict.NO_REFERENCE
    assert overall([]) is Verdict.SKIPPED


@pytest.mark.parametrize(
    ("verdicts", "code", "strict"),
    [
        ([Verdict.PASS], 0, 0),
        ([Verdict.PARTIAL], 0, 0),
        ([Verdict.NO_REFERENCE], 0, 0),
        ([Verdict.SKIPPED], 0, 1),
        ([Verdict.FAIL], 1, 1),
        ([Verdict.ERROR], 1, 1),
        ([Verdict.PASS, Verdict.PARTIAL, Verdict.NO_REFERENCE], 0, 0),
        ([Verdict.PASS, Verdict.SKIPPED], 0, 1),
        ([Verdict.PASS, Verdict.FAIL], 1, 1),
        ([Verdict.PASS, Verdict.ERROR, Verdict.PASS], 1, 1),
        ([], 0, 0),
    ],
)
def test_exit_codes(verdicts: list[Verdict], code: int, strict: int) -> None:
    for code_of, expected in ((exit_code(verdicts, strict=False), code), (exit_code(verdicts, strict=True), strict)):
        assert type(code_of) is int  # the process ends with it
        assert code_of == expected
