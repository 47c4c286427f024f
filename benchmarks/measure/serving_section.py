"""The section of docs/speed.md about the server, from its report."""

from typing import Any

from cascadezoo.benchmarks.measure.operator_sections import machine


def serving(report: dict[str, Any]) -> list[str]:
    """Throughput and latency by way and number of clients, beside the loop."""
    height, width = report["image"]
    return [
        "## The server",
        "",
        f"`cascadezoo serve {report['entry']}` on a CPU, {report['threads']} threads, compiled operators: "
        f"{', '.join(report['compiled_ops']) or 'none'}.",
        f"Clients on the same machine each send {height}x{width} JPEG files one after another for "
        f"{report['seconds']:g} seconds;",
        "the loop calls the same optimised model on the same files, one after another on all cores, from decoding to",
        f"COCO's JSON.  Medians of {report['rounds']} turns.",
        f"({machine(report)}; `serving.json`)",
        "",
        "| way | clients | images per second | times the loop | p50, ms | p99, ms |",
        "|---|---|---|---|---|---|",
        _row("in a loop", "", 1, report["loop"]),
        *(_row(f"`{each['way']}`", str(each["clients"]), each["times_the_loop"], each) for each in report["rows"]),
        "",
    ]


def _row(way: str, clients: str, times: float, each: dict[str, Any]) -> str:
    rate, p50, p99 = (each[name]["median"] for name in ("images_per_second", "p50_ms", "p99_ms"))
    return f"| {way} | {clients} | {rate:.2f} | {times:.2f} | {p50:.0f} | {p99:.0f} |"
