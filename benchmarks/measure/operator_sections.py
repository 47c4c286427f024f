"""The sections of docs/speed.md about compiled operators, each from its report."""

from typing import Any


def machine(report: dict[str, Any]) -> str:
    """The machine of a report, in words, with the commit where no commit holds the code that was measured."""
    environment = report["environment"]
    gpu = (environment.get("torch") or {}).get("gpu")
    torch = environment["packages"].get("torch", "none")
    code = f", {commit(environment)}" if environment["modified"] else ""
    return f"{gpu or environment['cpu']}, {environment['cores']} cores, torch {torch}{code}, {environment['date'][:10]}"


def commit(environment: dict[str, Any]) -> str:
    """The commit that was measured, and whether the tree had changes beside it."""
    return f"commit {(environment['commit'] or 'unknown')[:8]}{' with changes' if environment['modified'] else ''}"


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


def deform_conv2d(report: dict[str, Any]) -> list[str]:
    """Deformable convolutions: layers, whole networks, training."""
    ways = ("compiled", "torchvision", "not deformable")

    def cells(found: dict[str, Any], digits: int = 0) -> str:
        return " | ".join(f"{found['milliseconds'][way]['median']:.{digits}f}" for way in ways)

    def ratio(of: dict[str, Any]) -> str:
        return f"{of['median']:.1f} ({of['min']:.1f} to {of['max']:.1f})"

    layers = [
        f"| {name} | {'x'.join(map(str, row['shape'][1:]))} | {cells(row, 1)} | "
        f"{row['milliseconds']['offsets']['median']:.1f} | {ratio(row['times_faster_than_torchvision'])} | "
        f"{ratio(row['times_as_long_as_plain'])} |"
        for name, row in report["layers"].items()
    ]
    networks = [
        f"| `{row['architecture']}` | {'x'.join(map(str, row['input']))} | {cells(row['whole'])} | "
        f"{ratio(row['whole']['times_faster_than_torchvision'])} | {ratio(row['whole']['times_as_long_as_plain'])} | "
        f"{row['share_of_backbone']['compiled']['median']:.0%} | "
        f"{row['share_of_backbone']['torchvision']['median']:.0%} |"
        for row in report["networks"]
    ]
    training = [
        f"| {name} | "
        + " | ".join(
            f"{row['milliseconds'][way][part]['median']:.0f}"
            for way in ("deformable", "not deformable")
            for part in ("forward", "backward")
        )
        + f" | {ratio(row['times_as_long'])} |"
        for name, row in report["training"].items()
    ]
    grows = report["grows_with_pixels"]
    return [
        "## Deformable convolutions",
        "",
        "A 3x3 layer at the shapes of mmdetection's deformable backbones for 800x1333 images: compiled for the CPU,",
        "torchvision's (the fallback), and the ordinary convolution by oneDNN; one thread, float32, by the time of the",
        f"processor, {report['runs']} alternating runs, medians.  The layer that gives the offsets comes to both.",
        f"({machine(report)}, load {report['load_average']:.0f}; `deform_conv2d.json`)",
        "",
        "| layer | input | compiled, ms | torchvision, ms | not deformable, ms | offsets, ms | "
        "times faster than torchvision | times as long as not deformable |",
        "|---|---|---|---|---|---|---|---|",
        *layers,
        "",
        "Whole networks, optimised, from pixels to masks, and what the operator is of the backbone.  Ordinary 3x3",
        "layers of stride 1 go Winograd's way, which moved points cannot.",
        "",
        "| network | input | compiled, ms | torchvision, ms | not deformable, ms | times faster | times as long | "
        "share, compiled | share, torchvision |",
        "|---|---|---|---|---|---|---|---|---|",
        *networks,
        "",
        "Times of the first grow with the pixels to the power of "
        + ", ".join(f"{grows[way]:.2f} ({way})" for way in ways)
        + ".",
        "",
        "A layer in training, with its offsets: the gradients are torchvision's.",
        "",
        "| layer | forward, ms | backward, ms | not deformable, forward | backward | times as long |",
        "|---|---|---|---|---|---|",
        *training,
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
