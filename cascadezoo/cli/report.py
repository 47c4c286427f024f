"""``cascadezoo report show | compare | merge | check | schema``: what verify reports say."""

import json
from pathlib import Path

import click

from cascadezoo.cli.verify import write_text

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group("report")
def report_command() -> None:
    """Show, compare, merge and check the reports of `cascadezoo verify`."""


@report_command.command("show")
@click.argument("file", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="The report as JSON instead of Markdown.")
@click.option("--html", "html_file", metavar="FILE", type=_FILE, help="Write it as a page instead.")
def show_command(file: Path, as_json: bool, html_file: Path | None) -> None:
    """Print the report FILE as Markdown; says on stderr if it is stale."""
    from cascadezoo.benchmarks.reports.html import html
    from cascadezoo.benchmarks.reports.markdown import markdown
    from cascadezoo.benchmarks.reports.schema import read_report, text_of

    report = read_report(file)
    for reason in report.stale():
        click.echo(f"stale: {reason}", err=True)
    if html_file:
        write_text(html_file, html(report))
    elif as_json:
        click.echo(text_of(report), nl=False)
    else:
        click.echo(markdown(report), nl=False)


@report_command.command("compare")
@click.argument("before", type=_FILE)
@click.argument("after", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="What moved, as a JSON list.")
def compare_command(before: Path, after: Path, as_json: bool) -> None:
    """Show what moved from the report BEFORE to the report AFTER: verdicts, figures, speed, settings."""
    from cascadezoo.benchmarks.reports.compare import compare
    from cascadezoo.benchmarks.reports.schema import read_report

    moves = compare(read_report(before), read_report(after))
    if as_json:
        click.echo(json.dumps([move.model_dump(mode="json") for move in moves], indent=2, ensure_ascii=False))
        return
    for move in moves:
        where = ", ".join(filter(None, (move.entry, move.part, move.what)))
        click.echo(f"{where}: {move.before or 'none'} -> {move.after or 'none'}")
    click.echo(f"{len(moves)} moved" if moves else "nothing moved", err=True)


@report_command.command("merge")
@click.argument("files", nargs=-1, required=True, type=_FILE, metavar="FILE…")
@click.option("-o", "--out", metavar="FILE", type=_FILE, required=True, help="The joined report.")
@click.option("--html", "html_file", metavar="FILE", type=_FILE, help="The same as a page.")
def merge_command(files: tuple[Path, ...], out: Path, html_file: Path | None) -> None:
    """Join the reports of one run's parts, such as those of --shard 1/2 and --shard 2/2."""
    from cascadezoo.benchmarks.reports.compare import merge
    from cascadezoo.benchmarks.reports.html import html
    from cascadezoo.benchmarks.reports.rows import summary
    from cascadezoo.benchmarks.reports.schema import read_report, text_of

    report = merge([read_report(file) for file in files])
    write_text(out, text_of(report))
    if html_file:
        write_text(html_file, html(report))
    click.echo(summary(report), err=True)


@report_command.command("check")
@click.argument("file", type=_FILE)
@click.pass_context
def check_command(ctx: click.Context, file: Path) -> None:
    """Exit with code 1 if the report FILE is stale: the manifest, the code or the commit has changed since."""
    from cascadezoo.benchmarks.reports.schema import read_report

    reasons = read_report(file).stale()
    for reason in reasons:
        click.echo(f"stale: {reason}")
    if not reasons:
        click.echo("fresh: made with this code and manifest")
    ctx.exit(int(bool(reasons)))


@report_command.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of a report."""
    from cascadezoo.benchmarks.reports.schema import schema

    click.echo(schema(), nl=False)
