"""What docs/speed.md says of the reports of ``make gpu``: a section for each that is there, a sentence for the rest."""

import json
from pathlib import Path
from typing import Any

from cascadezoo.benchmarks.measure.gpu.plan import PARTS
from cascadezoo.benchmarks.measure.operator_sections import commit
from cascadezoo.benchmarks.measure.ways import SPANS

Report = dict[str, Any]


def gpu_sections(results: Path) -> list[str]:
    """The lines of the page's last sections."""
    lines, absent = ["", "## On a GPU", ""], []
    for part in PARTS:
        path = results / f"gpu_{part.name}.json"
        if path.exists():
            report = json.loads(path.read_text())
            title = part.about[0].upper() + part.about[1:]
            lines += [f"### {title}", "", *_begin(report, path.name), *_SECTIONS[part.name](report)]
            lines += [*_failures(report), ""]
        else:
            absent.append(part.about)
    if absent:
        lines += ["No GPU has run these:", "", *[f"- {about}" for about in absent]]
    return lines


def _begin(report: Report, name: str) -> list[str]:
    here = report["environment"]
    torch = here["torch"] or {}
    machine = f"{torch.get('gpu') or 'no GPU'}, driver {here['driver']}, CUDA {torch.get('cuda')}"
    packages = f"torch {here['packages'].get('torch')}, {commit(here)}"
    lines = [f"({machine}, {packages}, {here['date'][:10]}; `{name}`)", ""]
    if report["status"] != "passed":
        lines += [f"This part {_STATUS[report['status']]}.", ""]
    if report["left_out"]:
        lines += [f"There was no time for: {'; '.join(report['left_out'])}.", ""]
    return lines


_STATUS = {"failed": "failed", "cut": "was cut when its time was up", "running": "was interrupted"}


def _failures(report: Report) -> list[str]:
    if not report["failures"]:
        return []
    return ["", "Failures:", "", *[f"- `{what}`: {why.splitlines()[0]}" for what, why in report["failures"].items()]]


def _build(report: Report) -> list[str]:
    return [f"- {row['kind']}: `{row['library']}`, {row['seconds']:.0f} s" for row in report["rows"]]


def _suite(report: Report) -> str:
    counts = report.get("tests", {"passed": 0, "failed": 0, "skipped": 0, "collected": 0})
    return (
        f"Of {counts['collected']} tests {counts['passed']} passed, {counts['failed']} failed and {counts['skipped']} "
        f"were skipped; compiled operators: {', '.join(report.get('compiled_ops', [])) or 'none'}."
    )


def _ops(report: Report) -> list[str]:
    tools = [f"- {tool}: {said['result']}" for tool, said in report.get("compute_sanitizer", {}).items()]
    return [_suite(report), *(["", "compute-sanitizer over a few of them:", "", *tools] if tools else [])]


def _sync(report: Report) -> list[str]:
    rows = [
        f"| `{row['entry']}` | {row['precision']} | {row['synchronisations']} | {', '.join(row['places']) or '–'} |"
        for row in report["rows"]
    ]
    return ["| entry | precision | waits of `infer` | where |", "|---|---|---|---|", *rows]


def _graph(report: Report) -> list[str]:
    rows = []
    for row in report["rows"]:
        matched, score, box = (
            pick(one[name] for one in row["from_the_eager_network"])
            for pick, name in ((min, "matched"), (max, "score"), (max, "box"))
        )
        equal = all(one["bit_equal"] for one in row["from_no_graph"])
        eager, replayed = (f"{way['network_ms']['median']:.2f}" for way in row["ways"])
        rows.append(
            f"| `{row['entry']}` | {row['precision']} | {'yes' if equal else 'no'} | {matched:.1%} | {score:.1e} | "
            f"{box:.2f} | {eager} | {replayed} | {_ratio(row['times_faster']['network'])} |"
        )
    return [
        "Detections of a replay beside those of the same work without a graph (equal to the bit), and of the eager",
        "network in the same precision: the share that both have, the largest differences in score and in pixels.",
        "",
        "| entry | precision | equal | matched | score | box | eager, ms | graph, ms | times faster |",
        "|---|---|---|---|---|---|---|---|---|",
        *rows,
    ]  # fmt: skip


def _ratio(spread: dict[str, float]) -> str:
    return f"{spread['median']:.2f} ({spread['min']:.2f} to {spread['max']:.2f})"


