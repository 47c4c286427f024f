"""A verify report as one HTML page that needs nothing else: no scripts, no fonts, no network."""

from collections.abc import Iterable, Sequence
from html import escape as _escape

from cascadezoo.benchmarks.reports.rows import (
    ACCURACY_HEADINGS,
    ACCURACY_NOTE,
    SPEED_HEADINGS,
    SPEED_NOTE,
    accuracy_rows,
    code_lines,
    entry_details,
    machine_lines,
    speed_rows,
    summary,
)
from cascadezoo.benchmarks.reports.schema import EntryReport, Report
from cascadezoo.benchmarks.reports.verdict import Verdict
from cascadezoo.text import printable

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 78rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; }
h2 { font-size: 1.2rem; margin-top: 2.5rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; border-bottom: 1px solid #8884; }
th { font-weight: 600; white-space: nowrap; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; }
dt { opacity: .7; } dd { margin: 0; overflow-wrap: anywhere; }
summary { cursor: pointer; padding: .2rem 0; }
.verdict { font-weight: 600; white-space: nowrap; }
.PASS { color: #15803d; } .FAIL, .ERROR { color: #dc2626; } .PARTIAL { color: #b45309; }
.SKIPPED, .NO-REFERENCE { opacity: .65; }
"""


def html(report: Report) -> str:
    """The whole page, with every entry and everything that was measured of it."""
    title = f"Verification of {len(report.entries)} models"
    parts = [f"<h1>{_shown(title)}</h1>", f"<p>{_shown(summary(report))}</p>"]
    if rows := list(accuracy_rows(report)):
        parts += ["<h2>Accuracy</h2>", f"<p>{_shown(ACCURACY_NOTE)}</p>", _table(ACCURACY_HEADINGS, rows)]
    if timed := list(speed_rows(report)):
        parts += ["<h2>Speed</h2>", f"<p>{_shown(SPEED_NOTE)}</p>", _table(SPEED_HEADINGS, timed)]
    parts += ["<h2>Details</h2>", *map(_details, report.entries)]
    for number, machine in enumerate(report.machines, start=1):
        parts += [f"<h2>Machine{f' {number}' if len(report.machines) > 1 else ''}</h2>", _list(machine_lines(machine))]
    parts += ["<h2>Code</h2>", _list(code_lines(report))]
    return (
        "<!DOCTYPE html>\n"
        f'<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{_shown(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["".join(f"<th>{_shown(head)}</th>" for head in heads)]
    lines += ["".join(map(_cell, row)) for row in rows]
    return '<div class="scroll"><table>\n' + "\n".join(f"<tr>{line}</tr>" for line in lines) + "\n</table></div>"


def _cell(text: str) -> str:
    return f"<td>{_verdict(text) if isinstance(text, Verdict) else _shown(text)}</td>"


def _verdict(verdict: Verdict) -> str:
    return f'<span class="verdict {verdict}">{verdict}</span>'


def _details(entry: EntryReport) -> str:
    sections = [f"<h4>{_shown(heading)}</h4>{_list(lines)}" for heading, lines in entry_details(entry)]
    inside = "".join(sections) or "<p>Nothing was measured.</p>"
    return f"<details><summary>{_shown(entry.name)} {_verdict(entry.verdict)}</summary>{inside}</details>"


def _list(lines: Iterable[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{_shown(label)}</dt><dd>{_shown(text)}</dd>" for label, text in lines) + "</dl>"


def _shown(text: str) -> str:
    return _escape(printable(text))
