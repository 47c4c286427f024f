"""The sections of docs/speed.md about compiled operators, each from its report."""

from typing import Any


def machine(report: dict[str, Any]) -> str:
    """The machine of a report, in words."""
    environment = report["environment"]
    gpu = (environment.get("torch") or {}).get("gpu")
    torch = environment["packages"].get("torch", "none")
    return f"{gpu or environment['cpu']}, {environment['cores']} cores, torch {torch}, {environment['date'][:10]}"


def ops(report: dict[str, Any]) -> list[str]:
    """DCNv3."""
    rows = []
    for stage in report["stages"]:
        ms, mib, ratio = stage["milliseconds"], stage["peak_mib"], stage["times_faster_than"]["grid_sample"]
        rows.append(
            f"| {'x'.join(map(str, stage['shape'][1:]))} | {ms['compiled']['median']:.0f} | "
            f"{ms['grid_sample']['median']:.0f} | {ratio['median']:.1f} ({ratio['min']:.1f} to {ratio['max']:.1f}) | "
            f"{mib['compiled']:.0f} | {mib['grid_sample']:.0f} |"
        )
    return [
        "## Compiled DCNv3",
        "",
        f"Forward at InternImage-L's four stages for an 800x1216 input, compiled for the CPU against `grid_sample`, "
        f"{report['threads']} threads,",
        f"float32, {report['runs']} alternating runs, medians; memory beyond the inputs.",
        f"({machine(report)}; `ops.json`)",
        "",
        "| stage | compiled, ms | grid_sample, ms | times faster | compiled, MiB | grid_sample, MiB |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
    ]


def roi_align(report: dict[str, Any]) -> list[str]:
    """RoIAlign."""
    rows = []
    for name, case in report["cases"].items():
        ours, theirs = (case["milliseconds"][way]["median"] for way in ("compiled", "torchvision"))
        ratio = case["times_faster"]
        rows.append(
            f"| {name} | {case['boxes']} | {case['resolution']} | {ours:.0f} | {theirs:.0f} | "
            f"{ratio['median']:.1f} ({ratio['min']:.1f} to {ratio['max']:.1f}) |"
        )
    return [
        "## Compiled RoIAlign",
        "",
        f"On a level of {'x'.join(map(str, report['feature'][1:]))}, compiled for the CPU against torchvision's,",
        f"{report['threads']} threads, float32, {report['runs']} alternating runs, medians; training: with gradients.",
        f"({machine(report)}; `roi_align.json`)",
        "",
        "| use | boxes | bins a side | compiled, ms | torchvision, ms | times faster |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
    ]


def nms(report: dict[str, Any]) -> list[str]:
    """Suppression."""
    rows = []
    for case in report["cases"]:
        for size in case["sizes"]:
            ours, theirs = (size["milliseconds"][way]["median"] for way in ("compiled", "reference"))
            ratio = size["times_faster"]
            rows.append(
                f"| {case['name']} | {size['candidates']} | {case['keep']} | {ours:.1f} | {theirs:.1f} | "
                f"{ratio['median']:.0f} ({ratio['min']:.0f} to {ratio['max']:.0f}) |"
            )
    return [
        "## Compiled suppression",
        "",
        "Random boxes in 5 levels or 80 classes, `grouped_nms` compiled for the CPU against its reference, which calls",
        f"torchvision's operator; threads: {report['threads']}; {report['runs']} alternating runs, medians; float64",
        "where float32 is not named.",
        f"({machine(report)}; `nms.json`)",
        "",
        "| groups | candidates | kept at most | compiled, ms | reference, ms | times faster |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
    ]


def paste(report: dict[str, Any]) -> list[str]:
    """Masks to run lengths."""
    rows = []
    for row in report["rows"]:
        cells = [
            f"{1000 * row['seconds'][way]['median']:.1f} | {row['peak_bytes'][way] / 2**20:.1f}"
            for way in ("compiled", "crops", "whole masks")
        ]
        rows.append(f"| {'x'.join(map(str, row['image']))} | {row['masks']} | {' | '.join(cells)} |")
    return [
        "## Compiled paste of masks",
        "",
        "Masks of 28x28 to run lengths on a CPU: by the compiled operator; cropped to their boxes and encoded one by",
        "one, as PyTorch's version does; as whole masks of the image's size.  A fresh process each, memory beyond the",
        f"inputs; medians of {report['runs']} runs, {report['threads']} threads; all encodings are equal.",
        f"({machine(report)}; `paste.json`)",
        "",
        "| image | masks | compiled, ms | MiB | crops, ms | MiB | whole masks, ms | MiB |",
        "|---|---|---|---|---|---|---|---|",
        *rows,
        "",
    ]
