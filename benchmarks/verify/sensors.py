"""Clocks, power and temperature while something is measured, as far as the driver and the system tell.

Of a GPU one ``nvidia-smi`` looks twice a second until it is stopped, so that no process is started in between; of the
CPU a thread reads the clocks of a few cores once a second.  What is not told is None.
"""

import os
import re
import statistics
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from cascadezoo.benchmarks.reports.schema import Course, Sensors

_QUERY = {  # what the driver is asked, and the field of Sensors that it answers
    "clocks.sm": "gpu_clock_mhz",
    "clocks.mem": "gpu_memory_clock_mhz",
    "power.draw": "power_w",
    "temperature.gpu": "temperature_c",
}
_EVERY_MS = 500  # between two looks at the GPU
_EVERY = 1.0  # seconds between two looks at the CPU
_FIRST = 5.0  # seconds that the first look may take
_CORES = 8  # looked at: on machines with hundreds, looking at all would disturb
_CPUFREQ = Path("/sys/devices/system/cpu")
_CPUINFO = Path("/proc/cpuinfo")

Reading = tuple[float | None, ...]  # one number for each quantity of a source


class Watch:
    """What was read so far."""

    def __init__(self) -> None:
        self.gpu: list[Reading] = []
        self.cpu: list[Reading] = []

    def sensors(self) -> Sensors | None:
        """A summary; None where nothing was told."""
        told = {name: course for place, name in enumerate(_QUERY.values()) if (course := _course(self.gpu, place))}
        if (cpu := _course(self.cpu, 0)) is not None:
            told["cpu_clock_mhz"] = cpu
        return Sensors(**told) if told else None


@contextmanager
def watched(device: torch.device) -> Iterator[Watch]:
    """Look at ``device`` and the CPU until the body ends; what was read is then in the watch."""
    with watching(_gpu(device)) as watch:
        yield watch


@contextmanager
def watching(gpu: str | None) -> Iterator[Watch]:
    """The same of a GPU as ``nvidia-smi -i`` names it; None for the CPU alone."""
    watch = Watch()
    with _gpu_watched(gpu, watch.gpu), _cpu_watched(watch.cpu):
        yield watch


def _gpu(device: torch.device) -> str | None:
    if device.type != "cuda":
        return None
    return f"GPU-{torch.cuda.get_device_properties(device).uuid}"


@contextmanager
def _gpu_watched(gpu: str | None, readings: list[Reading]) -> Iterator[None]:
    process = _started(gpu)
    if process is None:
        yield
        return
    first = threading.Event()

    def read() -> None:
        for line in process.stdout or ():
            readings.append(_numbers(line))
            first.set()
        first.set()  # it ended by itself

    thread = threading.Thread(target=read, name="sensors of the GPU", daemon=True)
    thread.start()
    try:
        first.wait(_FIRST)
        yield
    finally:
        process.kill()
        process.wait()
        thread.join()


def _started(gpu: str | None) -> "subprocess.Popen[str] | None":
    if gpu is None:
        return None
    command = [
        "nvidia-smi", "-i", gpu, f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader,nounits",
        "-lms", str(_EVERY_MS),
    ]  # fmt: skip
    try:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except OSError:  # torch sees the GPU, the tool is not there
        return None


def _numbers(line: str) -> Reading:
    """The numbers of a line of CSV; None where the driver says [N/A] or something else that is no number."""
    numbers: list[float | None] = []
    for cell in line.split(","):
        try:
            numbers.append(float(cell))
        except ValueError:
            numbers.append(None)
    return (*numbers, *[None] * len(_QUERY))[: len(_QUERY)]


@contextmanager
def _cpu_watched(readings: list[Reading]) -> Iterator[None]:
    ended = threading.Event()

    def read() -> None:
        while not ended.wait(_EVERY):
            readings.append((cpu_clock(),))

    readings.append((cpu_clock(),))
    thread = threading.Thread(target=read, name="sensors of the CPU", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        readings.append((cpu_clock(),))


def cpu_clock() -> float | None:
    """The mean clock of a few cores that this process may use, MHz; None where the system does not tell."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    kilohertz = []
    for core in list(cores)[:_CORES]:
        with suppress(OSError, ValueError):
            kilohertz.append(int((_CPUFREQ / f"cpu{core}" / "cpufreq" / "scaling_cur_freq").read_text()))
    if kilohertz:
        return statistics.mean(kilohertz) / 1000
    with suppress(OSError):
        found = re.findall(r"^cpu MHz\s*:\s*([\d.]+)", _CPUINFO.read_text(), re.MULTILINE)
        return statistics.mean(map(float, found)) if found else None
    return None


def _course(readings: Sequence[Reading], place: int) -> Course | None:
    values = [value for reading in list(readings) if (value := reading[place]) is not None]
    if not values:
        return None
    numbers = {
        "start": values[0], "end": values[-1], "mean": statistics.mean(values), "min": min(values), "max": max(values)
    }  # fmt: skip
    return Course(**{name: round(number, 1) for name, number in numbers.items()}, looks=len(values))
