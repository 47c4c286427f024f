"""Many reports as one table of results: CSV for programs, LaTeX (booktabs) for papers, Markdown for pages.

A row is an evaluation of an entry in a report, with its speed; figures are in percent.
"""

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from cascadezoo.benchmarks.reports.markdown import one_line, table
from cascadezoo.benchmarks.reports.rows import evaluation_name, given_weights, used_columns
from cascadezoo.benchmarks.reports.schema import Accuracy, EntryReport, Report
from cascadezoo.coco.evaluation import Kind
from cascadezoo.coco.metrics import HUNDREDTH, THOUSANDTH, rounded

_KINDS: dict[Kind, str] = {"bbox": "box", "segm": "mask"}
_FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl")
_SUBSCRIPT = re.compile(r"AP(50|75|[sml])")
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}",
}  # fmt: skip


class Column(NamedTuple):
    """One column: its name, and the group of columns that it stands in, which may be empty."""

    group: str
    name: str


_ABOUT = [Column("", name) for name in ("report", "entry", "weights", "evaluation")]
_CONDITIONS = [Column("", name) for name in ("verdict", "images", "device", "precision", "evaluator", "version")]


def csv_table(reports: Mapping[str, Report]) -> str:
    """All reports, by the name that rows are to have for each, as CSV, figures with three digits."""
    columns = [*_ABOUT, *_measured(reports), *_CONDITIONS]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([f"{column.group} {column.name}".strip() for column in columns])
    for row in _rows(reports, THOUSANDTH):
        writer.writerow([row.get(column, "") for column in columns])
    return text.getvalue()


def markdown_table(reports: Mapping[str, Report]) -> str:
    """The same as Markdown, figures with two digits, without columns that are empty everywhere."""
    columns, cells = _short(reports)
    return "\n".join(table([f"{column.group} {column.name}".strip() for column in columns], cells)) + "\n"


def latex_table(reports: Mapping[str, Report]) -> str:
    """The same as a LaTeX ``tabular`` that needs the package booktabs."""
    columns, cells = _short(reports)
    used = used_columns(cells)
    columns, cells = [columns[i] for i in used], [[row[i] for i in used] for row in cells]
    texts = sum(column in _ABOUT for column in columns)
    lines = [
        "% needs \\usepackage{booktabs}",
        f"\\begin{{tabular}}{{{'l' * texts}{'r' * (len(columns) - texts)}}}",
        "\\toprule",
        *_latex_groups(columns),
        _latex_row([_latex_name(column.name) for column in columns]),
        "\\midrule",
        *(_latex_row([latex(cell) for cell in row]) for row in cells),
        "\\bottomrule",
        "\\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


FORMATS: dict[str, Callable[[Mapping[str, Report]], str]] = {
    "csv": csv_table,
    "latex": latex_table,
    "markdown": markdown_table,
}


def latex(text: str) -> str:
    """Text from anyone as LaTeX that prints it as it is, on one line."""
    return "".join(_LATEX.get(character, character) for character in one_line(text))


def _short(reports: Mapping[str, Report]) -> tuple[list[Column], list[list[str]]]:
    columns = [*(_ABOUT if len(reports) > 1 else _ABOUT[1:]), *_measured(reports)]
    rows = _rows(reports, HUNDREDTH)
    if {row[_ABOUT[3]] for row in rows} == {"plain"}:
        columns.remove(_ABOUT[3])
    return columns, [[row.get(column, "") for column in columns] for row in rows]


def _measured(reports: Mapping[str, Report]) -> list[Column]:
    """The columns of figures, and of speed at each batch size that any report has."""
    sizes = {
        batch.batch_size
        for report in reports.values()
        for entry in report.entries
        if entry.speed and entry.speed.timing
        for batch in entry.speed.timing.batches
    }
    figures = [Column(group, name) for group in _KINDS.values() for name in (_FIGURES[0], "published", *_FIGURES[1:])]
    return [*figures, *(Column("fps", f"batch {size}") for size in sorted(sizes))]


def _rows(reports: Mapping[str, Report], digits: Decimal) -> list[dict[Column, str]]:
    rows = []
    for name, report in reports.items():
        for entry in report.entries:
            machine = report.machines[entry.machine]
            shared = {
                "report": name,
                "entry": entry.name,
                "weights": given_weights(entry),
                "device": machine.device,
                "precision": report.settings.computed_in,
                "evaluator": machine.evaluator,
                "version": report.version,
            }
            speed = {Column("fps", f"batch {size}"): f"{fps:.2f}" for size, fps in _speed(entry)}
            parts: list[dict[Column, str]] = [_accuracy(part, digits) for part in entry.accuracy]
            for part in parts or [{Column("", "verdict"): entry.verdict, **dict.fromkeys(_ABOUT[3:], "plain")}]:
                is_plain = part[_ABOUT[3]] == "plain"  # speed is measured without test-time augmentation
                own = {Column("", key): text for key, text in shared.items()}
                rows.append(own | part | (speed if is_plain else {}))
    return rows


def _speed(entry: EntryReport) -> list[tuple[int, float]]:
    timing = entry.speed.timing if entry.speed else None
    return [(batch.batch_size, batch.fps) for batch in timing.batches] if timing else []


def _accuracy(part: Accuracy, digits: Decimal) -> dict[Column, str]:
    cells = {
        Column("", "evaluation"): evaluation_name(part),
        Column("", "verdict"): str(part.verdict),
        Column("", "images"): str(part.images or ""),
    }
    for kind, group in _KINDS.items():
        figures = part.figures.get(kind, {})
        for name in _FIGURES:
            value = figures.get(name)
            cells[Column(group, name)] = "" if value is None else str(rounded(value, digits))
        published = [str(check.published) for check in part.checks if check.metric == f"{group}_ap"]
        cells[Column(group, "published")] = "".join(published)
    return cells


def _latex_groups(columns: Sequence[Column]) -> list[str]:
    """The line over the heads that names each group, and the rules under it; nothing where there is no group."""
    cells, rules, place = [], [], 0
    while place < len(columns):
        group = columns[place].group
        width = 1 if not group else sum(column.group == group for column in columns)
        cells.append(f"\\multicolumn{{{width}}}{{c}}{{{latex(group)}}}" if group else "")
        rules += [f"\\cmidrule(lr){{{place + 1}-{place + width}}}"] if group else []
        place += width
    return [_latex_row(cells), " ".join(rules)] if rules else []


def _latex_name(name: str) -> str:
    found = _SUBSCRIPT.fullmatch(name)
    return f"AP$_{{{found[1]}}}$" if found else latex(name)


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"
