"""The rules by which measurements become verdicts; nothing is measured here.

A figure agrees with a published one when, rounded to the digits that were printed, it differs by no more than the
tolerance.  Speed is judged only against an earlier report of the same device.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from enum import StrEnum

from pydantic import Field

from cascadezoo.coco.metrics import METRICS, Measured, rounded
from cascadezoo.spec.record import Record

SLOWER = Decimal("0.10")  # a speed below the baseline by more than this part of it is a failure


class Verdict(StrEnum):
    """How a verification ended; an entry gets the first of these that one of its parts got."""

    ERROR = "ERROR"  # it could not be measured
    FAIL = "FAIL"  # measured, and not what it should be
    PARTIAL = "PARTIAL"  # measured on a part of the images
    PASS = "PASS"
    NO_REFERENCE = "NO-REFERENCE"  # measured, with nothing to compare it with
    SKIPPED = "SKIPPED"  # not measured


class Check(Record):
    """One published figure beside the measured one, in percent."""

    metric: str = Field(description="The manifest's name of the figure, such as box_ap.")
    published: Decimal = Field(description="Percent, with the digits that the publisher printed.")
    measured: float | None = Field(description="Percent; None where COCO defines no figure, as without annotations.")
    rounded: Decimal | None = Field(description="The measured figure at the published digits.")
    difference: Decimal | None = Field(description="The rounded figure less the published one.")
    agrees: bool = Field(description="Whether the difference is within the tolerance.")


def check(metric: str, published: Decimal, figures: Measured, tolerance: Decimal) -> Check:
    """Compare one published figure with what was measured."""
    measured = METRICS[metric].of(figures)
    if measured is None:
        return Check(metric=metric, published=published, measured=None, rounded=None, difference=None, agrees=False)
    value = rounded(measured, published)
    difference = value - published
    return Check(
        metric=metric,
        published=published,
        measured=measured,
        rounded=value,
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
        differing = ", ".join(
            f"{METRICS[c.metric].heading} {'none' if c.rounded is None else c.rounded} for {c.published}" for c in wrong
        )
        return Verdict.FAIL, f"{differing} (tolerance {tolerance})", checks
    return Verdict.PASS, f"within {tolerance} of the published figures", checks


class SpeedReference(Record):
    """The speed of an entry in an earlier report."""

    device: str = Field(description="The device's name, as in a report's Machine.")
    precision: str = Field(description="What was computed in, such as fp32.")
    decode: bool = Field(default=False, description="Whether decoding was timed, too.")
    fps: dict[int, float] = Field(description="Images per second by batch size.")


def judge_speed(
    device: str, precision: str, fps: Mapping[int, float], baseline: SpeedReference | None, decode: bool = False
) -> tuple[Verdict, str]:
    """The verdict on a speed, and why: PASS or FAIL against a baseline of the same device and precision only, with
    decoding where it was timed."""
    if baseline is None:
        return Verdict.NO_REFERENCE, "no baseline report of this entry: published fps are never a pass mark"
    if (baseline.device, baseline.precision) != (device, precision):
        return (
            Verdict.NO_REFERENCE,
            f"the baseline was measured on {baseline.device} in {baseline.precision}, not on {device} in {precision}",
        )
    if baseline.decode != decode:
        return Verdict.NO_REFERENCE, "of this and the baseline only one was measured with --decode"
    shared = sorted(fps.keys() & baseline.fps.keys())
    if not shared:
        return Verdict.NO_REFERENCE, "the baseline has no batch size in common"
    if wrong := [n for n in shared if _is_slower(fps[n], baseline.fps[n])]:
        slow = ", ".join(f"{fps[n]:.2f} fps for {baseline.fps[n]:.2f} at batch {n}" for n in wrong)
        return Verdict.FAIL, f"{slow}: more than {SLOWER:.0%} slower than the baseline"
    return Verdict.PASS, f"no more than {SLOWER:.0%} slower than the baseline"


def _is_slower(fps: float, baseline: float) -> bool:
    """By more than ``SLOWER``; in decimals, since 8.1 fps are exactly 10 % below 9.0 and in binary a little more."""
    return Decimal(repr(fps)) < (1 - SLOWER) * Decimal(repr(baseline))


def overall(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict on the whole of several parts: the gravest, in the order of ``Verdict``."""
    order = list(Verdict)
    return min(verdicts, key=order.index, default=Verdict.SKIPPED)


def exit_code(verdicts: Iterable[Verdict], strict: bool) -> int:
    """1 where something failed, or, if ``strict``, where anything was skipped; else 0."""
    bad = {Verdict.ERROR, Verdict.FAIL} | ({Verdict.SKIPPED} if strict else set())
    return int(any(verdict in bad for verdict in verdicts))
