"""``cascadezoo report show | zoo | compare | merge | table | check | schema``: what verify reports say."""

import json
from pathlib import Path

import click

from cascadezoo.cli.command import Group
from cascadezoo.cli.parameters import InputFolder, OutputFile, ReportFile
from cascadezoo.cli.terminal import echo, echo_json, echo_text, write_text
from cascadezoo.cli.verify import require_different


@click.group(
    "report",
    cls=Group,
    short_help="Show, compare, merge, check such reports",
    examples=("cascadezoo report show report.json", "cascadezoo report compare old.json new.json"),
)
def report_command() -> None:
    """Show, compare, merge and check the reports of `cascadezoo verify`; a run folder stands for the report in it."""


@report_command.command(
    "show",
    short_help="A report as Markdown, JSON or a page",
    examples=("cascadezoo report show report.json", "cascadezoo report show report.json --html report.html"),
)
@click.argument("file", type=ReportFile())
@click.option("--json", "as_json", is_flag=True, help="The report as JSON instead of Markdown.")
@click.option("--html", "html_file", metavar="FILE", type=OutputFile(), help="Write it as a page instead.")
@click.option(
    "--analysis", metavar="DIR", type=InputFolder(), help="With --html: show the worst images of this analysis."
)
def show_command(file: Path, as_json: bool, html_file: Path | None, analysis: Path | None) -> None:
    """Print the report FILE as Markdown; says on stderr if it is stale."""
    if as_json and html_file:
        raise click.UsageError("give --json or --html: one of them at a time")
    if analysis and not html_file:
        raise click.UsageError("--analysis is for a page: give --html FILE, too")
    from cascadezoo.benchmarks.reports.html import html
    from cascadezoo.benchmarks.reports.markdown import markdown
    from cascadezoo.benchmarks.reports.schema import read_report, text_of

    report = read_report(file)
    for reason in report.stale():
        echo(f"stale: {reason}", err=True)
    if html_file:
        write_text(html_file, html(report, analysis), echo_text)
    elif as_json:
        echo_json(text_of(report))
    else:
        echo_text(markdown(report))


@report_command.command(
    "zoo",
    short_help="Every entry on a page: accuracy and cost",
    examples=("cascadezoo report zoo --html zoo.html", "cascadezoo report zoo report.json --html zoo.html"),
)
@click.argument("files", nargs=-1, type=ReportFile(), metavar="[FILE]...")
@click.option("--html", "html_file", metavar="FILE", type=OutputFile(), required=True, help="The page.")
def zoo_command(files: tuple[Path, ...], html_file: Path) -> None:
    """Write every entry of the zoo as a page to sort, filter and compare: published AP, what the reports FILE measured
    again, parameters, FLOPs, speed, size, licence, weights, parity.

    The page is one file and loads nothing.
    """
    from cascadezoo.benchmarks.reports.schema import read_report
    from cascadezoo.benchmarks.reports.zoo_page import zoo_page

    _require_once(files)
    reports = {_name(file, files): read_report(file) for file in files}
    for name, report in reports.items():
        for reason in report.stale():
            echo(f"{name} is stale: {reason}", err=True)
    write_text(html_file, zoo_page(reports), echo_text)


@report_command.command(
    "compare",
    short_help="What moved from one report to another",
    examples=("cascadezoo report compare old.json new.json",),
)
@click.argument("before", type=ReportFile())
@click.argument("after", type=ReportFile())
@click.option("--json", "as_json", is_flag=True, help="What moved, as a JSON list.")
def compare_command(before: Path, after: Path, as_json: bool) -> None:
    """Show what moved from the report BEFORE to the report AFTER: verdicts, figures, speed, settings."""
    from cascadezoo.benchmarks.reports.compare import compare
    from cascadezoo.benchmarks.reports.schema import read_report

    moves = compare(read_report(before), read_report(after))
    if as_json:
        echo_json(json.dumps([move.model_dump(mode="json") for move in moves], indent=2, ensure_ascii=False))
        return
    for move in moves:
        where = ", ".join(filter(None, (move.entry, move.part, move.what)))
        echo(f"{where}: {move.before or 'none'} -> {move.after or 'none'}")
    echo(f"{len(moves)} moved" if moves else "nothing moved", err=True)


