"""What a measurement is worth: pure rules, no measuring.

A figure agrees with a published one when, rounded to the digits that were printed, it differs by no more than the
tolerance.  Speed is judged only against an earlier report of the same device.
"""

from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum

from cascadezoo.coco.evaluation import Kind
from cascadezoo.spec.record import Record

METRICS: dict[str, tuple[Kind, str]] = {
    "box_ap": ("bbox", "AP"),
    "box_ap50": ("bbox", "AP50"),
    "box_ap75": ("bbox", "AP75"),
    "mask_ap": ("segm", "AP"),
    "mask_ap50": ("segm", "AP50"),
    "mask_ap75": ("segm", "AP75"),
}
SLOWER = 0.10  # than the baseline, from which on it is a failure

Measured = Mapping[Kind, Mapping[str, float | None]]


class Verdict(StrEnum):
    """How a verification ended; an entry gets the first of these that one of its parts got."""

    ERROR = "ERROR"  # it could not be measured
    FAIL = "FAIL"  # measured, and not what it should be
    PARTIAL = "PARTIAL"  # measured on a part of the images
    PASS = "PASS"
    NO_REFERENCE = "NO-REFERENCE"  # measured, with nothing to hold it against
    SKIPPED = "SKIPPED"  # not measured


class Check(Record):
    """One published figure beside the measured one, in percent; ``rounded`` to the published digits."""

    metric: str
    published: Decimal
    measured: float | None
    rounded: Decimal | None
    difference: Decimal | None
    agrees: bool


def check(metric: str, published: Decimal, figures: Measured, tolerance: Decimal) -> Check:
    """Hold one published figure against what was measured."""
    kind, name = METRICS[metric]
    measured = figures.get(kind, {}).get(name)
    if measured is None:
        return Check(metric=metric, published=published, measured=None, rounded=None, difference=None, agrees=False)
    rounded = Decimal(repr(measured)).quantize(published, rounding=ROUND_HALF_UP)
    difference = rounded - published
    return Check(
        metric=metric,
        published=published,
        measured=measured,
        rounded=rounded,
        difference=difference,
        agrees=abs(difference) <= tolerance,
    )


def judge_accuracy(
    published: Mapping[str, Decimal], figures: Measured, tolerance: Decimal, partial: str = ""
) -> tuple[Verdict, str, tuple[Check, ...]]:
    """The verdict on one evaluation, why, and each figure's check.

    ``partial``: which part of the images was measured, where it was not all of them.
    """
    checks = tuple(check(metric, value, figures, tolerance) for metric, value in published.items())
    if partial:
        return Verdict.PARTIAL, f"only {partial}: not comparable with the published figures", checks
    if not checks:
        return Verdict.NO_REFERENCE, "no figure was published for this evaluation", checks
    if wrong := [c for c in checks if not c.agrees]:
        found = ", ".join(
            f"{c.metric.replace('_ap', ' AP')} {c.rounded if c.rounded is not None else 'none'} for {c.published}"
            for c in wrong
        )
        return Verdict.FAIL, f"{found} (tolerance {tolerance})", checks
    return Verdict.PASS, f"within {tolerance} of the published figures", checks


class SpeedReference(Record):
    """What an earlier report says of the speed of an entry: images a second by batch size."""

    device: str
    precision: str
    fps: dict[int, float]


def judge_speed(
    device: str, precision: str, fps: Mapping[int, float], baseline: SpeedReference | None
) -> tuple[Verdict, str]:
    """The verdict on a speed, and why: PASS or FAIL against a baseline of the same device and precision only."""
    if baseline is None:
        return Verdict.NO_REFERENCE, "no baseline report of this entry: published fps are never a pass mark"
    if (baseline.device, baseline.precision) != (device, precision):
        return (
            Verdict.NO_REFERENCE,
            f"the baseline was measured on {baseline.device} in {baseline.precision}, not on {device} in {precision}",
        )
    shared = sorted(fps.keys() & baseline.fps.keys())
    if not shared:
        return Verdict.NO_REFERENCE, "the baseline has no batch size in common"
    slower = {n: 1 - fps[n] / baseline.fps[n] for n in shared}
    if wrong := [n for n in shared if slower[n] > SLOWER]:
        told = ", ".join(f"{fps[n]:.2f} fps for {baseline.fps[n]:.2f} at batch {n}" for n in wrong)
        return Verdict.FAIL, f"{told}: more than {SLOWER:.0%} slower than the baseline"
    return Verdict.PASS, f"no more than {SLOWER:.0%} slower than the baseline"


def overall(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict on the whole of several parts: the gravest, in the order of ``Verdict``."""
    order = list(Verdict)
    return min(verdicts, key=order.index, default=Verdict.SKIPPED)


def exit_code(verdicts: Iterable[Verdict], strict: bool) -> int:
    """1 where something failed, or, if ``strict``, where anything was skipped; else 0."""
    bad = {Verdict.ERROR, Verdict.FAIL} | ({Verdict.SKIPPED} if strict else set())
    return int(any(verdict in bad for verdict in verdicts))
