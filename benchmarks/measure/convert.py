"""What converting a checkpoint costs in memory and time: ``python -m cascadezoo.benchmarks.measure.convert``.

Each run is a fresh process.  Memory is the highest resident set that Linux saw in it, less the resident set after the
imports; pages of the mapped checkpoint count, although the system may take them back.  (Not ``getrusage``: its peak
outlives exec, so that a child is charged with its parent.)  Time excludes the imports, and the file is in the page
cache from the second run on.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import torch

from cascadezoo.benchmarks.measure.results import RESULTS, process_memory, write_report
from cascadezoo.benchmarks.verify.timing import spread
from cascadezoo.checkpoints.conversion import convert, to_publisher
from cascadezoo.modeling.build import canonical_shapes
from cascadezoo.providers import SPECS

ARCHITECTURE = "cascade_mask_r50_fpn"
MIB = 2**20


@click.command()
@click.option("--runs", default=5, show_default=True, type=click.IntRange(min=1), help="Processes to measure.")
@click.option(
    "--checkpoint",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help=f"An mmdetection file that convert can name.  [default: {ARCHITECTURE} with random weights]",
)
@click.option(
    "--output",
    default=RESULTS / "convert.json",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The report.  [default: benchmarks/results/convert.json]",
)
def main(runs: int, checkpoint: Path | None, output: Path) -> None:
    """Measure the conversion of an mmdetection checkpoint and write a report."""
    with TemporaryDirectory(prefix="cascadezoo-") as folder:
        source = random_checkpoint(Path(folder)) if checkpoint is None else checkpoint
        measured = [run_fresh(source, Path(folder) / "out.safetensors") for _ in range(runs)]
        size = source.stat().st_size
    seconds = [float(run["seconds"]) for run in measured]
    peak = max(int(run["peak_bytes"]) for run in measured)
    report = {
        "benchmark": "convert",
        "architecture": measured[0]["architecture"],
        "checkpoint_bytes": size,
        "runs": runs,
        "seconds": {**spread(seconds), "all": seconds},
        "peak_bytes": peak,
        "peak_over_checkpoint": round(peak / size, 3),
    }
    write_report(output, report)

    click.echo("    MiB   peak MiB   peak / size   seconds")
    click.echo(f"{size / MIB:7.1f} {peak / MIB:10.1f} {peak / size:13.2f} {report['seconds']['median']:9.2f}")
    click.echo(f"report: {output}", err=True)


def measure(source: str, target: str) -> None:
    """Convert in this process and print what it took, as JSON."""
    before = process_memory("VmRSS")
    start = time.perf_counter()
    report = convert(source, output=target, force=True)
    seconds = time.perf_counter() - start
    peak = process_memory("VmHWM") - before
    print(json.dumps({"architecture": report.architecture, "seconds": round(seconds, 3), "peak_bytes": peak}))


def run_fresh(source: Path, target: Path) -> dict[str, Any]:
    """What ``measure`` finds in a process of its own."""
    code = "import sys; from cascadezoo.benchmarks.measure.convert import measure; measure(*sys.argv[1:])"
    command = [sys.executable, "-c", code, str(source), str(target)]
    result: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return result


def random_checkpoint(folder: Path) -> Path:
    """A file as mmdetection writes it, with the tensors of ``ARCHITECTURE``; its name says which entry it is."""
    generator = torch.Generator().manual_seed(0)
    shapes = canonical_shapes(SPECS["mmdet"][ARCHITECTURE])
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    path = folder / f"{ARCHITECTURE}.pth"
    state = to_publisher(tensors, f"{ARCHITECTURE}_1x.mmdet")
    torch.save({"meta": {"mmdet_version": "2.0.0"}, "state_dict": state}, path)
    return path


if __name__ == "__main__":
    main()