@report_command.command(
    "merge",
    short_help="One report of a run's parts",
    examples=("cascadezoo report merge part1.json part2.json -o report.json",),
)
@click.argument("files", nargs=-1, required=True, type=ReportFile(), metavar="FILE...")
@click.option("-o", "--out", metavar="FILE", type=OutputFile(), required=True, help="The joined report.")
@click.option("--html", "html_file", metavar="FILE", type=OutputFile(), help="The same as a page.")
def merge_command(files: tuple[Path, ...], out: Path, html_file: Path | None) -> None:
    """Join the reports of one run's parts, such as those of --shard 1/2 and --shard 2/2."""
    require_different(out, html_file)
    from cascadezoo.benchmarks.reports.compare import merge
    from cascadezoo.benchmarks.reports.html import html
    from cascadezoo.benchmarks.reports.rows import summary
    from cascadezoo.benchmarks.reports.schema import read_report, text_of

    report = merge([read_report(file) for file in files])
    write_text(out, text_of(report), echo_json)
    if html_file:
        write_text(html_file, html(report), echo_text)
    echo(summary(report), err=True)


@report_command.command(
    "table",
    short_help="Reports as a CSV, LaTeX, Markdown table",
    examples=(
        "cascadezoo report table report.json --format latex -o table.tex",
        "cascadezoo report table old.json new.json --format csv",
    ),
)
@click.argument("files", nargs=-1, required=True, type=ReportFile(), metavar="FILE...")
@click.option(
    "--format", "layout", type=click.Choice(["csv", "latex", "markdown"]), default="markdown", show_default=True
)
@click.option("-o", "--out", metavar="FILE", type=OutputFile(), default="-", help="Write it there.  [default: stdout]")
def table_command(files: tuple[Path, ...], layout: str, out: Path) -> None:
    """Print AP as measured and published, AP50, AP75 and by size, and fps, of every entry of the reports FILE.

    Each row is an evaluation; with several reports it says which one it is from.  CSV has three digits, and also the
    verdict and the machine; LaTeX needs the package booktabs.
    """
    from cascadezoo.benchmarks.reports.schema import read_report
    from cascadezoo.benchmarks.reports.tables import FORMATS

    _require_once(files)
    write_text(out, FORMATS[layout]({_name(file, files): read_report(file) for file in files}), echo_text)


def _require_once(files: tuple[Path, ...]) -> None:
    if len(set(files)) < len(files):
        raise click.UsageError("a FILE is given twice")


def _name(file: Path, files: tuple[Path, ...]) -> str:
    """What a report is called: its file, without the folder where that is not needed to tell it from the others."""
    return file.stem if sum(other.stem == file.stem for other in files) == 1 else str(file)


@report_command.command(
    "check",
    short_help="Whether a report is still of this code",
    examples=("cascadezoo report check report.json",),
)
@click.argument("file", type=ReportFile())
@click.pass_context
def check_command(ctx: click.Context, file: Path) -> None:
    """Exit with code 1 if the report FILE is stale: the manifest, the code or the commit has changed since."""
    from cascadezoo.benchmarks.reports.schema import read_report

    reasons = read_report(file).stale()
    for reason in reasons:
        echo(f"stale: {reason}")
    if not reasons:
        echo("fresh: made with this code and manifest")
    ctx.exit(int(bool(reasons)))


@report_command.command("schema", short_help="The JSON Schema of a report", examples=("cascadezoo report schema",))
def schema_command() -> None:
    """Print the JSON Schema of a report."""
    from cascadezoo.benchmarks.reports.schema import schema

    echo_json(schema())
