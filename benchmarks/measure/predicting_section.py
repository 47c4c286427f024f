"""The section of docs/speed.md about many images, from its report."""

from typing import Any

from cascadezoo.benchmarks.measure.operator_sections import machine


def predicting(report: dict[str, Any]) -> list[str]:
    """Whole folders, and the ways in which images share the cores."""
    return [
        "## Many images",
        "",
        f"`cascadezoo predict` on a folder, {report['threads']} threads, float32, compiled operators: "
        f"{', '.join(report['compiled_ops']) or 'none'}; whole commands,",
        f"each a fresh process, in turn, medians of {report['rounds']}.  One at a time: "
        "`--no-optimize --at-once 1`, one image after another",
        "on all cores; optimised: `--at-once 1`.  Images per second are those after the first, which starting, loading",
        "and preparing belong to.",
        f"({machine(report)}; `predicting.json`)",
        "",
        "| entry | way | seconds by images | images per second | peak GiB |",
        "|---|---|---|---|---|",
        *(line for row in report["rows"] for line in _ways(row)),
        "",
        *(line for row in report["rows"] for line in _gains(row)),
        "",
        "The optimised network alone, on images in memory, milliseconds an image:",
        "",
        f"| entry | {' | '.join(report['rows'][0]['network']['milliseconds'])} |",
        f"|---|{'---|' * len(report['rows'][0]['network']['milliseconds'])}",
        *map(_network, report["rows"]),
        "",
    ]


def _ways(row: dict[str, Any]) -> list[str]:
    last = str(row["images"][-1])
    lines = []
    for way, rate in row["images_per_second"].items():
        seconds = ", ".join(f"{n}: {row['seconds'][way][str(n)]['median']:.1f}" for n in row["images"])
        peak = row["peak_bytes"][way][last] / 2**30
        lines.append(f"| `{row['entry']}` | {way} | {seconds} | {rate['median']:.2f} | {peak:.2f} |")
    return lines


def _gains(row: dict[str, Any]) -> list[str]:
    """One sentence per entry."""
    said = [
        f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f}) times {way}"
        for way, ratio in row["times_faster_than"].items()
    ]
    whole = row["whole_folder_times_faster_than"]["one at a time"]["median"]
    return [
        f"`{row['entry']}`: `predict` does {said[0]} and {said[1]};",
        f"a folder of {row['images'][-1]}, with the start, is done {whole:.2f} times as fast; preparing takes "
        f"{row['network']['preparing_seconds']:.1f} s.",
    ]


def _network(row: dict[str, Any]) -> str:
    times = [f"{each['median']:.1f}" for each in row["network"]["milliseconds"].values()]
    return f"| `{row['entry']}` | {' | '.join(times)} |"
