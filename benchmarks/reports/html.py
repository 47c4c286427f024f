"""A verify report as one HTML page that needs nothing else: no scripts, no fonts, no network."""

from collections.abc import Iterable, Sequence
from html import escape as _escape

from cascadezoo.benchmarks.reports.rows import (
    ACCURACY_HEADINGS,
    ACCURACY_NOTE,
    SPEED_HEADINGS,
    accuracy_rows,
    code_lines,
    counted,
    entry_details,
    machine_lines,
    speed_note,
    speed_rows,
    summary,
    used_columns,
)
from cascadezoo.benchmarks.reports.schema import EntryReport, Report
from cascadezoo.benchmarks.reports.verdict import Verdict
from cascadezoo.text import printable

_NARROW = "max-width: 80rem"  # too narrow for a table
_STYLE = """
:root { color-scheme: light dark; }
body {
  font: 15px/1.5 system-ui, sans-serif; max-width: 96rem; margin: 2rem auto; padding: 0 1rem;
  overflow-wrap: anywhere;
}
h1 { font-size: 1.6rem; margin-bottom: 0; }
h2 { font-size: 1.2rem; margin-top: 2.5rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; border-bottom: 1px solid #8884; }
th { font-weight: 600; }
td:first-child { min-width: 24rem; }
dl { display: grid; grid-template-columns: minmax(6rem, max-content) minmax(0, 1fr); gap: .1rem 1rem; }
dt { opacity: .7; } dd { margin: 0; }
summary { cursor: pointer; padding: .2rem 0; }
.verdict { font-weight: 600; white-space: nowrap; }
.PASS { color: #15803d; } .FAIL, .ERROR { color: #dc2626; } .PARTIAL { color: #b45309; }
.SKIPPED, .NO-REFERENCE { opacity: .65; }
/* each row of a table a block, each cell a line with its heading */
@media (NARROW) {
  table, tbody, tr, td { display: block; }
  tr.heads { display: none; }
  tr { padding: .5rem 0; border-bottom: 1px solid #8884; }
  td, td:first-child { min-width: 0; border: 0; padding: .1rem 0; }
  td { display: grid; grid-template-columns: 8rem minmax(0, 1fr); gap: 0 1rem; }
  td:empty { display: none; }
  td::before { opacity: .7; }
}
@media (max-width: 40rem) {
  dl { grid-template-columns: minmax(0, 1fr); }
  dd { margin-bottom: .4rem; }
}
""".replace("NARROW", _NARROW)


def html(report: Report) -> str:
    """The whole page, with every entry and everything that was measured of it."""
    title = f"Verification of {counted(len(report.entries), 'model')}"
    parts = [f"<h1>{_shown(title)}</h1>", f"<p>{_shown(summary(report))}</p>"]
    style = _STYLE
    for name, note, heads, rows in (
        ("Accuracy", ACCURACY_NOTE, ACCURACY_HEADINGS, [list(row) for row in accuracy_rows(report)]),
        ("Speed", speed_note(report), SPEED_HEADINGS, [list(row) for row in speed_rows(report)]),
    ):
        used = used_columns(rows)
        if rows:
            parts += [f"<h2>{name}</h2>", f"<p>{_shown(note)}</p>", _table(name, heads, rows, used)]
            style += _labels(name, [heads[i] for i in used])
    parts += ["<h2>Details</h2>", *map(_details, report.entries)]
    for number, machine in enumerate(report.machines, start=1):
        parts += [f"<h2>Machine{f' {number}' if len(report.machines) > 1 else ''}</h2>", _list(machine_lines(machine))]
    parts += ["<h2>Code</h2>", _list(code_lines(report))]
    return (
        "<!DOCTYPE html>\n"
        f'<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{_shown(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{style}</style>\n</head>\n<body>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


def _table(name: str, heads: Sequence[str], rows: Sequence[Sequence[str]], used: Sequence[int]) -> str:
    lines = [f'<tr class="heads">{"".join(f"<th>{_shown(heads[i])}</th>" for i in used)}</tr>']
    lines += [f"<tr>{''.join(_cell(row[i]) for i in used)}</tr>" for row in rows]
    return f'<table id="{name}">\n' + "\n".join(lines) + "\n</table>"


def _labels(name: str, heads: Sequence[str]) -> str:
    """The style that puts each cell's heading before it where there is no room for a table."""
    rules = [f'#{name} td:nth-child({n})::before {{ content: "{head}"; }}' for n, head in enumerate(heads, start=1)]
    return f"@media ({_NARROW}) {{\n" + "".join(f"  {rule}\n" for rule in rules) + "}\n"


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
