"""Clocks, power and temperature, as a driver and a system would tell them."""

import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cascadezoo.benchmarks.reports.schema import Course
from cascadezoo.benchmarks.verify import sensors
from cascadezoo.benchmarks.verify.sensors import cpu_clock, watched, watching

# prints a line a look, as the real one does, and keeps its own arguments and process id
DRIVER = """#!/bin/sh
echo "$@" > "$0.asked"
echo $$ > "$0.pid"
for line in {lines}; do echo "$line" | tr _ ' '; done
{then}
"""


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A ``nvidia-smi`` that prints these lines and goes on as it is told."""

    def make(*lines: str, then: str = "exec sleep 60") -> Path:
        path = tmp_path / "nvidia-smi"
        path.write_text(
            DRIVER.format(lines=" ".join(f"'{line.replace(' ', '_')}'" for line in lines) or "''", then=then)
        )
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        return path

    monkeypatch.setattr(sensors, "cpu_clock", lambda: None)
    return make


def until(condition) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)


def test_the_driver_is_asked_once_and_stopped(driver) -> None:
    path = driver("1410, 1593, 250.50, 40", "1200, 1593, 300.50, 43", "1380, 1593, 290.00, 44")
    with watching("GPU-7") as watch:
        until(lambda: len(watch.gpu) == 3)
    asked = path.with_name("nvidia-smi.asked").read_text()
    assert asked == (
        "-i GPU-7 --query-gpu=clocks.sm,clocks.mem,power.draw,temperature.gpu --format=csv,noheader,nounits -lms 500\n"
    )
    with pytest.raises(ProcessLookupError):
        os.kill(int(path.with_name("nvidia-smi.pid").read_text()), 0)
    found = watch.sensors()
    assert found.gpu_clock_mhz == Course(start=1410, end=1380, mean=1330, min=1200, max=1410, looks=3)
    assert found.gpu_memory_clock_mhz == Course(start=1593, end=1593, mean=1593, min=1593, max=1593, looks=3)
    assert found.power_w == Course(start=250.5, end=290, mean=280.3, min=250.5, max=300.5, looks=3)
    assert found.temperature_c == Course(start=40, end=44, mean=42.3, min=40, max=44, looks=3)
    assert found.cpu_clock_mhz is None


def test_the_gpu_is_named_by_its_own_id(driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch and the driver may number them differently."""
    path = driver("1410, 1593, 250.50, 40")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=f"of-{device}"))
    with watched(torch.device("cuda:1")) as watch:
        until(lambda: watch.gpu)
    assert path.with_name("nvidia-smi.asked").read_text().startswith("-i GPU-of-cuda:1 ")


def test_what_the_driver_does_not_tell_is_none(driver) -> None:
    driver("1410, [N/A], [Not Supported], 40", "nonsense")
    with watching("GPU-7") as watch:
        until(lambda: len(watch.gpu) == 2)
    found = watch.sensors()
    assert (found.gpu_clock_mhz.mean, found.temperature_c.looks) == (1410, 1)
    assert found.gpu_memory_clock_mhz is found.power_w is None


@pytest.mark.parametrize("then", ["exit 6", "exec >&-; exec sleep 60"])
def test_a_driver_that_fails_or_says_nothing_stops_nothing(driver, then: str) -> None:
    driver("", then=then)
    begun = time.monotonic()
    with watching("GPU-7") as watch:
        pass
    assert watch.sensors() is None
    assert time.monotonic() - begun < 30


def test_without_the_tool_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sensors, "cpu_clock", lambda: None)
    with watching("GPU-7") as watch:
        pass
    assert watch.sensors() is None


def test_an_error_inside_stops_the_looking_too(driver) -> None:
    path = driver("1410, 1593, 250.50, 40")
    before = threading.active_count()

    def fail() -> None:
        with watching("GPU-7") as watch:
            until(lambda: watch.gpu)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert threading.active_count() == before
    with pytest.raises(ProcessLookupError):
        os.kill(int(path.with_name("nvidia-smi.pid").read_text()), 0)


def test_the_cpu_is_looked_at_from_the_beginning_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = iter([2000.0, 3000.0])
    monkeypatch.setattr(sensors, "cpu_clock", lambda: next(clocks))
    with watched(torch.device("cpu")) as watch:
        pass
    found = watch.sensors()
    assert found.cpu_clock_mhz == Course(start=2000, end=3000, mean=2500, min=2000, max=3000, looks=2)
    assert found.gpu_clock_mhz is None


def test_clocks_of_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By cores where the system has them, else as in /proc/cpuinfo, else not at all."""
    monkeypatch.setattr(sensors, "_CPUFREQ", tmp_path)
    monkeypatch.setattr(sensors, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2}, raising=False)
    assert cpu_clock() is None
    lines = [f"processor\t: {core}\ncpu MHz\t\t: {mhz}.000\n\n" for core, mhz in ((0, 2400), (1, 2600))]
    (tmp_path / "cpuinfo").write_text("".join(lines))
    assert cpu_clock() == 2500
    for core, kilohertz in enumerate((1_000_000, 9_000_000, 3_000_000)):
        folder = tmp_path / f"cpu{core}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_cur_freq").write_text(f"{kilohertz}\n")
    assert cpu_clock() == 2000
