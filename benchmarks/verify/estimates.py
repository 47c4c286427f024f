"""How long entries will take: from an earlier report where it has their times, else by the size of their networks.

Only their order and proportion matter to a schedule; of the whole time people are told "about".
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from cascadezoo import registry
from cascadezoo.benchmarks.reports.schema import Accuracy, EntryReport, Report, Settings, Speed
from cascadezoo.errors import UnsupportedEntry
from cascadezoo.manifest import ZooEntry
from cascadezoo.spec.convnext import ConvNeXtSpec
from cascadezoo.spec.internimage import InternImageSpec
from cascadezoo.spec.model import ModelSpec
from cascadezoo.spec.resnet import ResNetSpec
from cascadezoo.spec.swin import SwinSpec

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
    """What each entry costs: seconds, by its time in the first of the ``earlier`` reports that has it, or in proportion
    to the times of others; without any times, by the size of its network alone."""
    sizes = {entry.name: _multiplications(entry, settings) for entry in entries}
    known = {entry.name: entry for entry in registry.entries()}
    rates: dict[str, float] = {}
    for report in reversed(earlier):
        for one in report.entries:
            size = _multiplications(known[one.name], report.settings) if one.name in known else 0.0
            if size and (taken := recorded(one)):
                rates[one.name] = taken / size
    if not rates:
        return Costs(sizes, None)
    typical = statistics.median(rates.values())
    return Costs({name: size * rates.get(name, typical) for name, size in sizes.items()}, 1.0)


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


def images_of(entry: ZooEntry, settings: Settings) -> int:
    """How many images an evaluation of this entry has."""
    return _IMAGES[entry.data] if settings.limit is None else min(settings.limit, _IMAGES[entry.data])


def _multiplications(entry: ZooEntry, settings: Settings) -> float:
    """Of the network on all images and evaluations, in millions of millions, roughly."""
    try:
        of_image = multiplications(registry.spec_of(entry))
    except UnsupportedEntry:  # told when it is loaded
        return 0.0
    passes = [_PASSES * settings.tta if evaluation.tta else 1 for evaluation in entry.evaluations]
    return of_image * images_of(entry, settings) * max(1, sum(passes)) / 1e12


def multiplications(spec: ModelSpec) -> float:
    """Those of one image at the entry's test scale, roughly."""
    pixels = spec.preprocess.min_size * min(spec.preprocess.max_size, spec.preprocess.min_size * 4 / 3)
    return sum(weights * places for weights, places in _layers(spec, pixels))


def parameters(spec: ModelSpec) -> float:
    """Numbers that the network learns, roughly."""
    return sum(weights for weights, _ in _layers(spec, 1.0))


def _layers(spec: ModelSpec, pixels: float) -> Iterator[tuple[float, float]]:
    """Convolutions and full connections of backbone, neck and heads: their weights, and at how many places of an image
    of so many pixels each is used."""
    for stage, (blocks, channels) in enumerate(zip(spec.backbone.blocks, spec.backbone.channels, strict=True)):
        yield blocks * _of_block(spec.backbone, stage, channels), pixels / 16 / 4**stage
    channels = spec.feature_channels
    strides = spec.conventions.anchors.strides
    for stride in strides:
        if spec.neck:
            yield 9 * channels**2, pixels / stride**2
        yield 9 * channels**2 / len(strides), len(strides) * pixels / stride**2  # the RPN's, of all levels
    head = spec.box_head
    if head.fcs:
        convs = [channels, *head.convs]
        of_convs = sum(9.0 * a * b for a, b in pairwise(convs))
        yield len(spec.stages) * of_convs, head.resolution**2 * _PROPOSALS
        widths = [convs[-1] * head.resolution**2, *head.fcs]
        yield len(spec.stages) * float(sum(a * b for a, b in pairwise(widths))), _PROPOSALS
    else:  # the backbone's fourth stage
        yield 3 * 17 * (channels / 2) ** 2 / 4, head.resolution**2 * _PROPOSALS
    if spec.mask:
        of_mask = sum(9 * 256 * width for width in spec.mask.convs) + 4 * 256 * spec.mask.deconv
        yield spec.mask.heads * of_mask, _DETECTIONS * spec.mask.resolution**2


def _of_block(spec: ResNetSpec | InternImageSpec | ConvNeXtSpec | SwinSpec, stage: int, channels: int) -> float:
    if isinstance(spec, ConvNeXtSpec):
        return 8.0 * channels**2 + 49 * channels
    if isinstance(spec, SwinSpec):  # a window's queries and keys, which are no weights, left out: 2 % of Swin-B's
        return channels**2 * (4 + 2 * spec.mlp_ratio)
    if isinstance(spec, InternImageSpec):
        return channels**2 * (2 + 2 * spec.mlp_ratio) + 27 * spec.groups[stage] * channels
    if spec.basic:
        return 18.0 * channels**2
    inner: float = spec.groups * spec.width_per_group * spec.width / 64 * 2**stage
    return 2 * inner * channels + 9 * inner**2 / spec.groups
