"""What the page says of whole networks, from small reports."""

from typing import Any

from cascadezoo.benchmarks.measure import cost_sections
from cascadezoo.benchmarks.verify.speed import STAGES

ENVIRONMENT = {
    "cpu": "a CPU",
    "cores": 2,
    "packages": {"torch": "2.14"},
    "date": "2026-11-26T00:00",
    "torch": None,
    "modified": False,
}


def ms(median: float) -> dict[str, float]:
    return {"min": median, "median": median, "max": median}


def stages(times: float) -> dict[str, dict[str, float]]:
    return {stage: ms(times * number) for number, stage in enumerate(STAGES, 1)}


def test_entries() -> None:
    ways = {
        name: {"stages_ms": stages(times), "total_ms": ms(30 * times)}
        for name, times in {"plain": 2, "fp32": 1}.items()
    }
    row = {"entry": "one.x", "ways": ways, "times_faster_than_plain": {"fp32": {"min": 1.9, "median": 2, "max": 2.1}}}
    report = {"rows": [row], "image": [480, 640], "runs": 3, "threads": 2, "compiled_ops": []}
    lines = cost_sections.entries({**report, "environment": ENVIRONMENT})
    assert "| `one.x` | plain | 2 | 4 | 6 | 8 | 10 | 12 | 60 |  |" in lines
    assert "| `one.x` | fp32 | 1 | 2 | 3 | 4 | 5 | 6 | 30 | 2.00 (1.90 to 2.10) |" in lines
    assert any("compiled operators: none." in line for line in lines)


def floor_report(median: float) -> dict[str, Any]:
    found = {
        "gflop_per_second": {"convolution": ms(500), "linear": ms(200)},
        "stages_ms": stages(10),
        "whole_ms": ms(220),
        "floor_ms": dict.fromkeys(STAGES, 0.0) | {"rpn": 20.0},
        "floor_total_ms": 20.0,
        "times_the_floor": ms(median),
        "profile": [
            {"operator": "aten::conv", "calls": 3, "ms": 150.0, "share": 0.75},
            {"operator": "outside torch's operators", "calls": 0, "ms": 50.0, "share": 0.25},
        ],
    }
    return {
        "entry": "one.x", "network_input": [800, 1088], "runs": 10, "threads": 2, "compiled_ops": ["cpu"],
        "target": 1.2, "gflop": dict.fromkeys(STAGES, 0.0) | {"rpn": 10.0},
        "precisions": {"fp32": found}, "environment": ENVIRONMENT,
    }  # fmt: skip


def test_the_floor_with_its_profile() -> None:
    lines = cost_sections.floor(floor_report(1.19))
    assert "| rpn | 10.0 | 20 | 30 | 1.50 |" in lines
    assert "| preprocess | 0.0 | 0 | 10 |  |" in lines
    assert "| whole, without a stop | 10.0 | 20 | 220 | 11.00 |" in lines
    assert "| aten::conv | 3 | 150.0 | 75.0 % |" in lines
    assert "| outside torch's operators |  | 50.0 | 25.0 % |" in lines
    assert any("at most 1.2, is met." in line for line in lines)
    assert any("at most 1.2, is missed." in line for line in cost_sections.floor(floor_report(1.21)))


def growth_report() -> dict[str, Any]:
    def row(size: float, times: float) -> dict[str, Any]:
        memory = {"ready_bytes": 2**30, "peak_bytes": 2**31}
        more = {"sides": [448, 576], "runs": 3, "threads": 2, "compiled_ops": ["cpu"]}
        return {"size": size, "stages_ms": stages(times), "total_ms": ms(21 * times), **memory, **more}

    cases = {"detections": [row(0, 1), row(1, 1), row(10, 5), row(100, 10)], "megapixels": [row(1, 1), row(4, 4)]}
    return {"entry": "one.x", "precision": "fp32", "cases": cases, "environment": ENVIRONMENT}


def test_growth_of_a_network_with_exponents() -> None:
    lines = cost_sections.network_growth(growth_report())
    assert "| 0 | 448x576 | 1 | 2 | 3 | 4 | 5 | 6 | 21 | 2.00 | 1.00 |" in lines
    # ten times the milliseconds for a hundred times the detections; that at 0 is left out
    assert "| exponent | | 0.50 | 0.50 | 0.50 | 0.50 | 0.50 | 0.50 | 0.50 | | |" in lines
    assert "| exponent | | 1.00 | 1.00 | 1.00 | 1.00 | 1.00 | 1.00 | 1.00 | | |" in lines


def test_every_chart_that_a_section_shows_is_drawn() -> None:
    report = growth_report()
    charts = cost_sections.CHARTS["network_growth"](report)
    text = "\n".join(cost_sections.network_growth(report))
    assert set(charts) == {"network_growth_detections.svg", "network_growth_megapixels.svg"}
    assert all(f"(images/{name})" in text for name in charts)
    assert "total: 0.50" in charts["network_growth_detections.svg"]
    assert "masks: 1.00" in charts["network_growth_megapixels.svg"]
