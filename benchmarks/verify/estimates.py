"""How long entries will take: from an earlier report where it has their times, else by the size of their networks.

Only their order and proportion matter to a schedule; of the whole time people are told "about".
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from cascadezoo import registry
from cascadezoo.benchmarks.reports.schema import Accuracy, EntryReport, Report, Settings, Speed
from cascadezoo.errors import UnsupportedEntry
from cascadezoo.manifest import ZooEntry
from cascadezoo.spec.model import InternImageSpec, ModelSpec, ResNetSpec

_IMAGES = {"coco": 5000, "shapes": 500}
_PROPOSALS, _DETECTIONS = 1000, 100  # that the heads see of an image
_PASSES = 10  # through the network, of one image with test-time augmentation


@dataclass(frozen=True)
class Costs:
    """What entries cost, by name.

    Attributes:
        of: in a unit of its own; greater is longer.
        pace: seconds per unit; None where nothing tells.
    """

    of: Mapping[str, float]
    pace: float | None


def costs(entries: Sequence[ZooEntry], settings: Settings, earlier: Sequence[Report] = ()) -> Costs:
    """What each entry costs: seconds where one of the ``earlier`` reports has its time, the first that has.

    Other entries' are estimated in proportion to the recorded ones'.
    """
    sizes = {entry.name: _multiplications(entry, settings) for entry in entries}
    seconds: dict[str, float] = {}
    for report in reversed(earlier):
        seconds |= {one.name: taken for one in report.entries if one.name in sizes and (taken := recorded(one))}
    ratios = [taken / sizes[name] for name, taken in seconds.items()]
    if not ratios:
        return Costs(sizes, None)
    return Costs({name: seconds.get(name, size * statistics.median(ratios)) for name, size in sizes.items()}, 1.0)


def recorded(entry: EntryReport) -> float | None:
    """The seconds that all of an entry took, of runs that were interrupted too; None where it was not measured."""
    taken = [_accuracy_seconds(part) for part in entry.accuracy] + [_speed_seconds(entry.speed)]
    return sum(taken) or None


def _accuracy_seconds(part: Accuracy) -> float:
    timing = part.timing
    if timing is None or not timing.images:  # its detections were there
        return 0.0
    detecting = timing.seconds - timing.evaluate
    return timing.evaluate + detecting * part.images / timing.images


def _speed_seconds(speed: Speed | None) -> float:
    if speed is None or speed.timing is None:
        return 0.0
    return sum(batch.runs * batch.total_ms.median / 1000 for batch in speed.timing.batches)


def _multiplications(entry: ZooEntry, settings: Settings) -> float:
    """Of the network on all images and evaluations, in millions of millions, roughly."""
    try:
        of_image = multiplications(registry.spec_of(entry))
    except UnsupportedEntry:  # told when it is loaded
        return 0.0
    images = _IMAGES[entry.data] if settings.limit is None else min(settings.limit, _IMAGES[entry.data])
    passes = [_PASSES * settings.tta if evaluation.tta else 1 for evaluation in entry.evaluations]
    return of_image * images * max(1, sum(passes)) / 1e12


def multiplications(spec: ModelSpec) -> float:
    """Those of one image at the entry's test scale: convolutions and full connections of backbone, neck and heads."""
    pixels = spec.preprocess.min_size * min(spec.preprocess.max_size, spec.preprocess.min_size * 4 / 3)
    channels = spec.feature_channels
    levels = sum(pixels / stride**2 for stride in spec.conventions.anchors.strides)
    total = _backbone(spec.backbone, pixels) + levels * 9 * channels**2 * (2 if spec.neck else 1)
    head = spec.box_head
    if head.fcs:
        widths = [channels * head.resolution**2, *head.fcs]
        of_box = float(sum(a * b for a, b in pairwise(widths)))
    else:  # the backbone's fourth stage
        of_box = head.resolution**2 * 3 * 17 * (channels / 2) ** 2 / 4
    total += len(spec.stages) * _PROPOSALS * of_box
    if spec.mask:
        of_mask = sum(9 * 256 * width for width in spec.mask.convs) + 4 * 256 * spec.mask.deconv
        total += spec.mask.heads * _DETECTIONS * spec.mask.resolution**2 * of_mask
    return total


def _backbone(spec: ResNetSpec | InternImageSpec, pixels: float) -> float:
    total = 0.0
    for stage, (blocks, channels) in enumerate(zip(spec.blocks, spec.channels, strict=True)):
        if isinstance(spec, InternImageSpec):
            of_cell = channels**2 * (2 + 2 * spec.mlp_ratio) + 27 * spec.groups[stage] * channels
        elif spec.basic:
            of_cell = 18.0 * channels**2
        else:
            inner = spec.groups * spec.width_per_group * spec.width / 64 * 2**stage
            of_cell = 2 * inner * channels + 9 * inner**2 / spec.groups
        total += blocks * of_cell * pixels / 16 / 4**stage
    return total
