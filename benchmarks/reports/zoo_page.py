"""The zoo as one HTML page: ``cascadezoo report zoo``."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from cascadezoo import manifest
from cascadezoo.benchmarks.reports.guide import choices
from cascadezoo.benchmarks.reports.schema import Report
from cascadezoo.benchmarks.reports.speeds import RESULTS, speeds_of_reports, speeds_of_results
from cascadezoo.benchmarks.reports.templating import page
from cascadezoo.benchmarks.reports.zoo import Row, Zoo, zoo
from cascadezoo.coco.metrics import METRICS, published
from cascadezoo.manifest import PUBLISHERS, Availability, Family, Scores, ZooEntry
from cascadezoo.version import __version__

TITLES = {
    "mmdet": "mmdetection",
    "internimage": "InternImage",
    "paddle": "PaddleDetection",
    "detectron": "Detectron",
    "swin": "Swin Transformer",
    "convnext": "ConvNeXt",
    "detectron2": "detectron2",
    "cascadezoo": "cascadezoo",
}
FAMILIES: dict[Family, str] = {
    "faster": "Faster R-CNN",
    "mask": "Mask R-CNN",
    "cascade": "Cascade R-CNN",
    "cascade_mask": "Cascade Mask R-CNN",
}


class State(NamedTuple):
    """What has become of an entry's weights, for a table and for its section."""

    short: str
    long: str


STATES: dict[Availability, State] = {
    "published": State("published", "at the published link"),
    "moved": State("moved", "the file has moved since it was published; the corrected link is used"),
    "wrong_link": State("link corrected", "the table links another model’s file; the corrected link is used"),
    "never_published": State("never published", "the table links another model’s file, and no other is known"),
    "embedded": State("in the package", "in the package"),
}


def zoo_page(reports: Mapping[str, Report]) -> str:
    """The page, from the manifest, reports of ``cascadezoo verify`` by name, and a checkout's own measurements."""
    found = zoo(reports, [*speeds_of_results(RESULTS), *speeds_of_reports(reports)])
    entries = [row.entry for row in found.rows]
    return page(
        "zoo.html.jinja",
        styles=("page.css", "zoo.css"),
        scripts=("zoo.js", "scatter.js"),
        zoo=found,
        choices=choices(found),
        facts=list(_facts(found)),
        counts=Counter(place for row in found.rows for place in row.speeds),
        verified=sum(row.verified is not None for row in found.rows),
        given=", ".join(reports),
        publishers=[f"{entries_of} of {TITLES[name]}" for name, entries_of in _by_publisher(entries).items()],
        by_publisher=PUBLISHERS,
        licences=sorted({entry.weights_license for entry in entries}),
        titles=TITLES,
        families=FAMILIES,
        states=STATES,
        metrics=tuple(METRICS),
        version=__version__,
        manifest=manifest.digest(),
        marks=_marks,
        words=_words,
        accuracies=_accuracies,
        whats=lambda row: sorted({found.conditions[place].what for place in row.speeds}),
        giga=lambda flops: f"{flops / 1e9:,.0f}" if flops >= 1e10 else f"{flops / 1e9:.2f}",
        mega=lambda numbers: f"{numbers / 1e6:.1f}",
        megabytes=lambda size: f"{size / 1e6:,.0f}",
    )


def _by_publisher(entries: list[ZooEntry]) -> dict[str, int]:
    return dict(Counter(entry.publisher for entry in entries))


def _facts(found: Zoo) -> Iterator[tuple[str, str]]:
    networks = {f"{row.entry.architecture}.{row.entry.publisher}": row.computed for row in found.rows}
    held = [network for network in networks.values() if network.parity]
    cases = sum(len(network.parity) for network in held)
    yield str(len(found.rows)), "entries"
    yield str(sum(row.entry.has_weights for row in found.rows)), "with weights somewhere"
    yield f"{len(held)} of {len(networks)}", f"networks held to their publisher’s code, on {cases} recorded cases"
    yield str(sum(row.verified is not None for row in found.rows)), "whose AP was measured here"


def _marks(row: Row) -> str:
    """What keeps an AP from being compared with others."""
    later = row.published.basis == "later"
    return ", ".join(["shapes"] * (not row.on_coco) + ["later"] * later)


def _words(entry: ZooEntry) -> str:
    """What a search looks through."""
    kinds = (TITLES[entry.publisher], FAMILIES[entry.family], entry.backbone, entry.schedule)
    return " ".join((entry.name, *entry.aliases, *kinds)).lower()


def _accuracies(entry: ZooEntry) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Every line of published figures, by metric."""
    lines: list[tuple[str, bool, Scores]] = [
        *(("published", each.tta, each) for each in entry.evaluations if each.basis == "table"),
        *(("later edition", each.tta, each) for each in entry.later_figures),
    ]
    for label, tta, scores in lines:
        yield label + ", TTA" * tta, {**dict.fromkeys(METRICS), **published(scores)}
