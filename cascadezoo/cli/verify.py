"""``cascadezoo verify``: published figures measured again, with a verdict that a CI system can act on."""

import json
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cascadezoo.cli.command import Command
from cascadezoo.cli.options import FieldOption
from cascadezoo.cli.parameters import (
    Device,
    EntryName,
    InputFile,
    Number,
    OutputFile,
    OutputFolder,
    ReportFile,
    Shard,
    WeightsFile,
)
from cascadezoo.cli.terminal import echo, echo_json, echo_text, write_text
from cascadezoo.cli.verify_plan import show_plan
from cascadezoo.cli.verify_progress import shown
from cascadezoo.environment import is_first_process
from cascadezoo.errors import UsageError
from cascadezoo.files import is_same_output

if TYPE_CHECKING:
    from cascadezoo.benchmarks.reports.schema import EntryReport, Report

_STDOUT = Path("/dev/fd/1")

_setting = partial(click.option, cls=FieldOption, record="cascadezoo.benchmarks.reports.schema:Settings")


@click.command(
    "verify",
    cls=Command,
    short_help="Published AP and speed, measured again",
    examples=(
        "cascadezoo verify cascade_mask_r18_fpn_shapes",
        "cascadezoo verify cascade_r50_fpn_1x.mmdet --data-root coco --json report.json",
        "cascadezoo verify --all --data-root coco --run-dir run --engine ray",
        "cascadezoo verify --files",
    ),
)
@click.argument("names", nargs=-1, metavar="[NAME]...", type=EntryName())
@click.option("--all", "everything", is_flag=True, help="Every entry that is judged on COCO, and our own.")
@click.option(
    "--files", is_flag=True, help="Instead: hash every file of the cache and compare it with the hash it should have."
)
@click.option(
    "--weights", metavar="FILE", type=WeightsFile(), help="A file instead of the published weights; one NAME only."
)
@click.option(
    "--data-root",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="COCO: annotations/instances_val2017.json and val2017/; for entries on other data, that data set.",
)
@click.option("--ap", is_flag=True, help="Only accuracy.")
@click.option("--fps", is_flag=True, help="Only speed.")
@_setting("--tta", is_flag=True)
@_setting("--limit", metavar="N", type=click.IntRange(min=1))
@click.option("--device", type=Device(), help="Such as cpu or cuda:1; default: cuda where there is one.")
@_setting("--optimize/--no-optimize", default=False)
@_setting("--exact", is_flag=True)
@_setting("--precision", type=click.Choice(["fp32", "fp16", "bf16"]), default="fp32", show_default=True)
@click.option(
    "--batch-size", metavar="N", type=click.IntRange(min=1), help="Images at a time; default: 1 on the CPU, 8 on a GPU."
)
@click.option("--workers", metavar="N", type=click.IntRange(min=0), help="Processes that decode images.")
@_setting("--evaluator", type=click.Choice(["hotcoco", "pycocotools"]), default="hotcoco", show_default=True)
@_setting("--tolerance", metavar="AP")
@_setting("--decode", is_flag=True)
@_setting("--min-seconds", metavar="S", type=Number(min=0), default=0)
@click.option(
    "--baseline", metavar="FILE", type=InputFile(), help="A report of the same device to compare the speed with."
)
@click.option(
    "--run-dir", metavar="DIR", type=OutputFolder(), help="Keep detections here; the same command again goes on."
)
@click.option(
    "--analysis",
    metavar="DIR",
    type=OutputFolder(),
    help="Write results.json, tables and pictures by class, error and image there.",
)
@click.option(
    "--only-failed",
    metavar="REPORT",
    type=ReportFile(),
    help="Measure only what is FAIL, ERROR or unfinished in this report, or in that of a run folder; keep the rest.",
)
@click.option(
    "--engine",
    type=click.Choice(["ray"]),
    help="The entries on the GPUs of one machine or of several, each in a process of its own, the longest first.",
)
@click.option(
    "--address", metavar="ADDR", help="With --engine: a Ray cluster that runs already; default: one of its own."
)
@_setting("--shard", type=Shard())
@click.option("--json", "json_file", metavar="FILE", type=OutputFile(), help="Write the report; - is stdout.")
@click.option("--html", "html_file", metavar="FILE", type=OutputFile(), help="Write the report as a page.")
@click.option("--dry-run", is_flag=True, help="Only say what would run, and what is there for it.")
@click.option("--strict", is_flag=True, help="Exit code 1 also where anything was SKIPPED.")
@click.pass_context
def verify_command(
    ctx: click.Context,
    /,
    names: tuple[str, ...],
    everything: bool,
    files: bool,
    ap: bool,
    fps: bool,
    json_file: Path | None,
    html_file: Path | None,
    dry_run: bool,
    strict: bool,
    **options: Any,
) -> None:
    """Measure box AP, mask AP and speed of each NAME as its publisher did, and judge them.

    Accuracy is PASS or FAIL against each published figure at its printed digits.  An entry may have several
    evaluations, each with its verdict: those with test-time augmentation run only with --tta.  Speed is judged only
    against --baseline, FAIL if more than 10 % slower; published fps are another device's.  Published models need
    --data-root; without it, or without weights, they are SKIPPED.

    Exit code 1 if anything is FAIL or ERROR (with --strict also SKIPPED), else 0.  An interrupted run goes on where it
    was, if it has a --run-dir.  `torchrun --nproc-per-node N -m cascadezoo verify ...` shares the images among
    processes, --engine ray the entries among the GPUs of one machine or more, --shard among machines that know nothing
    of each other; `cascadezoo report merge` joins their reports.
    """
    if sum((bool(names), everything, files)) != 1:
        raise click.UsageError("give NAMEs, --all or --files")
    require_different(json_file, html_file)
    if files:
        ctx.exit(_check_files(json_file))
    from cascadezoo.benchmarks.verify.fleet import require_engine

    require_engine(options["engine"], options["address"], options["run_dir"])
    if ap and fps:
        ap = fps = False  # each alone means only it, both mean both
    options |= {"accuracy": not fps, "speed": not ap}
    chosen = None if everything else names
    if dry_run:
        if html_file:
            raise click.UsageError("--dry-run makes no page: give --json, or leave --html out")
        ctx.exit(show_plan(chosen, json_file, strict, **options))
    from cascadezoo.benchmarks.reports.verdict import exit_code
    from cascadezoo.benchmarks.verify.verify import verify

    to_stdout = _is_stdout(json_file) or _is_stdout(html_file)
    with shown() as progress:

        def finished(entry: "EntryReport") -> None:
            progress.clear()
            _print_parts(entry, err=to_stdout)

        report = verify(
            chosen,
            progress=progress,
            finished=finished,
            total=progress.total,
            **options,
        )
    if is_first_process():
        _write(report, json_file, html_file, options["analysis"])
        _close(report)
    ctx.exit(exit_code(report.verdicts(), strict))