def _latency(report: Report) -> list[str]:
    lines = _rows_of(report)
    for name, target in (report.get("targets") or {}).items():
        if target is None:
            lines += ["", f"Goal, {name}: not measured."]
        else:
            ratios = ", ".join(f"{span} {_ratio(target['times_faster'][span])}" for span in SPANS)
            met = " and ".join(span for span in SPANS if target["met"][span]) or "neither"
            lines += ["", f"Goal, {name}, {target['least']:.0f} times faster: {ratios}; met by: {met}."]
    staged = [row for row in report["rows"] if "stages_ms" in row]
    if staged:
        stages = list(staged[0]["stages_ms"])
        lines += ["", "The same with a wait for the GPU around each stage, median milliseconds:", ""]
        lines += [f"| network | way | precision | {' | '.join(stages)} |", "|---" * (3 + len(stages)) + "|"]
        for row in staged:
            cells = " | ".join(f"{row['stages_ms'][stage]['median']:.2f}" for stage in stages)
            lines.append(f"| `{row['entry']}` | {row['way']} | {row['precision']} | {cells} |")
    return lines


def _rows_of(report: Report) -> list[str]:
    if not report["rows"]:
        return []
    (height, width), runs = report["image"], report["rows"][0]["runs"]
    source = next(iter(report["peaks"].values()))["source"]
    rows = []
    for row in report["rows"]:
        network, whole = (f"{row[f'{span}_ms']['median']:.2f}" for span in SPANS)
        network += f" ({row['network_ms']['min']:.2f} to {row['network_ms']['max']:.2f})"
        least = f"{row['roofline_ms']:.2f} | {row['share_of_roofline']:.0%}" if "roofline_ms" in row else "– | –"
        rows.append(
            f"| `{row['entry']}` | {row['way']} | {row['precision']} | {row['batch_size']} | {network} | {whole} | "
            f"{row['images_per_second']:.1f} | {least} |"
        )
    return [
        f"A {height}x{width} image (copies of it in a batch), random weights, medians of {runs} runs",
        "of all ways in turn, with no wait in between.  Network: ours from resized images to detections on the host,",
        "torchvision's from prepared pixels to detections.  Whole: from images to detections with masks, ours encoded,",
        "torchvision's pasted.  fp32 is float32 without TF32, tf32 with it.  Least: the products alone, at the rates",
        f"of the card ({source}).",
        "",
        "| network | way | precision | batch | network, ms | whole, ms | images a second | least, ms | of it |",
        "|---|---|---|---|---|---|---|---|---|",
        *rows,
    ]


def _parity(report: Report) -> list[str]:
    lines = [_suite(report) + "  All in float32 without TF32."]
    if not report["rows"]:
        return lines
    rows = [
        f"| `{row['case']}` | {row['precision']} | {row['matched']:.1%} | {row.get('score_p95', 0):.1e} | "
        f"{row.get('box_p95', 0):.3f} | {'yes' if row['ok'] else 'no'} |"
        for row in report["rows"]
    ]
    return [
        *lines,
        "",
        "Beside what the publishers' code found: the share that is found, 95th percentiles of the differences in score",
        "and in pixels, and whether the bounds of float32 are met.",
        "",
        "| case | precision | matched | score | box | within |",
        "|---|---|---|---|---|---|",
        *rows,
    ]


def _training(report: Report) -> list[str]:
    if not report["rows"]:
        return []
    size = "x".join(map(str, report["images"]))
    parts = list(report["rows"][0]["share"])
    rows = [
        f"| {row['precision']} | {row['images_per_second']:.2f} | {row['peak_bytes'] / 2**30:.1f} | "
        + " | ".join(f"{row['seconds'][part]['median']:.3f}" for part in parts)
        + " |"
        for row in report["rows"]
    ]
    return [
        f"`{report['entry']}`, images of {size} with {report['objects']} objects, {report['batch_size']} a step,",
        f"{report['workers']} processes that prepare them; medians of {report['steps']} steps, in seconds.",
        "",
        f"| precision | images a second | peak GiB | {' | '.join(parts)} |",
        "|---" * (3 + len(parts)) + "|",
        *rows,
    ]


_SECTIONS = {
    "build": _build,
    "ops": _ops,
    "sync": _sync,
    "graph": _graph,
    "latency": _latency,
    "parity": _parity,
    "throughput": _rows_of,
    "training": _training,
}
