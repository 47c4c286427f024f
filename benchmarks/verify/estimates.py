"""How long entries will take: from an earlier report where it has their times, else by what their networks compute.

Only their order and proportion matter to a schedule; of the whole time people are told "about".
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cascadezoo import registry
from cascadezoo.benchmarks.reports.schema import Accuracy, EntryReport, Report, Settings, Speed
from cascadezoo.computed import computed
from cascadezoo.manifest import ZooEntry

_IMAGES = {"coco": 5000, "nuimages": 16_445, "shapes": 500}
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
    known = {entry.name: entry for entry in registry.all_known()}
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
    """Of the network on all images and evaluations, in millions of millions."""
    of_image = computed(entry).total_flops / 2
    passes = [_PASSES * settings.tta if evaluation.tta else 1 for evaluation in entry.evaluations]
    return of_image * images_of(entry, settings) * max(1, sum(passes)) / 1e12