def _print_parts(entry: "EntryReport", err: bool) -> None:
    """One line per part."""
    from cascadezoo.benchmarks.reports.rows import cell, evaluation_name, given_weights
    from cascadezoo.coco.metrics import METRICS

    name = f"{entry.name}, given weights" if entry.given else entry.name
    if entry.given:
        echo(f"{'':12} {entry.name}, weights {given_weights(entry)}", err=err)
    for part in entry.accuracy:
        figures = [(METRICS[metric].heading, cell(entry, part, metric)) for metric in ("box_ap", "mask_ap")]
        measured = "".join(f"{heading} {text}, " for heading, text in figures if text and part.figures)
        echo(f"{part.verdict:12} {name}, {evaluation_name(part)}: {measured}{part.reason}", err=err)
        for note in part.timing.notes if part.timing else ():
            echo(f"{'':12} {note}", err=err)
    if speed := entry.speed:
        batches = speed.timing.batches if speed.timing else ()
        measured = "".join(f"{batch.fps:.2f} fps at batch {batch.batch_size}, " for batch in batches)
        published = f" (published: {speed.published_fps} on {speed.published_device})" if speed.published_fps else ""
        echo(f"{speed.verdict:12} {name}, speed: {measured}{speed.reason}{published}", err=err)
        for note in speed.timing.notes if speed.timing else ():
            echo(f"{'':12} {note}", err=err)


def _close(report: "Report") -> None:
    from cascadezoo.benchmarks.reports.rows import summary

    shares = [part.timing.outside_share for entry in report.entries for part in entry.accuracy if part.timing]
    waste = f"; at most {max(shares):.1%} of the time outside decoding and inference" if shares else ""
    echo(f"{summary(report)}, in {report.timing.seconds:.0f} s{waste}", err=True)


def _write(report: "Report", json_file: Path | None, html_file: Path | None, analysis: Path | None) -> None:
    from cascadezoo.benchmarks.reports.html import html
    from cascadezoo.benchmarks.reports.schema import text_of

    if json_file:
        write_text(json_file, text_of(report), echo_json)
    if html_file:
        write_text(html_file, html(report, analysis), echo_text)


def require_different(*outputs: Path | None) -> None:
    """Raise UsageError where two outputs would be one file, or both stdout."""
    for one, other in combinations([path for path in outputs if path is not None], 2):
        if _is_stdout(one) and _is_stdout(other):
            raise UsageError("two outputs to stdout: write one of them to a file")
        if is_same_output(one, other):
            raise UsageError(f"two outputs to {other}: give each a file of its own")


def _is_stdout(path: Path | None) -> bool:
    return path is not None and (path == Path("-") or is_same_output(path, _STDOUT))


def _check_files(json_file: Path | None) -> int:
    from cascadezoo.hub.housekeeping import check_files

    checked = check_files(lambda one: echo(f"{one.state:9} {one.path}: {one.detail}", err=_is_stdout(json_file)))
    if json_file:
        rows = [
            {"kind": f.kind, "entry": f.entry, "path": str(f.path), "state": f.state, "detail": f.detail}
            for f in checked
        ]
        write_text(json_file, json.dumps(rows, indent=2, ensure_ascii=False) + "\n", echo_json)
    damaged = sum(one.state == "damaged" for one in checked)
    echo(f"files in the cache: {len(checked)}, damaged: {damaged}", err=True)
    return int(damaged > 0)
