"""``cascadezoo convert`` and ``cascadezoo inspect``: publishers' files to canonical weights, and a look into either."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cascadezoo.checkpoints.preconditions import require_canonical_output
from cascadezoo.cli.command import Command
from cascadezoo.cli.parameters import EntryName, OutputFile, WeightsFile
from cascadezoo.cli.terminal import echo, echo_json
from cascadezoo.errors import CorruptCheckpoint
from cascadezoo.providers import FORMATS

if TYPE_CHECKING:
    from cascadezoo.converters.report import ConversionReport, Inspection

_SHOWN = 8  # names of classes


@click.command(
    "convert",
    cls=Command,
    short_help="A publisher's file to canonical weights",
    examples=(
        "cascadezoo convert cascade_rcnn_r50_fpn_20e_coco.pth",
        "cascadezoo convert my.pdparams \\\n    --entry cascade_r50_fpn_1x.paddle -o my.safetensors",
    ),
)
@click.argument("checkpoint", metavar="CKPT", type=WeightsFile())
@click.option("--from", "source", type=click.Choice(FORMATS), help="The publisher whose file it is, which is checked.")
@click.option(
    "--entry",
    metavar="NAME",
    type=EntryName(),
    help="The entry it is; needed only where neither its metadata nor its name nor tensors tell.",
)
@click.option(
    "-o", "--output", type=OutputFile(), help="The .safetensors to write; default: beside CKPT as <entry>.safetensors."
)
@click.option("--force", is_flag=True, help="Replace an existing output.")
@click.option("--allow-nan", is_flag=True, help="Keep tensors that hold NaN or infinity.")
@click.option("--insist", is_flag=True, help="Take it as --entry even where its own clues point to another network.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole report as JSON.")
def convert_command(
    checkpoint: Path,
    source: str | None,
    entry: str | None,
    output: Path | None,
    force: bool,
    allow_nan: bool,
    insist: bool,
    as_json: bool,
) -> None:
    """Convert a publisher's checkpoint to canonical weights.

    Nothing in the file is executed.  Every tensor is accounted for: mapped, left out for a reason, or
    an error.  The file and its name show what it is (see `cascadezoo inspect`).
    """
    if output is not None:
        require_canonical_output(output, checkpoint, force=force)
    from cascadezoo.checkpoints.conversion import convert  # torch is imported only when there is something to convert
    from cascadezoo.hub.progress import steps

    with steps(f"converting {checkpoint.name}"):
        report = convert(checkpoint, source, entry, output, force=force, allow_nan=allow_nan, insist=insist)
    if as_json:
        echo_json(report.to_json())
    else:
        echo(*_converted(report))


@click.command(
    "inspect",
    cls=Command,
    short_help="What a weights file is and holds",
    examples=("cascadezoo inspect model_final.pkl", "cascadezoo inspect best.safetensors --tensors"),
)
@click.argument("checkpoint", metavar="CKPT", type=WeightsFile())
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.option("--tensors", is_flag=True, help="List every tensor.")
def inspect_command(checkpoint: Path, as_json: bool, tensors: bool) -> None:
    """Show what a weights file holds and which entries it may be, without executing anything in it."""
    from cascadezoo.checkpoints.inspection import inspect
    from cascadezoo.hub.progress import steps

    with steps(f"reading {checkpoint.name}"):
        inspection = inspect(checkpoint)
    if as_json:
        echo_json(inspection.to_json(tensors))
    else:
        echo(*_inspected(inspection, tensors))
    if inspection.fault is not None:
        raise CorruptCheckpoint(inspection.fault)


def _converted(report: "ConversionReport") -> list[str]:
    candidates = len(report.entries) > 1
    lines = [
        ("candidates" if candidates else "entry", ", ".join(report.entries)),
        ("found by", report.found_by),
        ("classes", _classes(report.num_classes, report.classes)),
        ("under", report.wrapper),
        ("prefix taken off", report.prefix),
        ("tensors", f"{len(report.mapped)} mapped, {len(report.ignored)} left out" + _reasons(report)),
        ("of those in part", _in_part(report)),
        ("refused", ", ".join(report.refused) or "nothing: all names in the file are harmless"),
        ("cast to float32", ", ".join(f"{n} of {dtype}" for dtype, n in Counter(report.casts.values()).items())),
        ("NaN or infinity in", ", ".join(report.non_finite)),
        ("output", str(report.output)),
        ("sha256", str(report.output_sha256)),
        ("content digest", report.content_digest),
        ("load it with", f"cascadezoo.load({report.entries[0]!r}, weights={str(report.output)!r})"),
    ]
    return _table(lines)


def _reasons(report: "ConversionReport") -> str:
    reasons = dict.fromkeys(report.ignored.values())
    return f" ({'; '.join(reasons)})" if reasons else ""


def _in_part(report: "ConversionReport") -> str:
    parts = Counter(report.partly_ignored.values())
    return "; ".join(f"{n} without {part}" for part, n in parts.items())


def _inspected(inspection: "Inspection", tensors: bool) -> list[str]:
    lines = [
        ("file", f"{inspection.path} ({inspection.container}, {inspection.size:,} bytes)"),
        ("sha256", inspection.sha256),
        ("tensors", f"{len(inspection.tensors)} with {inspection.parameters:,} floating point numbers"),
        ("names in the pickle", ", ".join(inspection.globals)),
        ("of them refused", ", ".join(inspection.refused) or ("none" if inspection.globals else "")),
        ("hang on them", ", ".join(f"{key} ({name})" for key, name in inspection.unsafe.items())),
        ("beside the weights", ", ".join(inspection.ignored_entries)),
        *((f"  {key}", value) for key, value in inspection.metadata.items()),
        *((one.about, f"{one.value}  ({one.source})") for one in inspection.evidence if one.about != "container"),
        *((f"not of {name}", reason) for name, reason in inspection.refusals.items()),
    ]
    for problems, entries in _alike(inspection).items():
        lines += [("closest to" if problems else "fits", ", ".join(entries)), ("  except", problems)]
    if "content_digest" in inspection.metadata:
        lines.append(("content digest", "does not hold" if inspection.fault else "holds"))
    if tensors:
        lines += [(f"  {key}", f"{info.dtype} {info.shape}") for key, info in inspection.tensors.items()]
    return _table(lines)


def _classes(count: int, names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    return f"{count}: {shown}" if names else str(count)


def _alike(inspection: "Inspection") -> dict[str, list[str]]:
    """The nearest entries by what keeps the file from fitting them."""
    alike: dict[str, list[str]] = {}
    for match in inspection.matches:
        alike.setdefault(match.description, []).extend(match.entries)
    return alike


def _table(lines: list[tuple[str, str]]) -> list[str]:
    """One line each, values aligned; a line without a value is left out."""
    width = min(30, max(len(label) for label, value in lines if value))
    return [f"{label:<{width}}  {value}" for label, value in lines if value]
