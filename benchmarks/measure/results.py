"""Where the results of measurements lie and how they are written; the memory of this process."""

import json
from pathlib import Path
from typing import Any

from cascadezoo.environment import environment
from cascadezoo.files import whole_file

RESULTS = Path("benchmarks/results")  # in the root of a checkout, where the measurements are started


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Write a benchmark's report with the environment it was measured in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(json.dumps({**report, "environment": environment()}, indent=2).encode() + b"\n")


def process_memory(field: str) -> int:
    """Bytes of this process as Linux counts them: ``VmRSS`` now, ``VmHWM`` at its highest."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))
