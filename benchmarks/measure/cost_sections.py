"""The sections of docs/speed.md about the cost of whole networks and how it grows, each from its report, and the charts
that they show.
"""

from collections.abc import Callable, Sequence
from typing import Any

from cascadezoo.benchmarks.measure.log_chart import Line, log_chart
from cascadezoo.benchmarks.measure.operator_sections import machine
from cascadezoo.benchmarks.verify.timing import exponent

Report = dict[str, Any]


def entries(report: Report) -> list[str]:
    """One entry of each kind."""
    rows = []
    for row in report["rows"]:
        for name, way in row["ways"].items():
            faster = row["times_faster_than_plain"].get(name)
            times = " | ".join(f"{ms['median']:.0f}" for ms in way["stages_ms"].values())
            rows.append(
                f"| `{row['entry']}` | {name} | {times} | {way['total_ms']['median']:.0f} | "
                f"{'' if faster is None else _times(faster)} |"
            )
    stages = list(next(iter(report["rows"][0]["ways"].values()))["stages_ms"])
    height, width = report["image"]
    return [
        "## Latency by entry",
        "",
        f"A {height}x{width} image at each entry's own scale on the CPU, random weights: the plain model, as it is",
        f"loaded, and as `optimize` makes it by precision.  {report['threads']} threads, medians of {report['runs']} "
        "runs of all ways in turn,",
        "in milliseconds; ratios of the totals run by run; compiled operators: "
        f"{', '.join(report['compiled_ops']) or 'none'}.",
        f"({machine(report)}; `latency_entries.json`)",
        "",
        f"| entry | way | {' | '.join(stages)} | total | times faster |",
        f"|---|---|{'---|' * len(stages)}---|---|",
        *rows,
        "",
    ]


def floor(report: Report) -> list[str]:
    """An optimised model beside the processor's limit."""
    lines = []
    for precision, found in report["precisions"].items():
        rates, ratio = found["gflop_per_second"], found["times_the_floor"]
        verdict = "met" if ratio["median"] <= report["target"] else "missed"
        rows = [
            _floor_row(stage, work, found["floor_ms"][stage], found["stages_ms"][stage]["median"])
            for stage, work in report["gflop"].items()
        ]
        work = sum(report["gflop"].values())
        lines += [
            f"### In {precision}",
            "",
            f"The convolution reaches {rates['convolution']['median']:.0f} GFLOP/s, the linear layer "
            f"{rates['linear']['median']:.0f}.  The whole takes {_times(ratio)} times the floor,",
            f"run by run; the target, at most {report['target']}, is {verdict}.",
            "",
            "| stage | GFLOP | floor, ms | measured, ms | times the floor |",
            "|---|---|---|---|---|",
            *rows,
            _floor_row("whole, without a stop", work, found["floor_total_ms"], found["whole_ms"]["median"]),
            "",
            "| operator | calls | ms | share |",
            "|---|---|---|---|",
            *[
                f"| {row['operator']} | {row['calls'] or ''} | {row['ms']:.1f} | {100 * row['share']:.1f} % |"
                for row in found["profile"]
            ],
            "",
        ]
    height, width = report["network_input"]
    return [
        "## The floor",
        "",
        f"`{report['entry']}`, optimised, an image of {height}x{width} at the network, {report['threads']} threads, "
        f"medians of {report['runs']} runs.",
        "The floor of a stage is its convolutions and matrix products, a detection's one mask alone, at the rate of",
        "torch's plain 3x3 convolution (256 to 256 channels at 200x336) in the same run and precision; Winograd's way,",
        "with fewer products, may go below.  Beside it stands the rate of a linear layer (1000 rows, 12544 to 1024).",
        "The profile is of one run more: time in each operator itself, without those that it calls.",
        f"Compiled operators: {', '.join(report['compiled_ops']) or 'none'}.  ({machine(report)}; `floor.json`)",
        "",
        *lines,
    ]


def _floor_row(stage: str, gflop: float, floor_ms: float, measured_ms: float) -> str:
    ratio = f"{measured_ms / floor_ms:.2f}" if floor_ms else ""
    return f"| {stage} | {gflop:.1f} | {floor_ms:.0f} | {measured_ms:.0f} | {ratio} |"


_NETWORK = {  # what grows: the heading of its column, and what its chart says of it
    "megapixels": ("megapixels", "image at the network, megapixels"),
    "detections": ("detections", "detections with masks"),
    "images": ("images at a time", "images at a time"),
}


