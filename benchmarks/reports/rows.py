"""A report as the rows of its tables: text only, the same for Markdown, HTML and the terminal."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cascadezoo.benchmarks.reports.schema import (
    Accuracy,
    BatchSpeed,
    EntryReport,
    Machine,
    Report,
    Sensors,
    Settings,
    Spread,
)
from cascadezoo.benchmarks.reports.verdict import Verdict
from cascadezoo.coco.metrics import HUNDREDTH, METRICS, THOUSANDTH, rounded

ACCURACY_HEADINGS = ("entry", "weights", "evaluation", "verdict", "box AP (published)", "mask AP (published)", "why")
ACCURACY_NOTE = "COCO average precision in percent."
_SENSORS = {
    "gpu_clock_mhz": "GPU clock, MHz",
    "gpu_memory_clock_mhz": "GPU memory clock, MHz",
    "power_w": "power, W",
    "temperature_c": "temperature, °C",
    "cpu_clock_mhz": "CPU clock, MHz",
}
SPEED_HEADINGS = (
    "entry",
    "weights",
    "verdict",
    "batch",
    "fps",
    "median, ms",
    "quartiles, ms",
    "peak, MiB",
    "published fps",
    "why",
)


def speed_note(report: Report) -> str:
    """What speeds are of."""
    decoding = "included, on one thread" if report.settings.decode else "excluded"
    return f"Images per second at the median, decoding {decoding}. Published fps are another device's, never judged."


class AccuracyRow(NamedTuple):
    """One evaluation; figures are in percent, ``measured (published)``.  Fields as in ``ACCURACY_HEADINGS``."""

    entry: str
    weights: str
    evaluation: str
    verdict: Verdict
    box_ap: str
    mask_ap: str
    why: str


class SpeedRow(NamedTuple):
    """One entry at one batch size, or, with empty cells, why it was not timed.  Fields as in ``SPEED_HEADINGS``."""

    entry: str
    weights: str
    verdict: Verdict
    batch: str
    fps: str
    median_ms: str
    quartiles_ms: str
    peak_mib: str
    published: str
    why: str


def accuracy_rows(report: Report) -> Iterator[AccuracyRow]:
    """Every evaluation of every entry."""
    for entry in report.entries:
        for part in entry.accuracy:
            yield AccuracyRow(
                entry.name,
                given_weights(entry),
                evaluation_name(part),
                part.verdict,
                cell(entry, part, "box_ap"),
                cell(entry, part, "mask_ap"),
                part.reason,
            )


def speed_rows(report: Report) -> Iterator[SpeedRow]:
    """Every batch size of every entry whose speed was asked for."""
    for entry in report.entries:
        speed = entry.speed
        if speed is None:
            continue
        published = f"{speed.published_fps} on {speed.published_device}" if speed.published_fps else ""
        if speed.timing is None:
            yield SpeedRow(entry.name, given_weights(entry), speed.verdict, "", "", "", "", "", published, speed.reason)
            continue
        for batch in speed.timing.batches:
            numbers = _numbers(batch)
            yield SpeedRow(entry.name, given_weights(entry), speed.verdict, *numbers, published, speed.reason)


def evaluation_name(part: Accuracy) -> str:
    """Which evaluation of its entry this is."""
    name = "test-time augmentation" if part.tta else "plain"
    return name if part.basis == "table" else f"{name}, later figures"


def given_weights(entry: EntryReport) -> str:
    """The file that was given instead of the published weights; empty where none was."""
    return f"given: {entry.given.name}, sha256 {entry.given.sha256}" if entry.given else ""


def cell(entry: EntryReport, part: Accuracy, metric: str) -> str:
    """A figure as measured and, in brackets, as published; that of other weights than the published says so."""
    published = next((f"({check.published})" for check in part.checks if check.metric == metric), "")
    measured = METRICS[metric].of(part.figures)
    own = "" if measured is None else f"{rounded(measured, HUNDREDTH)}{' given' if entry.given else ''}"
    return f"{own} {published}".strip()


def counted(count: int, noun: str, plural: str = "") -> str:
    """A number of things, as in 1 image, 2 images, 2 entries."""
    return f"{count} {noun if count == 1 else plural or f'{noun}s'}"


def used_columns(rows: Sequence[Sequence[str]]) -> list[int]:
    """The columns that are not empty everywhere."""
    return [i for i in range(len(rows[0]) if rows else 0) if any(row[i] for row in rows)]


def detailed(figure: float | None) -> str | None:
    """A figure with the digits that tell two runs apart."""
    return None if figure is None else str(rounded(figure, THOUSANDTH))


def summary(report: Report) -> str:
    """How many entries got which verdict, the gravest first."""
    counts = Counter(entry.verdict for entry in report.entries)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict]) or "no entries"


def machine_lines(machine: Machine) -> list[tuple[str, str]]:
    """What it was measured on and with."""
    lines = [
        ("device", machine.device),
        ("driver", machine.driver),
        ("CPU", f"{machine.cpu}, {counted(machine.cores, 'core')}, {counted(machine.threads or 0, 'thread')}"),
        ("system", f"{machine.system}, {machine.python}"),
        ("torch", f"{machine.packages.get('torch', 'none')}, CUDA {machine.cuda or 'none'}"),
        ("decoder", machine.decoder),
        ("evaluator", machine.evaluator),
    ]
    return [(label, text) for label, text in lines if text]


def code_lines(report: Report) -> list[tuple[str, str]]:
    """Which code and manifest it was measured with."""
    commit = f"{report.commit}{', modified' if report.modified else ''}" if report.commit else "no checkout"
    return [
        ("version", report.version),
        ("commit", commit),
        ("code", report.code_sha256),
        ("manifest", report.manifest_sha256),
        ("settings", settings_line(report.settings)),
        ("made", f"{report.timing.date}, in {report.timing.seconds:.0f} s"),
    ]


def shard_name(shard: tuple[int, int]) -> str:
    """One part of several as it is given on the command line."""
    return "{}/{}".format(*shard)


def settings_line(settings: Settings) -> str:
    """What was asked for, in short."""
    words = [settings.computed_in, f"evaluated by {settings.evaluator}", f"seed {settings.seed}"]
    if settings.limit is not None:
        words.append("the first image" if settings.limit == 1 else f"the first {settings.limit} images")
    words += [f"tolerance {settings.tolerance}"] * (settings.tolerance is not None)
    words += ["with test-time augmentation"] * settings.tta
    words += ["speed with decoding"] * settings.decode
    words += [f"at least {settings.min_seconds:g} s a batch size"] * (settings.min_seconds > 0)
    if settings.shard:
        words.append(f"shard {shard_name(settings.shard)}")
    return ", ".join(words)


def entry_details(entry: EntryReport) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Everything measured of an entry beyond the tables: headings, each with labels and texts."""
    for part in entry.accuracy:
        for kind, figures in part.figures.items():
            images, found = counted(part.images, "image"), counted(part.detections, "detection")
            heading = f"{kind}, {evaluation_name(part)}, {images}, {found}"
            yield heading, [(name, detailed(value) or "none") for name, value in figures.items()]
        if timing := part.timing:
            spent = [
                (name, f"{getattr(timing, name):.1f} s") for name in ("seconds", "decode", "inference", "evaluate")
            ]
            spent += [("outside decode and inference", f"{timing.outside_share:.1%}")]
            spent += [("batch, processes", f"{timing.batch_size}, {timing.processes}")]
            yield f"time, {evaluation_name(part)}", spent + [("note", note) for note in timing.notes]
    if entry.speed and entry.speed.timing:
        for batch in entry.speed.timing.batches:
            settled = "settled" if batch.stable else "not settled"
            stages = [(stage, f"{times.median:.1f} ms") for stage, times in batch.stages_ms.items()]
            yield (
                f"stages at batch {batch.batch_size}, detections per image: {batch.detections:.0f}, "
                f"{counted(batch.runs, 'run')}, {settled}",
                stages + _latency(batch.total_ms) + _sensors(batch.sensors),
            )
        if notes := entry.speed.timing.notes:
            yield "speed", [("note", note) for note in notes]
    weights = [("given", entry.given.name), ("sha256", entry.given.sha256)] if entry.given else []
    if entry.weights_digest:
        weights.append(("content digest", entry.weights_digest))
    if weights:
        yield "weights", weights


def _latency(total: Spread) -> list[tuple[str, str]]:
    """The percentiles of a batch's time; none of an older report."""
    if total.p90 is None or total.p99 is None:
        return []
    return [("p50, p90, p99", f"{total.median:.1f}, {total.p90:.1f}, {total.p99:.1f} ms")]


def _sensors(sensors: Sensors | None) -> list[tuple[str, str]]:
    if sensors is None:
        return []
    told = [(words, getattr(sensors, name)) for name, words in _SENSORS.items()]
    return [
        (words, f"{course.start:.0f} to {course.end:.0f}, mean {course.mean:.0f}, highest {course.max:.0f}")
        for words, course in told
        if course is not None
    ]


def _numbers(batch: BatchSpeed) -> tuple[str, str, str, str, str]:
    total = batch.total_ms
    return (
        str(batch.batch_size),
        f"{batch.fps:.2f}",
        f"{total.median:.1f}",
        f"{total.q1:.1f} to {total.q3:.1f}",
        f"{batch.peak_bytes / 2**20:.0f}",
    )
