"""Each rule of judging, worked by hand."""

from decimal import Decimal

import pytest

from cascadezoo.benchmarks.reports.verdict import (
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


def test_every_published_figure_has_to_agree() -> None:
    published = {"box_ap": Decimal("41.2"), "mask_ap": Decimal("35.9"), "box_ap50": Decimal("60.0")}
    verdict, _, checks = judge_accuracy(published, figures(41.2, 35.9), TENTH)
    assert verdict is Verdict.PASS
    assert [c.metric for c in checks] == list(published)
    verdict, reason, _ = judge_accuracy(published, figures(41.2, 35.6), TENTH)
    assert verdict is Verdict.FAIL
    assert reason == "mask AP 35.6 for 35.9 (tolerance 0.1)"
    assert judge_accuracy(published, figures(41.2, 35.6), Decimal("0.3"))[0] is Verdict.PASS
    assert judge_accuracy(published, figures(41.2, None), TENTH)[0] is Verdict.FAIL  # nothing annotated is no agreement


def test_a_part_of_the_images_never_passes() -> None:
    published = {"box_ap": Decimal("41.2")}
    for measured in (41.2, 3.0):
        verdict, reason, _ = judge_accuracy(published, figures(measured), TENTH, partial="10 of 5000 images")
        assert verdict is Verdict.PARTIAL
        assert "10 of 5000" in reason


def test_nothing_published_is_no_reference() -> None:
    assert judge_accuracy({}, figures(41.2), TENTH)[0] is Verdict.NO_REFERENCE


def test_speed_is_judged_against_the_same_device_only() -> None:
    baseline = SpeedReference(device="H100", precision="fp32", fps={1: 10.0, 8: 20.0})
    assert judge_speed("H100", "fp32", {1: 9.0}, None)[0] is Verdict.NO_REFERENCE
    assert judge_speed("V100", "fp32", {1: 1.0}, baseline)[0] is Verdict.NO_REFERENCE
    assert judge_speed("H100", "fp16", {1: 1.0}, baseline)[0] is Verdict.NO_REFERENCE
    assert judge_speed("H100", "fp32", {2: 1.0}, baseline)[0] is Verdict.NO_REFERENCE
    assert judge_speed("H100", "fp32", {1: 9.01, 8: 30.0}, baseline)[0] is Verdict.PASS
    verdict, reason = judge_speed("H100", "fp32", {1: 11.0, 8: 17.9}, baseline)
    assert verdict is Verdict.FAIL
    assert "17.90 fps for 20.00 at batch 8" in reason


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
        ([Verdict.PASS, Verdict.PARTIAL, Verdict.NO_REFERENCE], 0, 0),
        ([Verdict.PASS, Verdict.SKIPPED], 0, 1),
        ([Verdict.PASS, Verdict.FAIL], 1, 1),
        ([Verdict.ERROR], 1, 1),
        ([], 0, 0),
    ],
)
def test_exit_codes(verdicts: list[Verdict], code: int, strict: int) -> None:
    assert exit_code(verdicts, strict=False) == code
    assert exit_code(verdicts, strict=True) == strict
