"""The compiled DCNv3 on the CPU beside two PyTorch ones, at the shapes of InternImage-L's four stages.

    python -m cascadezoo.benchmarks.measure.ops [--device cuda] [--runs N] [--output report.json]

One PyTorch version is the operator's own reference, the other is built on ``grid_sample``.  All run in turn within one
process, on the same threads; the peak of memory is measured in a process of its own for each.
"""

import argparse
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cascadezoo.benchmarks.measure.results import RESULTS, write_report
from cascadezoo.benchmarks.verify.timing import now, spread
from cascadezoo.errors import OpsNotBuilt
from cascadezoo.ops import dcnv3 as ops
from cascadezoo.ops.library import COMPILED, STATUS

# an image of 800x1216: height, width, groups of 16 channels
STAGES = ((200, 304, 10), (100, 152, 20), (50, 76, 40), (25, 38, 80))
WIDTH, KERNEL, SCALE = 16, 3, 2.0
OURS, GRID, REFERENCE = "compiled", "grid_sample", "reference"
Inputs = tuple[Tensor, Tensor, Tensor]


def grid_sample(input: Tensor, offset: Tensor, mask: Tensor, groups: int) -> Tensor:
    """DCNv3 for ``KERNEL``, stride, dilation and pad 1, by one ``grid_sample`` over all points of all groups."""
    n, h, w, channels = input.shape
    points, half = KERNEL**2, KERNEL // 2
    steps = torch.arange(-half, half + 1, device=input.device, dtype=input.dtype)
    base = torch.stack((steps.repeat_interleave(KERNEL), steps.repeat(KERNEL)), -1)  # (K, 2): x slow, y fast
    x = torch.arange(w, device=input.device, dtype=input.dtype)
    y = torch.arange(h, device=input.device, dtype=input.dtype)
    pixel = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(1, h * w, 1, 1, 2)
    at = pixel + (base + offset.reshape(n, h * w, groups, points, 2)) * SCALE
    grid = (2 * at + 1) / at.new_tensor((w, h)) - 1  # pixel centres, as align_corners=False counts them
    grid = grid.transpose(1, 2).flatten(0, 1)  # (N * G, H * W, K, 2)
    maps = input.reshape(n, h * w, groups, -1).permute(0, 2, 3, 1).reshape(n * groups, -1, h, w)
    results = functional.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    weight = mask.reshape(n, h * w, groups, points).transpose(1, 2).flatten(0, 1)[:, None]
    summed = (results * weight).sum(-1)  # (N * G, D, H * W)
    return summed.reshape(n, channels, h * w).transpose(1, 2).reshape(n, h, w, channels)


def inputs(h: int, w: int, groups: int, device: str) -> Inputs:
    """What the network feeds the operator: offsets of about a pixel, weights that sum to one in each group."""
    torch.manual_seed(0)
    points = groups * KERNEL**2
    input = torch.randn(1, h, w, groups * WIDTH, device=device)
    offset = 0.7 * torch.randn(1, h, w, points * 2, device=device)
    mask = torch.randn(1, h, w, groups, KERNEL**2, device=device).softmax(-1).flatten(3)
    return input, offset, mask


def contenders(groups: int) -> dict[str, Callable[..., Tensor]]:
    """Every way to compute it, by name."""
    kernel, ones = [KERNEL] * 2, [1, 1]
    return {
        OURS: lambda *tensors: torch.ops.cascadezoo.dcnv3(*tensors, kernel, ones, ones, ones, groups, SCALE),
        GRID: lambda input, offset, mask: grid_sample(input, offset, mask, groups),
        REFERENCE: lambda input, offset, mask: ops.reference(
            input, offset, mask, kernel, ones, ones, ones, groups, SCALE
        ),
    }


