"""How long the command line takes to answer from a cold interpreter, where it needs no tensors:
``python -m cascadezoo.benchmarks.measure.startup``.

Each case is a fresh process, timed from outside after warm-up runs (files cached, bytecode compiled).  Cases alternate,
so that a busy moment hits all of them; the bare interpreter is one of them, since every other includes it.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

import click

from cascadezoo import registry
from cascadezoo.benchmarks.measure.results import RESULTS, write_report
from cascadezoo.hub.cache import weights_path

OWN = weights_path(registry.info("cascade_mask_r18_fpn_shapes"))
ENTRY = "cascade_r50_fpn_1x.mmdet"
SHOWN = "python -m cascadezoo"
_DATA = ("--train-json", __file__, "--train-images", ".")  # never read
# what is shown -> its arguments and its exit code; those of code 2 are mistakes that a user makes
CASES = {
    "python -c pass": (("-c", "pass"), 0),
    "import cascadezoo; list_models()": (("-c", "import cascadezoo; cascadezoo.list_models()"), 0),
    f"{SHOWN} list": (("-m", "cascadezoo", "list"), 0),
    f"{SHOWN} predict --help": (("-m", "cascadezoo", "predict", "--help"), 0),
    f"{SHOWN} train (no data given)": (("-m", "cascadezoo", "train", "--entry", ENTRY, "--run-dir", "new"), 2),
    f"{SHOWN} train (run folder not empty)": (
        ("-m", "cascadezoo", "train", "--entry", ENTRY, *_DATA, "--run-dir", str(RESULTS)),
        2,
    ),
    f"{SHOWN} convert (output is there)": (
        ("-m", "cascadezoo", "convert", "--from", "mmdet", __file__, "-o", str(OWN)),
        2,
    ),
    f"{SHOWN} predict (--out is a file)": (("-m", "cascadezoo", "predict", ENTRY, ".", "--out", __file__), 2),
    f"{SHOWN} verify (no such entry)": (("-m", "cascadezoo", "verify", "nonsense"), 2),
}
WARM_UPS = 2


@click.command()
@click.option("--runs", default=15, show_default=True, type=click.IntRange(min=1), help="Timed runs of each case.")
@click.option(
    "--output",
    default=RESULTS / "startup.json",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The report.  [default: benchmarks/results/startup.json]",
)
def main(runs: int, output: Path) -> None:
    """Time the start-up and write a report."""
    seconds: dict[str, list[float]] = {case: [] for case in CASES}
    for run in range(WARM_UPS + runs):
        for case, (arguments, code) in CASES.items():
            elapsed = _time(arguments, code)
            if run >= WARM_UPS:
                seconds[case].append(elapsed)
    report = {
        "benchmark": "startup",
        "unit": "seconds",
        "warm_ups": WARM_UPS,
        "runs": runs,
        "cases": {case: _summary(values) for case, values in seconds.items()},
    }
    write_report(output, report)

    click.echo(f"{'seconds':51} median    min    max")
    for case, values in seconds.items():
        click.echo(f"{case:51} {statistics.median(values):6.3f} {min(values):6.3f} {max(values):6.3f}")
    click.echo(f"report: {output}", err=True)


def _time(arguments: tuple[str, ...], code: int) -> float:
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    elapsed = time.perf_counter() - start
    if done.returncode != code:
        raise RuntimeError(f"{' '.join(arguments)} ended with {done.returncode}, not {code}: {done.stderr}")
    return elapsed


def _summary(values: list[float]) -> dict[str, float | list[float]]:
    return {
        "median": round(statistics.median(values), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
        "all": [round(value, 4) for value in values],
    }


if __name__ == "__main__":
    main()
