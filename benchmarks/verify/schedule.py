"""Which entry comes next, which is tried again, and when all will be done: pure arithmetic, whatever engine runs it."""

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

RETRIES = 2  # of an entry whose process is lost

Left: TypeAlias = Callable[[float | None], None]  # called with the seconds that are left; None where nothing tells


@dataclass
class Retries:
    """How often the work on each entry was lost, and why.

    Attributes:
        most: so many times it is tried again.
        lost: the reasons, by entry.
    """

    most: int = RETRIES
    lost: dict[str, list[str]] = field(default_factory=dict)

    def again(self, name: str, reason: str) -> bool:
        """Note one more loss; whether the work is to be tried again."""
        self.lost.setdefault(name, []).append(reason)
        return len(self.lost[name]) <= self.most

    def count(self, name: str) -> tuple[int, int]:
        """Which try this is of how many after the first."""
        return len(self.lost.get(name, [])), self.most

    def told(self, name: str) -> str:
        """The losses of an entry as a phrase; empty where there were none."""
        reasons = self.lost.get(name, [])
        times = "once" if len(reasons) == 1 else f"{len(reasons)} times"
        return f"lost {times}: {'; '.join(dict.fromkeys(reasons))}" if reasons else ""


class Schedule:
    """The entries of a run: the longest first, so that no long one is left for the end.

    ``of``: what each costs, in any unit; ``pace``: seconds per unit, which is learned from the run itself as soon as
    entries are done.  Times are seconds of any clock.
    """

    def __init__(self, of: Mapping[str, float], pace: float | None = None) -> None:
        self._of, self._given = dict(of), pace
        self._order = {name: number for number, name in enumerate(sorted(of, key=lambda name: -of[name]))}
        self._waiting = set(of)
        self._running: dict[str, float] = {}
        self._next: list[str] = []  # handed out ahead: each begins where one ends
        self._seconds = self._cost = 0.0

    @property
    def is_done(self) -> bool:
        """Whether nothing waits or runs."""
        return not (self._waiting or self._taken)

    @property
    def _taken(self) -> int:
        return len(self._running) + len(self._next)

    def take(self, now: float, slots: int, ahead: int = 0) -> str | None:
        """The longest of those that wait; None where none does, or all the slots have one, and so many ones ahead."""
        if self._taken >= slots + ahead or not self._waiting:
            return None
        name = min(self._waiting, key=self._order.__getitem__)
        self._waiting.remove(name)
        if len(self._running) < slots:
            self._running[name] = now
        else:
            self._next.append(name)
        return name

    def start(self, name: str, now: float) -> None:
        """This one runs from now on."""
        self._waiting.remove(name)
        self._running[name] = now

    def give_back(self, name: str, now: float) -> None:
        """It waits again: what it did is lost."""
        self._end(name, now)
        self._waiting.add(name)

    def finish(self, name: str, now: float, *, measured: bool = True) -> None:
        """It is done; unless it was ``measured`` its time tells nothing of the others'."""
        since = self._end(name, now)
        if measured and since is not None:
            self._seconds += now - since
            self._cost += self._of[name]

    def _end(self, name: str, now: float) -> float | None:
        """Since when it ran, where that is known; the first of those ahead takes its place."""
        if name in self._next:  # the engine took it before another
            self._next.remove(name)
            return None
        since = self._running.pop(name)
        if self._next:
            self._running[self._next.pop(0)] = now
        return since

    def left(self, now: float, slots: int = 1) -> float | None:
        """Seconds until all are done with so many at a time; None where nothing tells."""
        if self.is_done:
            return 0.0
        pace = self._seconds / self._cost if self._cost and self._seconds else self._given
        if pace is None:
            return None
        running = [max(0.0, self._of[name] * pace - (now - since)) for name, since in self._running.items()]
        waiting = [*self._next, *sorted(self._waiting, key=self._order.__getitem__)]
        return makespan(running, (self._of[name] * pace for name in waiting), max(slots, 1))


def makespan(running: Iterable[float], waiting: Iterable[float], slots: int) -> float:
    """Seconds until all are done, each waiting one taken in turn by the slot that is free first."""
    ends = sorted(running)
    free = [*ends, *[0.0] * (slots - len(ends))]
    heapq.heapify(free)
    last = max(ends, default=0.0)
    for seconds in waiting:
        end = heapq.heappop(free) + seconds
        last = max(last, end)
        heapq.heappush(free, end)
    return last