def network_growth(report: Report) -> list[str]:
    """An optimised model's time and memory."""
    lines = []
    for case, rows in report["cases"].items():
        heading, _ = _NETWORK[case]
        stages = list(rows[0]["stages_ms"])
        grows = [f"{_exponent(rows, name):.2f}" for name in stages]
        lines += [
            f"![time against {heading}](images/{_network_chart(case)})",
            "",
            f"| {heading} | input | {' | '.join(stages)} | total | peak GiB | for the images, GiB |",
            f"|---|---|{'---|' * len(stages)}---|---|---|",
            *[_network_row(row, stages) for row in rows],
            f"| exponent | | {' | '.join(grows)} | {_exponent(rows, None):.2f} | | |",
            "",
        ]
    first = next(iter(report["cases"].values()))[0]
    runs = [row["runs"] for rows in report["cases"].values() for row in rows]
    return [
        "## How a network's cost grows",
        "",
        f"`{report['entry']}`, {_way(report['precision'])}, random weights, images that need no resizing, by default "
        "one of 896x1152",
        "with 100 detections; each point in a process of its own.  Memory is all that the process holds at its peak,",
        "and that without what it held before the first image.  The exponent is the slope between the first and the",
        "last point on logarithmic axes, without that at 0: 1 is in proportion.",
        f"{first['threads']} threads, medians of {min(runs)} to {max(runs)} runs, in milliseconds; compiled operators: "
        f"{', '.join(first['compiled_ops']) or 'none'}.",
        f"({machine(report)}; `network_growth.json`)",
        "",
        *lines,
    ]


def _way(precision: str) -> str:
    return "as it is loaded" if precision == "plain" else f"optimised in {precision}"


def _network_row(row: dict[str, Any], stages: Sequence[str]) -> str:
    times = " | ".join(f"{row['stages_ms'][stage]['median']:.0f}" for stage in stages)
    peak, ready = row["peak_bytes"] / 2**30, row["ready_bytes"] / 2**30
    sides = "x".join(map(str, row["sides"]))
    return f"| {row['size']} | {sides} | {times} | {row['total_ms']['median']:.0f} | {peak:.2f} | {peak - ready:.2f} |"


def _curve(rows: Sequence[dict[str, Any]], stage: str | None) -> tuple[list[float], list[float]]:
    """Sizes and milliseconds of a stage, or of their sum, where both can lie on logarithmic axes."""
    medians = [(row["size"], (row["stages_ms"][stage] if stage else row["total_ms"])["median"]) for row in rows]
    shown = [(size, ms) for size, ms in medians if size > 0 and ms > 0]
    return [size for size, _ in shown], [ms for _, ms in shown]


def _exponent(rows: Sequence[dict[str, Any]], stage: str | None) -> float:
    return exponent(*_curve(rows, stage))


def _network_chart(case: str) -> str:
    return f"network_growth_{case}.svg"


def _network_charts(report: Report) -> dict[str, str]:
    charts = {}
    for case, rows in report["cases"].items():
        curves = {"total": None, **{stage: stage for stage in rows[0]["stages_ms"]}}
        lines = [Line(f"{name}: {_exponent(rows, stage):.2f}", *_curve(rows, stage)) for name, stage in curves.items()]
        charts[_network_chart(case)] = log_chart(
            f"Time against {_NETWORK[case][0]}, with exponents", _NETWORK[case][1], "ms", lines
        )
    return charts


_PARTS = {"nms": "NMS, candidates", "categories": "categories", "plot": "plot, boxes"}
_WAYS = {"ours": "cascadezoo", "one_pass": "one pass"}
_GROWTH_CHART = "growth.svg"


def growth(report: Report) -> list[str]:
    """Suppression, categories, drawing."""
    rows = []
    for case, sizes in report["cases"].items():
        for row in sizes:
            cells = [f"{row['milliseconds'][way]['median']:.1f}" if way in row["milliseconds"] else "" for way in _WAYS]
            rows.append(f"| {_PARTS[case]} | {row['size']} | {' | '.join(cells)} |")
        grows = [f"{exponent(*_times_of(sizes, w)):.2f}" if w in sizes[0]["milliseconds"] else "" for w in _WAYS]
        rows.append(f"| {_PARTS[case]} | exponent | {' | '.join(grows)} |")
    return [
        "## How the cost of parts grows",
        "",
        f"The final NMS with {report['candidates_per_class']} candidates per class, beside one pass over all of them;",
        f"a data set's categories, checked; `plot` on a 480x640 image.  Medians of {report['runs']} runs; the exponent",
        "is the slope between the first and the last size on logarithmic axes: 1 is in proportion.",
        f"({machine(report)}; `growth.json`)",
        "",
        f"![time against size](images/{_GROWTH_CHART})",
        "",
        "| case | size | cascadezoo, ms | one pass, ms |",
        "|---|---|---|---|",
        *rows,
        "",
    ]


def _times_of(sizes: Sequence[dict[str, Any]], way: str) -> tuple[list[float], list[float]]:
    return [row["size"] for row in sizes], [row["milliseconds"][way]["median"] for row in sizes]


def _growth_charts(report: Report) -> dict[str, str]:
    lines = []
    for case, sizes in report["cases"].items():
        for way in sizes[0]["milliseconds"]:
            curve = _times_of(sizes, way)
            name = _PARTS[case] if way == "ours" else f"{_PARTS[case]}, {_WAYS[way]}"
            lines.append(Line(f"{name}: {exponent(*curve):.2f}", *curve))
    return {_GROWTH_CHART: log_chart("Time against size, with exponents", "size", "ms", lines)}


def _times(ratio: dict[str, float]) -> str:
    return f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"


CHARTS: dict[str, Callable[[Report], dict[str, str]]] = {"growth": _growth_charts, "network_growth": _network_charts}
"""By the name of a report: its charts, SVG by the name of the file."""
