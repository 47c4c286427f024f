"""``cascadezoo info``: everything known of one entry, as a sheet or JSON."""

import json
from collections.abc import Iterator

import click

from cascadezoo import registry
from cascadezoo.cli.command import Command
from cascadezoo.cli.parameters import EntryName
from cascadezoo.cli.terminal import Styled, echo, echo_json, wrapped
from cascadezoo.cli.zoo_list import COLOURS, STATES
from cascadezoo.errors import UnsupportedEntry
from cascadezoo.manifest import Scores, ZooEntry

_MODELS = {
    "faster": "Faster R-CNN, boxes",
    "mask": "Mask R-CNN, boxes and masks",
    "cascade": "Cascade R-CNN, boxes",
    "cascade_mask": "Cascade Mask R-CNN, boxes and masks",
}
_EXPLANATIONS = {
    "published": "available, at the published link",
    "moved": "available: the file has moved since it was published, and the corrected link is used",
    "wrong_link": "available: the published table links another model's file, and the corrected link is used",
    "never_published": "never published: the published table links another model's file, and no other is known",
    "embedded": "in the package",
}
_DATA = {
    "coco": "COCO",
    "shapes": "the drawn shapes of `cascadezoo shapes`, not COCO",
    "nuimages": "nuImages, not COCO",
}


@click.command(
    "info",
    cls=Command,
    short_help="Everything known of one entry",
    examples=("cascadezoo info cascade_mask_x101_64x4d_fpn_3x", "cascadezoo info cascade_r50_fpn_1x.paddle --json"),
)
@click.argument("name", type=EntryName())
@click.option("--json", "as_json", is_flag=True, help="The whole record as JSON.")
def info_command(name: str, as_json: bool) -> None:
    """Show everything known of the entry NAME: a full name, a bare name, or the stem of a publisher's file."""
    entry = registry.info(name)
    if as_json:
        echo_json(json.dumps(entry.model_dump(mode="json"), indent=2, ensure_ascii=False))
    else:
        echo(*_sheet(entry))


def _sheet(entry: ZooEntry) -> Iterator[str | Styled]:
    yield Styled(entry.name, bold=True)
    yield from _row("model", _MODELS[entry.family])
    yield from _row("backbone", f"{entry.backbone} ({entry.style} style)" if entry.style else entry.backbone)
    yield from _row("pretraining", entry.pretraining)
    yield from _row("schedule", ", ".join(_schedule(entry)))
    yield from _row("architecture", entry.architecture)
    yield from _row("published by", f'{entry.attribution}, under "{entry.source.table}"')
    yield from _row("page", entry.page_url)
    if not _is_supported(entry):
        yield from _row("support", "not yet: this version of cascadezoo has no network for this entry")

    yield from _heading(f"Accuracy, AP in percent on {_DATA[entry.data]}")
    yield from _accuracy(entry)

    costs = list(_costs(entry))
    if costs:
        yield from _heading("Cost, as the publisher measured it")
        yield from costs

    yield from _heading("Weights")
    yield from _weights(entry)

    yield from _heading("Licence and credit")
    yield from _row("code", entry.code_license)
    yield from _row("weights", entry.weights_license)
    yield from _row("said of them", entry.license_evidence)
    yield from _row("data", entry.data_license)
    for reference in entry.citation:
        yield from _row("cite", reference)

    if entry.aliases:
        yield from _heading("Other names")
        yield from (f"  {alias}" for alias in entry.aliases)
    if entry.notes:
        yield from _heading("Notes")
        for note in entry.notes:
            yield from wrapped(note, "  ")


def _is_supported(entry: ZooEntry) -> bool:
    try:
        registry.spec_of(entry)
    except UnsupportedEntry:
        return False
    return True


def _schedule(entry: ZooEntry) -> Iterator[str]:
    yield entry.schedule
    if entry.epochs:
        yield f"{entry.epochs} epochs"
    if entry.im_per_gpu:
        yield f"{entry.im_per_gpu} image{'s' if entry.im_per_gpu > 1 else ''} a GPU"


def _accuracy(entry: ZooEntry) -> Iterator[str]:
    table = [evaluation for evaluation in entry.evaluations if evaluation.basis == "table"]
    labelled: list[tuple[str, Scores]] = [(_augmented("published", evaluation.tta), evaluation) for evaluation in table]
    labelled += [(_augmented("later edition", figures.tta), figures) for figures in entry.later_figures]
    width = max(len(label) for label, _ in labelled)
    masks = "  mask AP  AP50  AP75" if entry.has_masks else ""
    yield f"  {'':{width}}  box AP  AP50  AP75{masks}"
    for label, figures in labelled:
        yield f"  {label:{width}}  {_scores(figures, entry.has_masks)}".rstrip()
    for evidence in dict.fromkeys(figures.evidence for figures in entry.later_figures):
        yield from wrapped(f"later edition: {evidence}", "  ")
    basis = "published" if table else "later"
    tolerance = entry.evaluations[0].tolerance
    yield from wrapped(f"reproduced when within {tolerance} AP of the {basis} figures", "  ")


def _augmented(label: str, tta: bool) -> str:
    return f"{label}, test-time augmentation" if tta else label


def _scores(figures: Scores, masks: bool) -> str:
    columns = [("box_ap", 6), ("box_ap50", 4), ("box_ap75", 4)]
    if masks:
        columns += [("mask_ap", 7), ("mask_ap50", 4), ("mask_ap75", 4)]
    return "  ".join(f"{getattr(figures, name) or '-':>{width}}" for name, width in columns)


def _costs(entry: ZooEntry) -> Iterator[str]:
    yield from _row("speed", entry.speed)
    if entry.memory_gb:
        yield from _row("memory", f"{entry.memory_gb} GB to train")
    if entry.params:
        yield from _row("parameters", entry.params)
    if entry.flops:
        yield from _row("FLOPs", entry.flops)
    if entry.train_speed or entry.train_time:
        yield from _row("training", ", ".join(filter(None, (entry.train_speed, entry.train_time))))


def _weights(entry: ZooEntry) -> Iterator[str | Styled]:
    source = entry.source
    for line in _row("state", _EXPLANATIONS[entry.availability]):
        yield Styled(line, fg=COLOURS.get(STATES[entry.availability]))
    yield from _row("corrected", entry.corrected_url)
    yield from _row("published", source.checkpoint_url)
    yield from _row("evidence", entry.evidence)
    if entry.availability != "embedded":
        yield from _row("checked", str(entry.last_checked or "never: these links have not been tried"))
    yield from _row("integrity", entry.integrity)
    yield from _row("sha256", source.sha256 or (source.sha256_prefix and f"starts with {source.sha256_prefix}"))
    yield from _row("md5", source.md5_url or (source.md5_prefix and f"starts with {source.md5_prefix}"))
    yield from _row("size", f"{source.size} bytes" if source.size else None)
    yield from _row("config", entry.corrected_config_url or source.config_url)
    yield from _row("config, once", source.config_url if entry.corrected_config_url else None)
    yield from _row("log", source.log_url)
    yield from _row("box results", source.boxes_url)
    yield from _row("mask results", source.masks_url)


def _heading(title: str) -> Iterator[str | Styled]:
    yield ""
    yield Styled(title, bold=True)


def _row(label: str, value: str | None) -> Iterator[str]:
    """``label`` and ``value`` in two columns; nothing where there is no value."""
    if value:
        yield from wrapped(value, f"  {label:14}")
