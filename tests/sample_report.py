"""A verify report made by hand, with something of everything."""

from decimal import Decimal

from cascadezoo.benchmarks.reports.schema import (
    Accuracy,
    AccuracyTiming,
    BatchSpeed,
    EntryReport,
    Machine,
    Report,
    ReportTiming,
    Settings,
    Speed,
    SpeedTiming,
    Spread,
)
from cascadezoo.benchmarks.reports.verdict import Verdict, judge_accuracy

MACHINE = Machine(
    device="AMD EPYC", gpu=None, driver=None, cpu="AMD EPYC", cores=2, threads=2, system="Linux", python="CPython 3.11",
    cuda=None, packages={"torch": "2.14"}, decoder="OpenCV 5", evaluator="pycocotools 2.0.11",
)  # fmt: skip
TENTH = Decimal("0.1")


def accuracy(box: float, mask: float, tta: bool = False) -> Accuracy:
    figures = {"bbox": {"AP": box, "APs": None}, "segm": {"AP": mask}}
    verdict, reason, checks = judge_accuracy({"box_ap": Decimal("41.2"), "mask_ap": Decimal("35.9")}, figures, TENTH)
    return Accuracy(
        tta=tta, basis="table", verdict=verdict, reason=reason, tolerance=TENTH, checks=checks, figures=figures,
        dataset="COCO val2017", annotations_sha256="e" * 64, images=5000, detections=400000,
        timing=AccuracyTiming(seconds=10, decode=1, inference=8, evaluate=1, outside_share=0.1, images=5000,
                              batch_size=1, processes=1, notes=("out of memory with 8",)),
    )  # fmt: skip


def accuracy_of(published: dict[str, str], figures: dict, tolerance: str) -> Accuracy:
    """An evaluation with these published and measured figures, judged."""
    wanted = {name: Decimal(value) for name, value in published.items()}
    verdict, reason, checks = judge_accuracy(wanted, figures, Decimal(tolerance))
    return Accuracy(tta=False, basis="table", verdict=verdict, reason=reason, tolerance=Decimal(tolerance),
                    checks=checks, figures=figures, dataset="COCO val2017", images=5000, detections=9)  # fmt: skip


def report_of(part: Accuracy) -> Report:
    """A report of one entry with this evaluation."""
    entry = EntryReport(name="cascade_mask_r50_fpn_1x.mmdet", verdict=part.verdict, accuracy=(part,))
    return sample().model_copy(update={"entries": (entry,)})


def speed(fps: float, verdict: Verdict = Verdict.NO_REFERENCE) -> Speed:
    spread = Spread(median=1000 / fps, min=1, max=99, q1=2, q3=98)
    batch = BatchSpeed(batch_size=1, fps=fps, total_ms=spread, stages_ms={"rpn": spread}, detections=99.0, runs=24,
                       stable=True, peak_bytes=2**30)  # fmt: skip
    timing = SpeedTiming(images=8, batches=(batch,))
    return Speed(
        verdict=verdict, reason="no baseline", published_fps=Decimal("16.1"), published_device="V100", timing=timing
    )


def skipped(tta: bool = False) -> Accuracy:
    reason = "no <weights> & no data"
    return Accuracy(tta=tta, basis="later", verdict=Verdict.SKIPPED, reason=reason, tolerance=TENTH)


def sample() -> Report:
    first = accuracy(41.25, 30.0)
    second = accuracy(41.25, 35.95)
    return Report(
        settings=Settings(tolerance=Decimal("0.2")),
        version="0.1.0",
        commit="d" * 40,
        modified=False,
        manifest_sha256="a" * 64,
        code_sha256="b" * 64,
        machines=(MACHINE,),
        entries=(
            EntryReport(
                name="cascade_mask_r50_fpn_1x.mmdet", verdict=first.verdict, accuracy=(first, skipped(tta=True))
            ),
            EntryReport(
                name="cascade_mask_r50_fpn_3x.mmdet", verdict=second.verdict, weights_digest="f" * 64,
                accuracy=(second,), speed=speed(12.5),
            ),
        ),
        timing=ReportTiming(date="2026-01-01T00:00:00+00:00", seconds=12),
    )  # fmt: skip