@torch.inference_mode()
def measure_stage(h: int, w: int, groups: int, device: str, runs: int) -> dict[str, Any]:
    """Milliseconds of each contender, and how many times faster the compiled one is, over runs taken in turn."""
    tensors = inputs(h, w, groups, device)
    results: dict[str, Tensor] = {}
    clocks: dict[str, list[float]] = {name: [] for name in contenders(groups)}
    for run in range(runs + 1):
        for name, contender in contenders(groups).items():
            start = now(torch.device(device))
            results[name] = contender(*tensors)
            if run:
                clocks[name].append(1000 * (now(torch.device(device)) - start))
    largest = results[GRID].abs().max()
    ratios = {
        name: [theirs / ours for theirs, ours in zip(clocks[name], clocks[OURS], strict=True)]
        for name in (GRID, REFERENCE)
    }
    return {
        "shape": [1, h, w, groups * WIDTH],
        "groups": groups,
        "milliseconds": {name: spread(each) for name, each in clocks.items()},
        "times_faster_than": {name: spread(each) for name, each in ratios.items()},
        "largest_difference": {n: float((results[n] - results[GRID]).abs().max() / largest) for n in (OURS, REFERENCE)},
    }


@torch.inference_mode()
def peak(name: str, stage: int, device: str) -> int:
    """Bytes that one call takes at its peak, beyond its inputs; on the CPU only right in a fresh process."""
    h, w, groups = STAGES[stage]
    contender = contenders(groups)[name]
    contender(*inputs(8, 8, groups, device))  # threads and libraries are there
    tensors = inputs(h, w, groups, device)
    if device == "cpu":
        # the inputs' own making may have peaked higher: fill up to that peak first
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        ballast = _ballast(before)
        contender(*tensors)
        del ballast
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    contender(*tensors)
    return torch.cuda.max_memory_allocated() - before


def _ballast(peak_kib: int) -> bytearray:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    room = peak_kib * 1024 - pages * resource.getpagesize()
    return bytearray(b"\1") * max(room, 0)


def _peaks(stage: int, device: str) -> dict[str, float]:
    results = {}
    for name in (OURS, GRID, REFERENCE):
        command = [
            sys.executable,
            "-m",
            "cascadezoo.benchmarks.measure.ops",
            "--device",
            device,
            "--peak",
            name,
            str(stage),
        ]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        results[name] = round(int(done.stdout) / 2**20, 1)
    return results


def measure(device: str, runs: int) -> dict[str, Any]:
    """The whole report.

    Raises:
        OpsNotBuilt: no compiled operators for this device.
    """
    if device not in COMPILED:
        raise OpsNotBuilt(f"no compiled operators for {device} ({STATUS[device]}): run `cascadezoo build-ops`")
    stages = []
    for stage, (h, w, groups) in enumerate(STAGES):
        stages.append({**measure_stage(h, w, groups, device, runs), "peak_mib": _peaks(stage, device)})
    return {
        "benchmark": "dcnv3 forward, InternImage-L at 800x1216, kernel 3, offset_scale 2, float32",
        "device": device,
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "runs": runs,
        "stages": stages,
    }


def table(report: dict[str, Any]) -> str:
    """The report for the eye."""
    lines = [f"{'median ms':18}{OURS:>10}{GRID:>13}{REFERENCE:>11}   times faster than grid_sample   peak MiB"]
    for stage in report["stages"]:
        shape = "x".join(map(str, stage["shape"][1:]))
        ours, grid, reference = (stage["milliseconds"][name]["median"] for name in (OURS, GRID, REFERENCE))
        ratio = stage["times_faster_than"][GRID]
        faster = f"{ratio['median']:.1f} ({ratio['min']:.1f} to {ratio['max']:.1f})"
        peaks = ", ".join(f"{value:.0f}" for value in stage["peak_mib"].values())
        lines.append(f"{shape:18}{ours:10.1f}{grid:13.1f}{reference:11.1f}   {faster:31}{peaks}")
    lines.append(f"{report['threads']} threads, {report['device']}; peaks beyond the inputs, in the columns' order")
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, write the report."""
    parser = argparse.ArgumentParser(description="The compiled DCNv3 beside PyTorch ones.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--output", type=Path, default=RESULTS / "ops.json")
    parser.add_argument("--peak", nargs=2, metavar=("NAME", "STAGE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    if options.peak:
        print(peak(options.peak[0], int(options.peak[1]), options.device))
        return
    report = measure(options.device, options.runs)
    print(table(report))
    write_report(options.output, report)
    print(f"written to {options.output}")


if __name__ == "__main__":
    main()
