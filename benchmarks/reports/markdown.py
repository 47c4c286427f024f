"""A verify report as Markdown."""

from collections.abc import Iterable, Sequence

from cascadezoo.benchmarks.reports.rows import accuracy_rows, code_lines, machine_lines, speed_rows, summary
from cascadezoo.benchmarks.reports.schema import Report

_ACCURACY = ("entry", "evaluation", "verdict", "box AP (published)", "mask AP (published)", "why")
_SPEED = ("entry", "verdict", "batch", "fps", "median, ms", "quartiles, ms", "peak, MiB", "published fps", "why")


def markdown(report: Report) -> str:
    """The whole report, less the details of each entry."""
    parts = ["# Verification", "", f"{summary(report)}.", ""]
    if rows := list(accuracy_rows(report)):
        parts += ["## Accuracy", "", "COCO average precision in percent.", "", *table(_ACCURACY, rows), ""]
    if timed := list(speed_rows(report)):
        parts += [
            "## Speed",
            "",
            "Images a second at the median, decoding excluded.  Published fps are another device's, never judged.",
            "",
            *table(_SPEED, timed),
            "",
        ]
    for number, machine in enumerate(report.machines):
        used = sum(entry.machine == number for entry in report.entries)
        heading = "## Machine" if len(report.machines) == 1 else f"## Machine {number + 1}, {used} entries"
        parts += [heading, "", *(f"- {label}: {text}" for label, text in machine_lines(machine)), ""]
    parts += ["## Code", "", *(f"- {label}: {text}" for label, text in code_lines(report))]
    return "\n".join(parts) + "\n"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table's lines; columns that are empty everywhere are left out."""
    cells = [list(row) for row in rows]
    used = [i for i in range(len(heads)) if any(row[i] for row in cells)]
    lines = [[heads[i] for i in used], ["---"] * len(used)]
    lines += [[" ".join(row[i].split()).replace("|", "\\|") for i in used] for row in cells]
    return [f"| {' | '.join(line)} |" for line in lines]
