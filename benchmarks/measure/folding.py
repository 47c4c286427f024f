"""Norms folded into convolutions once, beside folding at every forward: ``python -m
cascadezoo.benchmarks.measure.folding``.

The backbone of an entry on the CPU, both ways in turn within one process; and how many operators each way runs.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import cascadezoo
from cascadezoo.benchmarks.measure.results import RESULTS, write_report
from cascadezoo.benchmarks.verify.timing import now, spread
from cascadezoo.detector import Detector
from cascadezoo.modeling.resnet import ConvNorm

KEPT, ANEW = "folded once", "folded at every forward"
CPU = torch.device("cpu")


class _Counting(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not (func.is_view or func is torch.ops.aten.detach.default)
        return func(*args, **kwargs or {})


def forget(model: Detector) -> None:
    """Let the backbone fold its norms at its next forward."""
    for module in model.backbone.modules():
        if isinstance(module, ConvNorm):
            module.eval()


@torch.no_grad()
def measure(entry: str, size: tuple[int, int], runs: int) -> dict[str, Any]:
    """Operators that are no views, and milliseconds of each way over runs taken in turn."""
    torch.manual_seed(0)
    model = cascadezoo.load(entry)
    pixels = torch.randn(1, 3, *size).contiguous(memory_format=torch.channels_last)
    operators: dict[str, int] = {}
    clocks: dict[str, list[float]] = {KEPT: [], ANEW: []}
    for run in range(runs + 1):
        for way, clock in clocks.items():
            model.backbone(pixels)
            if way == ANEW:
                forget(model)
            if not run:
                with _Counting() as counting:
                    model.backbone(pixels)
                operators[way] = counting.count
                continue
            start = now(CPU)
            model.backbone(pixels)
            clock.append(1000 * (now(CPU) - start))
    ratios = [anew / kept for kept, anew in zip(clocks[KEPT], clocks[ANEW], strict=True)]
    return {
        "input": list(size),
        "operators": operators,
        "milliseconds": {way: spread(each) for way, each in clocks.items()},
        "times_faster": spread(ratios),
    }


def main() -> None:
    """Measure, print the table, write the report."""
    parser = argparse.ArgumentParser(description="Norms folded once, beside folding at every forward, on the CPU.")
    parser.add_argument("--entry", default="cascade_mask_r50_fpn_1x.mmdet")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--output", type=Path, default=RESULTS / "folding.json")
    options = parser.parse_args()
    sizes = [measure(options.entry, size, options.runs) for size in ((128, 192), (320, 544), (800, 1216))]
    print(f"{'backbone':12}{KEPT:>20}{ANEW:>26}   times faster")
    for case in sizes:
        medians = {way: case["milliseconds"][way]["median"] for way in (KEPT, ANEW)}
        kept, anew = (f"{medians[way]:.1f} ms, {case['operators'][way]} ops" for way in (KEPT, ANEW))
        height, width = case["input"]
        print(f"{height}x{width:<9}{kept:>20}{anew:>26}   {case['times_faster']['median']:.2f}")
    report = {
        "benchmark": "folding",
        "entry": options.entry,
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "runs": options.runs,
        "sizes": sizes,
    }
    write_report(options.output, report)
    print(f"written to {options.output}")


if __name__ == "__main__":
    main()
