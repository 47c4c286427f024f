"""``cascadezoo verify``: published figures measured again, with a verdict that a CI system can act on."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from cascadezoo.cli.command import Command
from cascadezoo.cli.options import FieldOption
from cascadezoo.cli.parameters import Device, EntryName, InputFile, OutputFile, OutputFolder, Shard, WeightsFile
from cascadezoo.cli.terminal import echo, echo_json, echo_text
from cascadezoo.environment import is_first_process
from cascadezoo.errors import UsageError
from cascadezoo.files import is_same_output, whole_file

if TYPE_CHECKING:
    from cascadezoo.benchmarks.reports.schema import EntryReport, Report

_EVERY = 30  # seconds between lines of progress where no bar can be shown
_STDOUT = Path("/dev/fd/1")

_setting = partial(click.option, cls=FieldOption, record="cascadezoo.benchmarks.reports.schema:Settings")


@click.command(
    "verify",
    cls=Command,
    short_help="Published AP and speed, measured again",
    examples=(
        "cascadezoo verify cascade_mask_r18_fpn_shapes",
        "cascadezoo verify cascade_r50_fpn_1x.mmdet --data-root coco --json report.json",
        "cascadezoo verify --files",
    ),
)
@click.argument("names", nargs=-1, metavar="[NAME]...", type=EntryName())
@click.option("--all", "everything", is_flag=True, help="Every entry.")
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
    help="COCO: annotations/instances_val2017.json and val2017/.",
)
@click.option("--ap", is_flag=True, help="Only accuracy.")
@click.option("--fps", is_flag=True, help="Only speed.")
@_setting("--tta", is_flag=True)
@_setting("--limit", metavar="N", type=click.IntRange(min=1))
@click.option("--device", type=Device(), help="Such as cpu or cuda:1; default: cuda where there is one.")
@_setting("--precision", type=click.Choice(["fp32", "fp16", "bf16"]), default="fp32", show_default=True)
@click.option(
    "--batch-size", metavar="N", type=click.IntRange(min=1), help="Images at a time; default: 1 on the CPU, 8 on a GPU."
)
@click.option("--workers", metavar="N", type=click.IntRange(min=0), help="Processes that decode images.")
@_setting("--evaluator", type=click.Choice(["hotcoco", "pycocotools"]), default="hotcoco", show_default=True)
@_setting("--tolerance", metavar="AP")
@_setting("--decode", is_flag=True)
@_setting("--min-seconds", metavar="S", type=click.FloatRange(min=0), default=0)
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
@_setting("--shard", type=Shard())
@click.option("--json", "json_file", metavar="FILE", type=OutputFile(), help="Write the report; - is stdout.")
@click.option("--html", "html_file", metavar="FILE", type=OutputFile(), help="Write the report as a page.")
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
    strict: bool,
    **options: Any,
) -> None:
    """Measure box AP, mask AP and speed of each NAME as its publisher did, and judge them.

    Accuracy is PASS or FAIL against each published figure at its printed digits.  An entry may have several
    evaluations, each with its verdict: those with test-time augmentation run only with --tta.  Speed is judged only
    against --baseline, FAIL if more than 10 % slower; published fps are another device's.  Models trained on COCO need
    --data-root; without it, or without weights, they are SKIPPED.

    Exit code 1 if anything is FAIL or ERROR (with --strict also SKIPPED), else 0.  An interrupted run goes on where it
    was, if it has a --run-dir.  `torchrun --nproc-per-node N -m cascadezoo verify ...` shares the images among
    processes, --shard the entries among machines; `cascadezoo report merge` joins their reports.
    """
    if sum((bool(names), everything, files)) != 1:
        raise click.UsageError("give NAMEs, --all or --files")
    require_different(json_file, html_file)
    if files:
        ctx.exit(_check_files(json_file))
    if ap and fps:
        ap = fps = False  # each alone means only it, both mean both
    from cascadezoo.benchmarks.reports.verdict import exit_code
    from cascadezoo.benchmarks.verify.verify import verify

    to_stdout = _is_stdout(json_file) or _is_stdout(html_file)
    with _progress() as progress:

        def finished(entry: "EntryReport") -> None:
            progress.clear()
            _print_parts(entry, err=to_stdout)

        report = verify(
            None if everything else names,
            accuracy=not fps,
            speed=not ap,
            progress=progress,
            finished=finished,
            **options,
        )
    if is_first_process():
        _write(report, json_file, html_file)
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


def _write(report: "Report", json_file: Path | None, html_file: Path | None) -> None:
    from cascadezoo.benchmarks.reports.html import html
    from cascadezoo.benchmarks.reports.schema import text_of

    if json_file:
        write_text(json_file, text_of(report), echo_json)
    if html_file:
        write_text(html_file, html(report), echo_text)


def require_different(*outputs: Path | None) -> None:
    """Raise UsageError where two outputs would be one file, or both stdout."""
    for one, other in combinations([path for path in outputs if path is not None], 2):
        if _is_stdout(one) and _is_stdout(other):
            raise UsageError("two outputs to stdout: write one of them to a file")
        if is_same_output(one, other):
            raise UsageError(f"two outputs to {other}: give each a file of its own")


def _is_stdout(path: Path | None) -> bool:
    return path is not None and (path == Path("-") or is_same_output(path, _STDOUT))


def write_text(path: Path, text: str, show: Callable[[str], None]) -> None:
    """Write a file, whole or not at all, and say so; for ``-`` call ``show``, which prints on stdout."""
    if path == Path("-"):
        show(text)
        return
    with whole_file(path) as file:
        file.write(text.encode(errors="backslashreplace"))  # half a surrogate pair, in a name that is no UTF-8
    echo(f"written to {path}", err=True)


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


@contextmanager
def _progress() -> Iterator["_Bar | _Lines"]:
    """A bar with the time that is left, on a terminal; a line now and then elsewhere."""
    console = Console(stderr=True)
    progress = _Bar(console) if console.is_terminal else _Lines()
    try:
        yield progress
    finally:
        progress.clear()


class _Bar:
    """Progress as a bar, which must be cleared before anything else is printed."""

    def __init__(self, console: Console) -> None:
        self.console, self.label = console, ""
        self.bars: Progress | None = None

    def __call__(self, label: str, done: int, total: int) -> None:
        if self.bars is None or label != self.label:
            self.clear()
            columns = (*Progress.get_default_columns(), MofNCompleteColumn())
            self.bars, self.label = Progress(*columns, console=self.console, transient=True), label
            self.bars.add_task(label, total=total, completed=done)
            self.bars.start()
        self.bars.update(self.bars.task_ids[0], completed=done)

    def clear(self) -> None:
        if self.bars:
            self.bars.stop()
        self.bars = None


class _Lines:
    """Progress as lines."""

    def __init__(self) -> None:
        self.label, self.start, self.begun, self.last = "", 0.0, 0, 0.0

    def clear(self) -> None:
        """Lines stay."""

    def __call__(self, label: str, done: int, total: int) -> None:
        now = time.monotonic()
        if label != self.label:
            self.label, self.start, self.begun, self.last = label, now, done, now
        if now - self.last < _EVERY or done == self.begun:
            return
        self.last = now
        left = (now - self.start) / (done - self.begun) * (total - done)
        echo(f"{label}: {done} of {total} images, {left / 60:.1f} minutes left", err=True)
