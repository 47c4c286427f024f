"""A verify report as Markdown."""

from collections.abc import Iterable, Sequence

from cascadezoo.benchmarks.reports.rows import (
    ACCURACY_HEADINGS,
    ACCURACY_NOTE,
    SPEED_HEADINGS,
    SPEED_NOTE,
    accuracy_rows,
    code_lines,
    machine_lines,
    speed_rows,
    summary,
)
from cascadezoo.benchmarks.reports.schema import Report
from cascadezoo.text import printable


def markdown(report: Report) -> str:
    """The whole report, less the details of each entry."""
    parts = ["# Verification", "", f"{summary(report)}.", ""]
    if rows := list(accuracy_rows(report)):
        parts += ["## Accuracy", "", ACCURACY_NOTE, "", *table(ACCURACY_HEADINGS, rows), ""]
    if timed := list(speed_rows(report)):
        parts += ["## Speed", "", SPEED_NOTE, "", *table(SPEED_HEADINGS, timed), ""]
    for number, machine in enumerate(report.machines):
        used = sum(entry.machine == number for entry in report.entries)
        heading = "## Machine" if len(report.machines) == 1 else f"## Machine {number + 1}, {used} entries"
        parts += [heading, "", *_items(machine_lines(machine)), ""]
    parts += ["## Code", "", *_items(code_lines(report))]
    return "\n".join(parts) + "\n"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table's lines; columns that are empty everywhere are left out."""
    cells = [list(row) for row in rows]
    used = [i for i in range(len(heads)) if any(row[i] for row in cells)]
    lines = [[heads[i] for i in used], ["---"] * len(used)]
    lines += [[printable(" ".join(row[i].split())).replace("|", "\\|") for i in used] for row in cells]
    return [f"| {' | '.join(line)} |" for line in lines]


def _items(lines: Iterable[tuple[str, str]]) -> list[str]:
    return [f"- {label}: {printable(text)}" for label, text in lines]
