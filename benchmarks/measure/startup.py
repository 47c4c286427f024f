"""How long a listing of the zoo takes from a cold interpreter: ``python -m cascadezoo.benchmarks.measure.startup``.

Each case is a fresh process, timed from outside after warm-up runs (files cached, bytecode compiled).  Cases alternate,
so that a busy moment hits all of them; the bare interpreter is one of them, since every other includes it.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

import click

from cascadezoo.benchmarks.measure.results import RESULTS, write_report

CASES = {
    "python -c pass": ("-c", "pass"),
    "import cascadezoo; list_models()": ("-c", "import cascadezoo; cascadezoo.list_models()"),
    "python -m cascadezoo list": ("-m", "cascadezoo", "list"),
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
    """Time the start-up of the listing and write a report."""
    seconds: dict[str, list[float]] = {case: [] for case in CASES}
    for run in range(WARM_UPS + runs):
        for case, arguments in CASES.items():
            elapsed = _time(arguments)
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

    click.echo(f"{'seconds':34} median    min    max")
    for case, values in seconds.items():
        click.echo(f"{case:34} {statistics.median(values):6.3f} {min(values):6.3f} {max(values):6.3f}")
    click.echo(f"report: {output}", err=True)


def _time(arguments: tuple[str, ...]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - start


def _summary(values: list[float]) -> dict[str, float | list[float]]:
    return {
        "median": round(statistics.median(values), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
        "all": [round(value, 4) for value in values],
    }


if __name__ == "__main__":
    main()
