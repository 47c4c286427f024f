"""What a report says of a speed beyond its table."""

import json
from pathlib import Path

from sample_report import sample, speed

from cascadezoo.benchmarks.reports.html import html
from cascadezoo.benchmarks.reports.markdown import markdown
from cascadezoo.benchmarks.reports.rows import entry_details, settings_line
from cascadezoo.benchmarks.reports.schema import Course, EntryReport, Report, Sensors, read_report, text_of


def course(start: float, end: float) -> Course:
    return Course(start=start, end=end, mean=(start + end) / 2, min=min(start, end), max=max(start, end), looks=2)


def report_with(**of_batch) -> Report:
    timed = speed(12.5)
    batch = timed.timing.batches[0].model_copy(update=of_batch)
    timing = timed.timing.model_copy(update={"batches": (batch,)})
    entry = EntryReport(name="x", verdict=timed.verdict, speed=timed.model_copy(update={"timing": timing}))
    return sample().model_copy(update={"entries": (entry,)})


def details(report: Report) -> dict[str, str]:
    [(_, lines)] = [each for each in entry_details(report.entries[0]) if each[0].startswith("stages at batch 1")]
    return dict(lines)


def test_percentiles_and_sensors_are_told() -> None:
    total = speed(12.5).timing.batches[0].total_ms.model_copy(update={"p90": 90.25, "p99": 98.0})
    told = Sensors(gpu_clock_mhz=course(1980, 1410), power_w=course(95.2, 690.8), temperature_c=course(35, 71))
    report = report_with(total_ms=total, sensors=told)
    assert details(report) == {
        "rpn": "80.0 ms",
        "p50, p90, p99": "80.0, 90.2, 98.0 ms",
        "GPU clock, MHz": "1980 to 1410, mean 1695, highest 1980",
        "power, W": "95 to 691, mean 393, highest 691",
        "temperature, °C": "35 to 71, mean 53, highest 71",
    }
    assert "mean 393" in html(report)


def test_older_reports_say_nothing_of_them(tmp_path: Path) -> None:
    data = json.loads(text_of(report_with()))
    for name in ("decode", "min_seconds"):
        del data["settings"][name]
    batch = data["entries"][0]["speed"]["timing"]["batches"][0]
    del batch["sensors"]
    for spread in (batch["total_ms"], *batch["stages_ms"].values()):
        del spread["p90"], spread["p99"]
    (tmp_path / "old.json").write_text(json.dumps(data))
    report = read_report(tmp_path / "old.json")
    assert details(report) == {"rpn": "80.0 ms"}
    assert report == report_with()


def test_settings_say_what_was_timed() -> None:
    report = sample()
    assert "decoding excluded" in markdown(report)
    assert "decod" not in settings_line(report.settings)
    settings = report.settings.model_copy(update={"decode": True, "min_seconds": 2.5})
    assert "decoding included, on one thread" in markdown(report.model_copy(update={"settings": settings}))
    assert settings_line(settings).endswith("tolerance 0.2, speed with decoding, at least 2.5 s a batch size")
