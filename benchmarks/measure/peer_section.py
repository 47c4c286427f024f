"""The sections of docs/speed.md about other programs, from ``peers.json`` and ``families.json`` if they are there."""

import json
from pathlib import Path
from typing import Any

from cascadezoo.benchmarks.measure.operator_sections import machine

Report = dict[str, Any]


def peer_section(results: Path) -> list[str]:
    """Nothing where there is no report: what it compares is on few machines."""
    path = results / "peers.json"
    if not path.exists():
        return []
    report = json.loads(path.read_text())
    return [*_head(report), *_latency(report), *_features(report), *_training(report), *_missing(report)]


def families_section(results: Path) -> list[str]:
    """A network of each later kind, ours and mmdetection's, from ``families.json`` where it is there."""
    path = results / "families.json"
    if not path.exists():
        return []
    report = json.loads(path.read_text())
    height, width = report["image"]
    rows = []
    for network in report["networks"]:
        features = {row["way"]: row for row in network["features"]["rows"]}
        size = "x".join(map(str, network["network_input"]))
        for row in network["latency"]["rows"]:
            way, faster = row["way"], network["latency"]["times_faster"].get(row["way"], {})
            cells = [f"`{network['entry']}`", way, size]
            cells += [_seconds(row[f"{span}_ms"]) for span in ("network", "whole")]
            cells.append(_seconds(features[way]["milliseconds"]) if way in features else "")
            cells += [_spread(faster[than]["whole"]) if than in faster else "" for than in ("mmdetection", "plain")]
            rows.append(f"| {' | '.join(cells)} |")
    return [
        "## Each kind of network beside its publisher's code",
        "",
        f"A {height}x{width} image, the same random weights, {report['threads']} threads, all ways of a network in "
        f"turn, medians of {report['runs']} runs;",
        "spans as above, seconds, times faster for the whole.  mmdetection is its own networks' publisher and has",
        "Swin Transformer's Mask R-CNN, whose own code, a fork of its version 2.11, no longer installs; detectron2 and",
        "InternImage do not install either and have rows of ours alone.",
        f"({machine(report)}; `families.json`)",
        "",
        "| entry | way | input | network | whole | backbone and neck | times faster than mmdetection | than plain |",
        "|---|---|---|---|---|---|---|---|",
        *rows,
        "",
    ]


def _head(report: Report) -> list[str]:
    height, width = report["image"]
    versions = {
        name: version
        for part in ("latency", "features", "training")
        for row in report[part]["rows"]
        for name, version in row["versions"].items()
    }
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    return [
        "## Beside other programs",
        "",
        f"`{report['entry']}` with the same random weights in every program, except for torchvision's own",
        f"`maskrcnn_resnet50_fpn`; a {height}x{width} image at {'x'.join(map(str, report['network_input']))}, "
        f"{report['threads']} threads, one run, all in turn, medians.",
        *([f"Versions: {named}."] if named else []),
        f"({machine(report)}; `peers.json`)",
        "",
    ]


def _latency(report: Report) -> list[str]:
    part = report["latency"]
    rows = []
    for row in part["rows"]:
        memory = report["memory"][row["way"]]
        cells = [f"{row['way']} ({row['precision']})"]
        cells += [_seconds(row[f"{span}_ms"]) for span in ("network", "whole")]
        cells += [f"{memory[f'{when}_bytes'] / 2**20:.0f}" for when in ("imported", "loading", "inference")]
        rows.append(f"| {' | '.join([*cells, _agreement(row)])} |")
    return [
        f"Medians of {part['runs']} runs, lowest and highest in brackets.  Network: ours from resized images to",
        "detections with the probabilities of their masks; the others' from prepared pixels to detections, which at",
        "mmdetection have pasted masks.  Whole: from the image, ours to run lengths, others' to pasted masks; round",
        "a runtime's network ours resizes and pastes, to run lengths.  8 bits are calibrated on this image alone, for",
        "their time and not for their accuracy.",
        "MiB: the most that a process of its own has when all is imported, while it loads the network, and then while",
        "it runs it on the image once.",
        "Detections: paired with those of the plain network by class and an IoU of 0.9; scores of random weights lie",
        "so close together that bfloat16 leaves others among the best hundred.",
        "",
        "| way | network, s | whole, s | imported, MiB | loading, MiB | inference, MiB | detections |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        *_ratios(part["times_faster"]),
    ]


def _ratios(times_faster: Report) -> list[str]:
    rows = [
        f"| {own} | {other} | {_spread(spans['network'])} | {_spread(spans['whole'])} |"
        for own, others in times_faster.items()
        for other, spans in others.items()
    ]
    return [
        "How many times faster, turn by turn:",
        "",
        "| ours | than | network | whole |",
        "|---|---|---|---|",
        *rows,
        "",
    ]


def _features(report: Report) -> list[str]:
    rows = [
        f"| {row['way']} | {_seconds(row['milliseconds'])} | {_spread(row['times_faster_than_plain'])} | "
        f"{row['largest_difference']:.1e} |"
        for row in report["features"]["rows"]
    ]
    return [
        "Backbone and neck alone, from the same prepared pixels; the largest difference of a feature from those of the",
        "plain network, in standard deviations of its level:",
        "",
        "| way | median, s | times faster than plain | largest difference |",
        "|---|---|---|---|",
        *rows,
        "",
    ]


def _training(report: Report) -> list[str]:
    part = report["training"]
    rows = []
    for row in part["rows"]:
        parts = " | ".join(f"{row['seconds'][name]['median']:.2f}" for name in ("forward", "backward", "optimizer"))
        step = row["step_seconds"]
        rows.append(
            f"| {row['way']} | {parts} | {step['median']:.2f} ({step['min']:.2f} to {step['max']:.2f}) | "
            f"{_spread(row['plain_is_times_faster'])} | {row['loss']:.2f} |"
        )
    return [
        f"A step of training, {part['batch_size']} to a batch, {part['objects']} objects an image, medians of "
        f"{part['steps']} steps; the losses of the first",
        "step differ by the samples that each program draws:",
        "",
        "| way | forward, s | backward, s | optimizer, s | step, s | plain is times faster | loss |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
    ]


def _missing(report: Report) -> list[str]:
    missing = {
        f"{way} ({part})": why
        for part in ("latency", "features", "training")
        for way, why in report[part]["missing"].items()
    }
    return [*(f"Not measured: {way}, {why}." for way, why in missing.items()), *([""] if missing else [])]


def _agreement(row: Report) -> str:
    if "difference" not in row:
        return "another network"
    found = row["difference"]
    return f"{found['paired']} of {found['before']} paired"


def _seconds(milliseconds: Report) -> str:
    low, median, high = (milliseconds[name] / 1000 for name in ("min", "median", "max"))
    return f"{median:.2f} ({low:.2f} to {high:.2f})"


def _spread(ratio: Report) -> str:
    return f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"
