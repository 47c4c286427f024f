"""Whole networks in turn: how long each takes, and whether it finds what ours finds."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from cascadezoo.benchmarks.measure.peers import mmdetection, runtimes
from cascadezoo.benchmarks.measure.peers.contender import CPU, Contender, Made, Setting, made
from cascadezoo.benchmarks.measure.peers.ours import OURS, torchvision
from cascadezoo.benchmarks.measure.ways import SPANS, compared, row
from cascadezoo.benchmarks.verify.timing import spread
from cascadezoo.optimizing.difference import Difference, difference

CONTENDERS: dict[str, Contender[Made]] = {
    **OURS,
    "torchvision": Contender(torchvision),
    "mmdetection": mmdetection.CONTENDER,
    **runtimes.CONTENDERS,
}


def agrees(found: Difference) -> bool:
    """Whether two sets of detections are those of one network; bounds of the recorded cases (tests/parity)."""
    paired = found.paired >= 0.97 * max(found.before, found.after)
    close = found.score_p95 <= 1e-3 and found.box_p95 <= 0.1
    return found.before > 0 and paired and close and (found.mask_iou is None or found.mask_iou >= 0.995)


def measure(contenders: Mapping[str, Contender[Made]], setting: Setting, runs: int) -> dict[str, Any]:
    """Milliseconds of ``runs`` runs of each contender, all in turn, after one that warms up.

    A row also says how its detections differ from those of ``plain``, and whether they agree.
    """
    ready, versions, missing = made(contenders, setting)
    found = {name: each.found() for name, each in ready.items() if each.found is not None}
    ways = [each.way._replace(name=name) for name, each in ready.items()]
    compared(ways, CPU, 1)
    times = dict(zip(ready, compared(ways, CPU, runs), strict=True))
    rows = []
    for way in ways:
        one = {**row(way, times[way.name]), "versions": versions[way.name], "agrees": None}
        if way.name in found:
            apart = difference([found["plain"]], [found[way.name]])
            one |= {"detections": len(found[way.name]), "difference": asdict(apart), "agrees": agrees(apart)}
        rows.append(one)
    return {"runs": runs, "rows": rows, "missing": missing, "times_faster": times_faster(times, list(OURS))}


def times_faster(
    times: Mapping[str, Mapping[str, Sequence[float]]], ours: Sequence[str]
) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """How many times faster each way of ours is than each other one, turn by turn: by ours, other and span."""
    return {
        own: {
            other: {span: spread([b / a for a, b in zip(times[own][span], taken[span], strict=True)]) for span in SPANS}
            for other, taken in times.items()
            if other not in ours or other == "plain" != own
        }
        for own in ours
        if own in times
    }
