"""Tests and benchmarks on a GPU: ``python -m cascadezoo.benchmarks.measure.gpu [--only build,ops] [--budget 9]``.

From the root of a checkout: it needs tests/.  Exit codes: 0 where nothing failed, 1 where something did, 3 where there
is no GPU.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from cascadezoo.benchmarks.measure.gpu.plan import PARTS, chosen
from cascadezoo.benchmarks.measure.gpu.report import FAILED
from cascadezoo.benchmarks.measure.gpu.runner import described, run_parts
from cascadezoo.benchmarks.measure.results import RESULTS, write_report
from cascadezoo.ops import building

NO_GPU = 3


def environ() -> dict[str, str]:
    """What a part's process sees: TF32 is what the part says it is, with operators that were built for the GPU no
    reference takes a kernel's place unseen, and whatever the part starts imports this checkout."""
    kept = {name: value for name, value in os.environ.items() if name != "NVIDIA_TF32_OVERRIDE"}
    ops = "compiled" if building.built("cuda", torch.version.cuda) else "auto"
    path = os.pathsep.join(filter(None, (os.getcwd(), kept.get("PYTHONPATH"))))
    return {"CASCADEZOO_OPS": ops, **kept, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def summary(outcomes: dict[str, dict[str, Any]]) -> str:
    """A line for each part, and then what there was no time for."""
    lines = [f"{name:12}{described(outcome)}" for name, outcome in outcomes.items()]
    for name, outcome in outcomes.items():
        if left := outcome.get("left_out"):
            lines.append(f"left out of {name}: {', '.join(left)}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts, write the summary, return the exit code."""
    parser = argparse.ArgumentParser(description="Tests and benchmarks on a GPU.")
    parser.add_argument("--only", metavar="PARTS", help=f"some of {','.join(part.name for part in PARTS)}")
    parser.add_argument("--budget", type=float, default=9.0, help="minutes for all of it (default: 9)")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    try:
        parts = chosen(options.only)
    except ValueError as error:
        parser.error(str(error))
    if not torch.cuda.is_available():
        print("no GPU that this torch can use: nothing was run")
        return NO_GPU
    options.results.mkdir(parents=True, exist_ok=True)
    outcomes: dict[str, dict[str, Any]] = {}
    others = [part.name for part in PARTS if part not in parts]
    for name, outcome in run_parts(parts, options.results, 60 * options.budget, environ):
        outcomes[name] = outcome
        so_far = {"budget_minutes": options.budget, "parts": outcomes, "not_asked_for": others}
        write_report(options.results / "gpu_summary.json", so_far)
    print(summary(outcomes))
    return int(any(outcome["status"] == FAILED for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
