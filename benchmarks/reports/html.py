"""A verify report as one HTML page that needs nothing else: no scripts, no fonts, no network."""

from collections.abc import Sequence
from pathlib import Path

from cascadezoo.benchmarks.reports.bars import bars
from cascadezoo.benchmarks.reports.pictures import worst_pictures
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
    used_columns,
)
from cascadezoo.benchmarks.reports.schema import Report
from cascadezoo.benchmarks.reports.templating import page
from cascadezoo.benchmarks.reports.verdict import Verdict


def html(report: Report, analysis: Path | None = None) -> str:
    """The whole page, with every entry and everything that was measured of it.

    ``analysis``: the folder of ``verify --analysis``, whose worst images are shown; raises FileError for what is no
    picture there.
    """
    verdicts = [entry.verdict for entry in report.entries]
    return page(
        "verification.html.jinja",
        styles=("page.css", "verification.css"),
        title=f"Verification of {counted(len(report.entries), 'model')}",
        counts=[(verdicts.count(each), each) for each in Verdict if each in verdicts],
        bars=bars(report),
        tables=[
            ("Accuracy", ACCURACY_NOTE, *_used(ACCURACY_HEADINGS, [list(row) for row in accuracy_rows(report)])),
            ("Speed", speed_note(report), *_used(SPEED_HEADINGS, [list(row) for row in speed_rows(report)])),
        ],
        pictures=list(worst_pictures(analysis, report)) if analysis else [],
        details=[(entry, list(entry_details(entry))) for entry in report.entries],
        machines=[machine_lines(machine) for machine in report.machines],
        code=code_lines(report),
        is_verdict=lambda text: isinstance(text, Verdict),
    )


def _used(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows without the columns that are empty everywhere."""
    used = used_columns(rows)
    return [heads[i] for i in used], [[row[i] for i in used] for row in rows]
