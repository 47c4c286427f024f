"""A verify report as Markdown, and text and links from anywhere as Markdown that is nothing else."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from cascadezoo.benchmarks.reports.rows import (
    ACCURACY_HEADINGS,
    ACCURACY_NOTE,
    SPEED_HEADINGS,
    accuracy_rows,
    code_lines,
    counted,
    machine_lines,
    speed_note,
    speed_rows,
    summary,
    used_columns,
)
from cascadezoo.benchmarks.reports.schema import Report

_SPECIAL = re.compile(
    r"[<>&|`*\[\]~\\$]"
    r"|(?<![^\W_])_|_(?![^\W_])"  # an underscore inside a word is one
    r"|^[-+#=:]|^\d(?=\d*[.)]( |$))"  # what would begin a list, a heading or a rule
)
_ADDRESS = re.compile(r"https?://[^\s<>\"'`|\\^{}()\[\]\x00-\x20\x7f]+", re.IGNORECASE)
_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def markdown(report: Report) -> str:
    """The whole report, less the details of each entry."""
    parts = ["# Verification", "", f"{summary(report)}.", ""]
    if rows := list(accuracy_rows(report)):
        parts += ["## Accuracy", "", ACCURACY_NOTE, "", *table(ACCURACY_HEADINGS, rows), ""]
    if timed := list(speed_rows(report)):
        parts += ["## Speed", "", speed_note(report), "", *table(SPEED_HEADINGS, timed), ""]
    for number, machine in enumerate(report.machines):
        used = sum(entry.machine == number for entry in report.entries)
        numbered = f"## Machine {number + 1}, {counted(used, 'entry', 'entries')}"
        heading = "## Machine" if len(report.machines) == 1 else numbered
        parts += [heading, "", *(f"- {label}: {plain(text)}" for label, text in machine_lines(machine)), ""]
    parts += ["## Code", "", *(f"- {label}: {plain(text)}" for label, text in code_lines(report))]
    return "\n".join(parts) + "\n"


def one_line(text: str) -> str:
    """Text on one line: any white space is a blank, and what steers a terminal or the direction of writing is gone."""
    return " ".join(
        "".join(each for each in text if each.isspace() or unicodedata.category(each) not in _UNSEEN).split()
    )


def words(text: str) -> str:
    """Text for a card's front matter, which pages show in their own ways: on one line, with no tag in it."""
    return one_line(text).replace("<", "‹").replace(">", "›")


def plain(text: str) -> str:
    """Text from anyone, to be read as it is: on one line, no markup, no HTML and no cell of a table in it."""
    return _SPECIAL.sub(lambda found: "\\|" if found[0] == "|" else f"&#{ord(found[0])};", one_line(text))


def link(text: str, url: str | None) -> str:
    """A link to a web address; text alone, where ``url`` is none."""
    return f"[{plain(text)}]({url})" if url is not None and is_web_address(url) else plain(text)


def is_web_address(text: str) -> bool:
    """Whether this is an http(s) address that stands in Markdown as it is."""
    return _ADDRESS.fullmatch(text) is not None


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table's lines; columns that are empty everywhere are left out."""
    cells = [list(row) for row in rows]
    used = used_columns(cells)
    lines = [[heads[i] for i in used], ["---"] * len(used)]
    lines += [[plain(row[i]) for i in used] for row in cells]
    return [f"| {' | '.join(line)} |" for line in lines]
