"""Seconds of named parts on any device, and how a series of figures is summed up."""

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

Clock = dict[str, float]


def now(device: torch.device) -> float:
    """Seconds, once the device has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@contextmanager
def timed(clock: Clock, part: str, device: torch.device) -> Iterator[None]:
    """Add the seconds that the body takes, the device's work included."""
    start = now(device)
    yield
    clock[part] = clock.get(part, 0.0) + now(device) - start


def spread(values: Sequence[float], digits: int = 3) -> dict[str, float]:
    """Lowest, median and highest."""
    numbers = {"min": min(values), "median": statistics.median(values), "max": max(values)}
    return {name: round(number, digits) for name, number in numbers.items()}
