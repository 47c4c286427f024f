"""Seconds of named parts on any device, and how a series of figures is summed up."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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


def in_turn(ways: Mapping[str, Callable[[], Clock]], runs: int, seconds: float = math.inf) -> dict[str, list[Clock]]:
    """The clocks of each way, over ``runs`` runs of all ways in turn after one that warms up; over fewer, but one at
    least, where they take ``seconds``."""
    clocks: dict[str, list[Clock]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    start = time.perf_counter()
    for _ in range(runs):
        for name, way in ways.items():
            clocks[name].append(way())
        if time.perf_counter() - start >= seconds:
            break
    return clocks


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The power of the size that the cost grows with from the first of these to the last, all of them positive: their
    slope on logarithmic axes.  1 is in proportion, 0 not at all."""
    return math.log(costs[-1] / costs[0]) / math.log(sizes[-1] / sizes[0])
