"""`make mutants`: changes one thing at a time in the numerics and counts the changes that no test notices.

PYTHONPATH=tests python -m mutants [--sample N] [--room NAME]... [--processes N] [--keep]
"""

import argparse
import fcntl
import sys
import tomllib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from mutants import population
from mutants.population import RULES, Mutant
from mutants.report import EQUIVALENT, GOAL, EquivalentError, count, name_equivalents, page, write
from mutants.rooms import Room, Session, read_equivalents, read_rooms, sample, state_of
from mutants.running import SURVIVED, BaselineError, baseline, copy, preload, run

HERE = Path("tests/mutants")


def main(
    words: Sequence[str],
    mutants_of: Callable[[str, str], Iterable[Mutant]] = population.mutants_of,
    tool: Callable[[], str] = population.tool,
) -> int:
    """Run what is left of a session and write its report; 0 where every room reaches the goal."""
    options = _parse(words)
    root = Path.cwd()
    config = tomllib.loads((root / HERE / "rooms.toml").read_text())
    every = read_rooms(root, config)
    rooms = [room for room in every if not options.room or room.name in options.room]
    if unknown := set(options.room) - {room.name for room in every}:
        sys.exit(f"no room is called {', '.join(unknown)}: there are {', '.join(room.name for room in every)}")
    preload(root, config["preload"])

    work = root / "build" / "mutants"
    work.mkdir(parents=True, exist_ok=True)
    lock = (work / "lock").open("w")
    try:
        fcntl.flock(
            lock, fcntl.LOCK_EX | fcntl.LOCK_NB
        )  # the forks hold it too: a run that was killed may still end some
    except BlockingIOError:
        sys.exit(f"error: another run, or a mutant of one that was killed, still works in {work}: wait for its end")
    trees = [copy(root, config["copied"], work / f"tree-{i}") for i in range(options.processes)]
    session = Session(work / "results.jsonl", {room.name: state_of(trees[0], room) for room in rooms}, options.keep)
    populations = {
        room.name: [m for f in room.files for m in mutants_of(f, (trees[0] / f).read_text())] for room in rooms
    }
    print(f"{sum(map(len, populations.values()))} mutants, {len(session.outcomes)} decided before", flush=True)
    chosen = sample(populations, options.sample, options.seed)
    everything = [mutant for population in populations.values() for mutant in population]
    files = {file for room in rooms for file in room.files}
    entries = [entry for entry in read_equivalents(root / HERE / "equivalent.toml") if entry["file"] in files]
    try:
        name_equivalents(entries, everything, {})  # a wrong entry is better known before the tests run
        baselines = {room.name: _run_room(room, chosen[room.name], trees, session) for room in rooms}
        outcomes = {key: outcome for key, (outcome, _) in session.outcomes.items()}
        reasons = name_equivalents(entries, everything, outcomes)
    except (BaselineError, EquivalentError) as error:
        sys.exit(f"error: {error}")
    rows = [_row(room, mutant, session, reasons) for room in rooms for mutant in _in_order(chosen[room.name])]
    figures = [
        {
            "name": room.name,
            "files": room.files,
            "tests": [*room.tests, *room.options],
            "population": len(populations[room.name]),
            **count([row["outcome"] for row in rows if row["room"] == room.name]),
            "baseline_seconds": round(baselines[room.name], 1),
        }
        for room in rooms
    ]
    sys.path.insert(0, str(root))
    from cascadezoo.environment import environment  # only now: the forks had to import their own

    report = {
        "tool": tool(),
        "sample": {"size": options.sample and len(rows), "seed": options.seed},
        "processes": options.processes,
        "wall_seconds": round(session.wall),
        "outcomes_kept_of_earlier_code_or_tests": session.kept,
        "left_out": RULES,
        "rooms": figures,
        "environment": environment(),
    }
    _write(root if len(rooms) == len(every) else work, report, rows)
    poor = [room for room in figures if room["score"] is not None and room["score"] < GOAL]
    for room in figures:
        print(
            f"{room['name']}: {room['tested'] - room['survived'] - room['equivalent']} of {room['tested']} noticed, "
            f"{room['equivalent']} equivalent, {room['survived']} survived, score {room['score']}"
        )
    return int(bool(poor))


def _run_room(room: Room, chosen: Sequence[Mutant], trees: Sequence[Path], session: Session) -> float:
    """Run the chosen mutants that have no outcome yet; the seconds that the tests take without a mutation."""
    seconds = max(baseline(tree, room.files, room.arguments(tree)) for tree in trees)
    waiting = [mutant for mutant in chosen if mutant.key not in session.outcomes]
    print(f"{room.name}: tests pass in {seconds:.0f} s; {len(waiting)} of {len(chosen)} mutants to run", flush=True)
    outcomes = run(waiting, trees, lambda tree, mutant: room.arguments(tree, mutant), limit=max(20, 5 * seconds))
    for i, (mutant, outcome, took) in enumerate(outcomes, 1):
        session.add(room, mutant, outcome, took)
        if outcome == SURVIVED:
            print(
                f"[{i}/{len(waiting)}] {mutant.file}:{mutant.line} {mutant.operator} survived ({took:.0f} s)\n"
                f"  - {mutant.before}\n  + {mutant.after}",
                flush=True,
            )
        elif i % 50 == 0:
            print(f"[{i}/{len(waiting)}]", flush=True)
    return seconds


def _in_order(mutants: Iterable[Mutant]) -> list[Mutant]:
    return sorted(mutants, key=lambda mutant: (mutant.file, mutant.line, mutant.operator, mutant.after))


def _row(room: Room, mutant: Mutant, session: Session, reasons: dict[str, str]) -> dict[str, Any]:
    outcome, seconds = session.outcomes[mutant.key]
    row = {
        "room": room.name,
        "file": mutant.file,
        "line": mutant.line,
        "operator": mutant.operator,
        "before": mutant.before,
        "after": mutant.after,
        "outcome": EQUIVALENT if mutant.key in reasons else outcome,
        "seconds": round(seconds, 1),
    }
    return row | ({"reason": reasons[mutant.key]} if mutant.key in reasons else {})


def _write(target: Path, report: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """The report of all rooms goes into benchmarks/results and docs, that of some rooms into build/mutants."""
    json_path, page_path = target / "benchmarks/results/mutants.json", target / "docs/mutants.md"
    for path in (json_path, page_path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write(json_path, report, rows)
    page_path.write_text(page(report, rows))
    print(f"written: {json_path} and {page_path}")


def _parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=_size, default=None, help="so many mutants, or all (the default)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--room", action="append", default=[], help="only this room of rooms.toml; may be repeated")
    parser.add_argument("--processes", type=int, default=1, help="mutants at a time, each in a copy of its own")
    parser.add_argument("--keep", action="store_true", help="what was killed stays killed though other files changed")
    return parser.parse_args(words)


def _size(word: str) -> int | None:
    return None if word == "all" else int(word)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
