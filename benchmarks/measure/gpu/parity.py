"""The recorded cases of the publishers' code on the GPU: all in float32 without TF32, which must pass, and some in
narrower types, whose differences are reported."""

import sys
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from cascadezoo.benchmarks.measure.computing import computing
from cascadezoo.benchmarks.measure.gpu.report import Report
from cascadezoo.benchmarks.measure.gpu.suites import run_suite, tests_folder
from cascadezoo.ops.library import COMPILED

NARROW = ("tf32", "bf16", "fp16")
CASES = (
    "mmdet/cascade_mask_r50_fpn",
    "detectron/cascade_mask_r50_fpn",
    "paddle/mask_r50_c4",
    "internimage/cascade_mask_internimage_l_fpn",
)
ONE_CASE = 25.0  # seconds to write, convert and load a case's weights


def run(report: Report, device: torch.device) -> None:
    """All cases in float32; then ``CASES`` in each of ``NARROW``."""
    folder = tests_folder() / "parity"
    report.data |= {"compiled_ops": list(COMPILED), "tf32": False, "cases": list(CASES)}
    seconds = report.deadline.left() - ONE_CASE * len(CASES) / 2
    run_suite(report, "tests", ["-m", "parity", str(folder), "-k", device.type], max(seconds, 1.0))
    for name in CASES:
        if report.has_time(f"{name} in {', '.join(NARROW)}", ONE_CASE):
            with report.attempt(name):
                report.data["rows"] += narrow(folder / name, device)


def narrow(folder: Path, device: torch.device) -> list[dict[str, Any]]:
    """How far each precision departs from what the publisher's code found: a row each, of tests/parity/compare.py."""
    sys.path[:0] = [path for path in (str(folder.parents[1]),) if path not in sys.path]
    case = import_module("cases").Case(folder)
    rows = []
    with TemporaryDirectory(prefix="cascadezoo-") as scratch:
        model, _ = case.convert(Path(scratch), device.type)
        for precision in ("fp32", *NARROW):
            with computing(device, precision):
                (found,) = model.detect([model.resize(case.image)])
                departure = case.compare(found)
            rows.append({"case": f"{folder.parent.name}/{folder.name}", "precision": precision, **departure})
    return rows
