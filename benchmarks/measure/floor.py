"""How near an optimised model comes to what the processor can do: ``python -m cascadezoo.benchmarks.measure.floor``.

The floor of a stage is the time of its convolutions and products, of which only one mask for each detection counts, at
the rate that torch's oneDNN reaches in a plain 3 x 3 convolution of the same precision in the same run.  What has no
products counts nothing; Winograd's way, which needs fewer of them, may go below.  Beside it the rate of a linear layer,
which is MKL's in float32; and a profile by operator.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

from cascadezoo.benchmarks.measure.computing import computing
from cascadezoo.benchmarks.measure.latency import (
    CPU,
    Images,
    optimised,
    our_clock,
    our_whole,
    random_model,
    scene,
    summary,
)
from cascadezoo.benchmarks.measure.products import count
from cascadezoo.benchmarks.measure.results import RESULTS, write_report
from cascadezoo.benchmarks.verify.speed import STAGES
from cascadezoo.benchmarks.verify.timing import Clock, in_turn, now, spread, timed
from cascadezoo.detector import Detector
from cascadezoo.ops.library import COMPILED
from cascadezoo.optimizing.precision import DTYPES
from cascadezoo.spec.model import ModelSpec

CHANNELS, LEVEL = 256, (200, 336)  # of the 3 x 3 convolution: an FPN's finest level at 800 x 1344
PRODUCT = (1000, 12544, 1024)  # rows, inputs, outputs of the linear layer: the first of a box head
TARGET = 1.2  # times the floor, at most
OPERATORS = 15  # rows of the profile
OUTSIDE = "outside torch's operators"


class Yardstick:
    """A plain 3 x 3 convolution and a linear layer in one precision, by torch."""

    def __init__(self, precision: str, level: tuple[int, int] = LEVEL, product: tuple[int, int, int] = PRODUCT) -> None:
        dtype = DTYPES[precision]
        rows, inputs, outputs = product
        last = torch.channels_last
        self.pixels = torch.randn(1, CHANNELS, *level, dtype=dtype).contiguous(memory_format=last)
        self.kernel = torch.randn(CHANNELS, CHANNELS, 3, 3, dtype=dtype).contiguous(memory_format=last)
        self.rows, self.weight = torch.randn(rows, inputs, dtype=dtype), torch.randn(outputs, inputs, dtype=dtype)
        self.gflop = {
            "convolution": 2 * 9 * CHANNELS**2 * level[0] * level[1] / 1e9,
            "linear": 2 * rows * inputs * outputs / 1e9,
        }

    def clock(self) -> Clock:
        """Seconds of each."""
        clock: Clock = {}
        with timed(clock, "convolution", CPU):
            F.conv2d(self.pixels, self.kernel, padding=1)
        with timed(clock, "linear", CPU):
            F.linear(self.rows, self.weight)
        return clock


def gflop(spec: ModelSpec, size: tuple[int, int]) -> dict[str, float]:
    """The work of one padded image (height, width) by ``STAGES``: 10^9 operations, an addition being one."""
    counted = {stage: sum(w.flops for w in works) / 1e9 for stage, works in count(spec, size, one_mask=True).items()}
    counted["backbone+neck"] = counted.pop("backbone") + counted.pop("neck", 0.0)
    return {stage: counted.get(stage, 0.0) for stage in STAGES}


def compared(
    work: dict[str, float], clocks: Sequence[Clock], rates: Sequence[Clock], yardstick: dict[str, float]
) -> dict[str, Any]:
    """A model's clocks beside its floor.

    Args:
        work: GFLOP of each stage.
        clocks: of ``our_clock``, run by run.
        rates: seconds of the yardstick, in the same runs.
        yardstick: its GFLOP.
    """
    found = {name: spread([amount / rate[name] for rate in rates], 1) for name, amount in yardstick.items()}
    floors = {stage: round(1000 * amount / found["convolution"]["median"], 3) for stage, amount in work.items()}
    floor_s = [sum(work.values()) * rate["convolution"] / yardstick["convolution"] for rate in rates]
    return {
        "gflop_per_second": found,
        **summary(clocks),
        "whole_ms": spread([1000 * clock["whole"] for clock in clocks]),
        "floor_ms": floors,
        "floor_total_ms": round(sum(floors.values()), 3),
        "times_the_floor": spread([c["whole"] / floor for c, floor in zip(clocks, floor_s, strict=True)]),
    }


def by_operator(model: Detector, images: Images) -> list[dict[str, Any]]:
    """The operators of ``our_whole`` that take most of its time by themselves, without those that they call, then the
    sum of all others, and the time outside of any."""
    our_whole(model, images)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        start = now(CPU)
        our_whole(model, images)
        whole_ms = 1000 * (now(CPU) - start)
    events = sorted(profiler.key_averages(), key=lambda event: -event.self_cpu_time_total)
    rows = [(event.key, event.count, event.self_cpu_time_total / 1000) for event in events]
    first, rest = rows[:OPERATORS], rows[OPERATORS:]
    first.append(("others", sum(row[1] for row in rest), sum(row[2] for row in rest)))
    first.append((OUTSIDE, 0, whole_ms - sum(row[2] for row in rows)))
    return [
        {"operator": name, "calls": calls, "ms": round(ms, 2), "share": round(ms / whole_ms, 4)}
        for name, calls, ms in first
    ]


@torch.inference_mode()
def measure(entry: str, runs: int) -> dict[str, Any]:
    """The optimised models of an entry in the precisions of this processor, on one generated image, in turn with the
    yardsticks; then their profiles."""
    image = scene()
    plain = random_model(entry, image, CPU)
    height, width = plain.prepare([plain.resize(image)]).pixels.shape[2:]
    work = gflop(plain.spec, (height, width))
    models = optimised(plain)
    yardsticks = {precision: Yardstick(precision) for precision in models}
    ways: dict[str, Callable[[], Clock]] = {
        **{f"model {name}": partial(our_clock, model, [image]) for name, model in models.items()},
        **{f"yardstick {name}": each.clock for name, each in yardsticks.items()},
    }
    with computing(CPU, "fp32"):
        clocks = in_turn(ways, runs)
        found = {
            name: {
                **compared(work, clocks[f"model {name}"], clocks[f"yardstick {name}"], yardsticks[name].gflop),
                "profile": by_operator(model, [image]),
            }
            for name, model in models.items()
        }
    return {
        "benchmark": "floor",
        "entry": entry,
        "image": list(image.shape[:2]),
        "network_input": [height, width],
        "runs": runs,
        "threads": torch.get_num_threads(),
        "compiled_ops": list(COMPILED),
        "target": TARGET,
        "gflop": {stage: round(amount, 3) for stage, amount in work.items()},
        "precisions": found,
    }


def _table(report: dict[str, Any], precision: str) -> str:
    found = report["precisions"][precision]
    rates = {name: f"{rate['median']:.0f}" for name, rate in found["gflop_per_second"].items()}
    lines = [
        f"{precision}, GFLOP/s: convolution {rates['convolution']}, linear {rates['linear']}",
        f"{'stage':16}{'GFLOP':>9}{'floor, ms':>11}{'measured':>10}",
    ]
    for stage, amount in report["gflop"].items():
        lines.append(
            f"{stage:16}{amount:9.1f}{found['floor_ms'][stage]:11.1f}{found['stages_ms'][stage]['median']:10.1f}"
        )
    ratio = found["times_the_floor"]
    lines.append(
        f"{'whole, unfenced':16}{sum(report['gflop'].values()):9.1f}{found['floor_total_ms']:11.1f}"
        f"{found['whole_ms']['median']:10.1f}, {ratio['median']:.2f} times ({ratio['min']:.2f} to {ratio['max']:.2f})"
    )
    lines += [f"{row['share']:8.1%} {row['ms']:8.1f} ms {row['calls']:5} {row['operator']}" for row in found["profile"]]
    return "\n".join(lines)


def main() -> None:
    """Measure, print a table for each precision, write the report."""
    parser = argparse.ArgumentParser(description="The floor of an entry on the CPU, stage by stage.")
    parser.add_argument("--entry", default="cascade_mask_r50_fpn_1x.mmdet")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--output", type=Path, default=RESULTS / "floor.json")
    options = parser.parse_args()
    report = measure(options.entry, options.runs)
    for precision in report["precisions"]:
        print(_table(report, precision))
    write_report(options.output, report)
    print(f"written to {options.output}")


if __name__ == "__main__":
    main()
