"""The compiled suppression of the CPU beside its reference: ``python -m cascadezoo.benchmarks.measure.nms``.

Random boxes of 5 to 125 pixels on an image of 800 x 1300, in as many groups as a pyramid has levels and as COCO has
classes, at 1, 10 and 100 times the fewest.  Both run in turn within one process, on the same threads, and have to keep
the same boxes.
"""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cascadezoo.benchmarks.measure.results import RESULTS, write_report
from cascadezoo.benchmarks.verify.timing import now, spread
from cascadezoo.errors import OpsNotBuilt
from cascadezoo.ops import nms
from cascadezoo.ops.library import COMPILED, STATUS

TIMES = (1, 10, 100)
OURS, THEIRS = "compiled", "reference"
CPU = torch.device("cpu")


class Case(NamedTuple):
    """One use of the operator; ``rounded``: float32 throughout, as mmdet has it, else float64."""

    groups: int
    keep: int
    rounded: bool


CASES = {
    "levels": Case(5, 1000, False),
    "levels, float32": Case(5, 1000, True),
    "classes": Case(80, 100, False),
    "classes, float32": Case(80, 100, True),
}


def arguments(case: Case, count: int) -> list[Any]:
    """What the operator is called with."""
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(1, count, 2, generator=generator) * torch.tensor([1300.0, 800.0])
    boxes = torch.cat((corner, corner + 5 + 120 * torch.rand(1, count, 2, generator=generator)), -1)
    scores, groups = torch.rand(1, count, generator=generator), torch.arange(count)[None] % case.groups
    valid = torch.ones(1, count, dtype=torch.bool)
    return [boxes, scores, groups, valid, 0.5, 0, case.rounded, case.groups, count, case.keep]


@torch.inference_mode()
def measure(case: Case, count: int, runs: int) -> dict[str, Any]:
    """Milliseconds of each, and how many times faster the compiled one is, over runs taken in turn."""
    given = arguments(case, count)
    ways: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
        OURS: torch.ops.cascadezoo.grouped_nms,
        THEIRS: nms._reference,
    }
    clocks: dict[str, list[float]] = {name: [] for name in ways}
    kept: dict[str, Tensor] = {}
    for _ in range(runs):
        for name, way in ways.items():
            start = now(CPU)
            kept[name] = way(*given)[0]
            clocks[name].append(1000 * (now(CPU) - start))
    assert torch.equal(kept[OURS], kept[THEIRS])
    ratios = [theirs / ours for ours, theirs in zip(clocks[OURS], clocks[THEIRS], strict=True)]
    return {
        "candidates": count,
        "milliseconds": {name: spread(each) for name, each in clocks.items()},
        "times_faster": spread(ratios),
    }


def main() -> None:
    """Measure, print the table, write the report."""
    parser = argparse.ArgumentParser(description="The compiled suppression beside its reference, on the CPU.")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--candidates", type=int, default=1000, help="the fewest")
    parser.add_argument("--output", type=Path, default=RESULTS / "nms.json")
    options = parser.parse_args()
    if "cpu" not in COMPILED:
        raise OpsNotBuilt(f"no compiled operators for the CPU ({STATUS['cpu']}): run `cascadezoo build-ops`")
    print(f"{'median ms':18}{'candidates':>11}{OURS:>10}{THEIRS:>11}   times faster")
    cases = []
    for name, case in CASES.items():
        sizes = [measure(case, options.candidates * times, options.runs) for times in TIMES]
        cases.append({"name": name, **case._asdict(), "sizes": sizes})
        for size in sizes:
            ours, theirs = (size["milliseconds"][way]["median"] for way in (OURS, THEIRS))
            ratio = size["times_faster"]
            faster = f"{ratio['median']:.0f} ({ratio['min']:.0f} to {ratio['max']:.0f})"
            print(f"{name:18}{size['candidates']:11}{ours:10.2f}{theirs:11.1f}   {faster}")
    report = {
        "benchmark": "nms",
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "runs": options.runs,
        "cases": cases,
    }
    write_report(options.output, report)
    print(f"written to {options.output}")


if __name__ == "__main__":
    main()
