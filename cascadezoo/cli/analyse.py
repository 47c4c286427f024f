"""``cascadezoo analyse``: what any COCO results file tells, by class, by kind of error, and image by image."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cascadezoo.cli.command import Command
from cascadezoo.cli.parameters import InputFile, InputFolder, Number, OutputFolder
from cascadezoo.cli.terminal import echo, echo_json
from cascadezoo.errors import UsageError
from cascadezoo.text import printable

if TYPE_CHECKING:
    from cascadezoo.analysis.analyse import Analysis
    from cascadezoo.coco.evaluation import Kind

_SHOWN = ("AP", "AP50", "AP75", "APs", "APm", "APl")


@click.command(
    "analyse",
    cls=Command,
    short_help="A results file by class, error and image",
    examples=(
        "cascadezoo analyse results.json --annotations val.json",
        "cascadezoo analyse results.json --annotations val.json --images val -o out",
    ),
)
@click.argument("results", metavar="RESULTS", type=InputFile())
@click.option(
    "--annotations", metavar="JSON", required=True, type=InputFile(), help="The COCO file they are evaluated on."
)
@click.option("--images", metavar="DIR", type=InputFolder(), help="The images: the worst are drawn into --out.")
@click.option("-o", "--out", metavar="DIR", type=OutputFolder(), help="Write tables and pictures there.")
@click.option("--kind", type=click.Choice(["bbox", "segm"]), help="Only boxes, or masks.  [default: what there is]")
@click.option(
    "--score",
    default=0.3,
    show_default=True,
    type=Number(0, 1),
    help="Lowest score in the confusion matrix and for the worst images.",
)
@click.option(
    "--worst", metavar="N", default=12, show_default=True, type=click.IntRange(min=0), help="Images with most mistakes."
)
@click.option("--evaluator", type=click.Choice(["hotcoco", "pycocotools"]), default="hotcoco", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="All of it as JSON instead of tables.")
def analyse_command(
    results: Path,
    annotations: Path,
    images: Path | None,
    out: Path | None,
    kind: "Kind | None",
    score: float,
    worst: int,
    evaluator: str,
    as_json: bool,
) -> None:
    """Analyse RESULTS, detections in COCO's results format, of any program.

    Prints average precision, that of each class with precision and recall at --score, and the kinds of error of TIDE
    with what each costs.  With --out also precision-recall curves, the confusion matrix and the images with the most
    mistakes; docs/verify.md says what is in which file.  Earlier files of the same names are replaced.
    """
    if images is not None and out is None:
        raise click.UsageError("--images is for pictures of the worst: give --out DIR, too")
    from cascadezoo.analysis.analyse import analyse
    from cascadezoo.analysis.folder import write
    from cascadezoo.analysis.tables import about_files, record
    from cascadezoo.coco.evaluation import read_truth, require_evaluator
    from cascadezoo.coco.results import checked, kinds_of, read_results
    from cascadezoo.hub.progress import steps

    require_evaluator(evaluator)
    with steps(f"reading {results.name}"):
        raw = read_results(results)
    kinds: tuple[Kind, ...] = (kind,) if kind else kinds_of(raw) if raw else ("bbox",)
    if not kinds:
        raise UsageError(f"{results}: some results have no bbox and others no segmentation: give all of them one")
    with steps(f"analysing {results.name}"):
        truth = read_truth(annotations, kinds)
        found = checked(results, raw, truth, kinds, str(annotations))
        analyses = analyse(truth, found, kinds, evaluator=evaluator, score=score, worst=worst)
        about = about_files(annotations, results, evaluator)
        if out is not None:
            write(analyses, out, truth, about, images)
    if as_json:
        echo_json(json.dumps({**about, **{name: record(one) for name, one in analyses.items()}}, ensure_ascii=False))
    else:
        _print_tables(analyses)
    if out is not None:
        echo(f"written to {out}", err=True)


def _print_tables(analyses: "Mapping[Kind, Analysis]") -> None:
    from cascadezoo.benchmarks.reports.rows import counted
    from cascadezoo.coco.curves import METRICS

    for kind, analysis in analyses.items():
        figures, errors = analysis.evaluation.figures, analysis.errors
        echo(f"{kind}: {counted(analysis.images, 'image')}, {counted(analysis.detections, 'detection')}")
        echo("", *_lines([list(METRICS), [_number(figures[name]) for name in METRICS]]), "")
        shares = zip(analysis.confusion.precision().tolist(), analysis.confusion.recall().tolist(), strict=True)
        rows = [["class", "objects", *_SHOWN, "precision", "recall"]]
        for one, (precision, recall) in zip(analysis.evaluation.classes, shares, strict=True):
            numbers = [*(one.figures[name] for name in _SHOWN), 100 * precision, 100 * recall]
            rows.append([one.name, str(one.objects), *map(_number, numbers)])
        echo(*_lines(rows), "")
        rows = [["error", "number", "AP50 gained"]]
        rows += [[name, str(errors.counts[name]), _number(gain)] for name, gain in errors.gains.items()]
        echo(*_lines(rows), "")


def _number(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.1f}"


def _lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns, the first to the left and the others to the right."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    first, *others = widths
    return [
        "  ".join([row[0].ljust(first), *(cell.rjust(width) for cell, width in zip(row[1:], others, strict=True))])
        for row in cells
    ]
