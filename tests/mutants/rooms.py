"""The rooms that are mutated, and the session: which mutants, in which order, with which outcome so far."""

import hashlib
import json
import random
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mutants.population import Mutant
from mutants.running import SURVIVED

LEAST = 15  # mutants of a room in a sample, or all where it has fewer


@dataclass(frozen=True)
class Room:
    """One table of rooms.toml.

    Attributes:
        name: what the report calls it.
        files: the files that are mutated, from the root of the repository.
        tests: folders and files of its tests.
        options: further arguments of pytest.
    """

    name: str
    files: tuple[str, ...]
    tests: tuple[str, ...]
    options: tuple[str, ...]

    def arguments(self, tree: Path, mutant: Mutant | None = None) -> list[str]:
        """pytest's arguments; the tests named after the mutated file come first."""
        first = [] if mutant is None else self._named_after(tree, Path(mutant.file).stem)
        return ["--hypothesis-profile=ci"] * _has_hypothesis() + [*self.options, *first, *self.tests]

    def _named_after(self, tree: Path, stem: str) -> list[str]:
        folders = [tree / test for test in self.tests if (tree / test).is_dir()]
        found = sorted(path for folder in folders for path in folder.rglob(f"test_*{stem}*.py"))
        return [str(path.relative_to(tree)) for path in found]


def _has_hypothesis() -> bool:
    from importlib.util import find_spec

    return find_spec("hypothesis") is not None


def read_rooms(root: Path, config: Mapping[str, Any]) -> list[Room]:
    """The rooms of a parsed rooms.toml."""
    rooms = []
    for table in config["room"]:
        files = sorted({path.relative_to(root).as_posix() for pattern in table["files"] for path in root.glob(pattern)})
        files = [file for file in files if file not in table.get("without", ())]
        rooms.append(Room(table["name"], tuple(files), tuple(table["tests"]), tuple(table.get("options", ()))))
    return rooms


def sample(populations: Mapping[str, Sequence[Mutant]], size: int | None, seed: int) -> dict[str, list[Mutant]]:
    """``size`` mutants, room by room in proportion to its number, at least ``LEAST`` of each; None: all of them.

    A larger sample of the same seed holds the smaller one.
    """
    whole = sum(map(len, populations.values()))
    chosen = {}
    for name, population in populations.items():
        order = random.Random(f"{seed} {name}").sample(population, len(population))
        share = len(order) if size is None else max(LEAST, -(-size * len(order) // whole))
        chosen[name] = order[:share]
    return chosen


class Session:
    """The outcomes so far, a line each, appended as they come: a run that is cut off goes on where it was.

    An outcome holds for one mutant and one state of the code and its room's tests (``states``, by the room's name).
    ``keep``: what was killed stays killed in another state, which is right as long as tests were only added.
    """

    def __init__(self, path: Path, states: Mapping[str, str], keep: bool) -> None:
        self._path, self._states, self._began = path, states, time.time()
        self._runs: dict[float, float] = {}  # when each run began, and the seconds until its last outcome
        self.outcomes: dict[str, tuple[str, float]] = {}
        kept = set()
        for row in self._rows():
            same = row["state"] in states.values()
            if same or (keep and row["outcome"] != SURVIVED):
                self.outcomes[row["key"]] = (row["outcome"], row["seconds"])
                self._runs[row["began"]] = max(row["after"], self._runs.get(row["began"], 0))
                (kept.discard if same else kept.add)(row["key"])
        self.kept = len(kept)

    def add(self, room: Room, mutant: Mutant, outcome: str, seconds: float) -> None:
        """Note one outcome."""
        after = round(time.time() - self._began, 1)
        state = self._states[room.name]
        row = {"key": mutant.key, "state": state, "outcome": outcome, "seconds": round(seconds, 2)}
        row |= {"began": self._began, "after": after}
        self._runs[self._began] = after
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        self.outcomes[mutant.key] = (outcome, seconds)

    @property
    def wall(self) -> float:
        """Seconds that the runs took, from the start of each to its last outcome."""
        return sum(self._runs.values())

    def _rows(self) -> Iterator[dict[str, Any]]:
        for line in self._path.read_text().splitlines() if self._path.exists() else ():
            try:
                yield json.loads(line)
            except ValueError:  # the last line of a run that was killed while it wrote
                continue


def state_of(tree: Path, room: Room) -> str:
    """The digest of all code in a copy of the repository, of one room's tests and of what all tests share."""
    digest = hashlib.sha256(room.name.encode())
    for path in sorted(tree.rglob("*.py")):
        name = path.relative_to(tree)
        test = name.parts[0] == "tests"
        shared = test and (name.parts[1] in (name.name, "parity") or name.name == "conftest.py")
        if not test or shared or any(name.is_relative_to(own) for own in room.tests):
            digest.update(f"{name}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def read_equivalents(path: Path) -> list[dict[str, str]]:
    """The entries of equivalent.toml: file, before, after, reason."""
    return list(tomllib.loads(path.read_text()).get("equivalent", []))
