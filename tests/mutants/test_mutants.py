"""The mutation tool on a module of one line: what it reports, that it resumes, and what it refuses."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mutants.population import Mutant, mutants_of
from mutants.report import EquivalentError, count, name_equivalents
from mutants.rooms import sample

ROOT = Path(__file__).parents[2]
SOURCE = "def add(a, b):\n    return a + b\n"
TEST = "from toy import add\n\n\ndef test_add():\n    assert add(2, 3) == 5\n"
ROOMS = """
copied = ["toy.py", "tests"]
preload = []
[[room]]
name = "toy"
files = ["toy.py"]
tests = ["tests/test_toy.py"]
"""

# two mutants without cosmic-ray: the test kills a - b and cannot notice b + a
BY_HAND = """
import sys
from mutants.__main__ import main
from mutants.population import Mutant

def mutants(file, source):
    for new in ("a - b", "b + a"):
        yield Mutant(file, 2, "by hand", "return a + b", f"return {new}", source.replace("a + b", new), new)

sys.exit(main(sys.argv[1:], mutants, lambda: "by hand"))
"""


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    (tmp_path / "tests/mutants").mkdir(parents=True)
    (tmp_path / "toy.py").write_text(SOURCE)
    (tmp_path / "tests/test_toy.py").write_text(TEST)
    (tmp_path / "tests/mutants/rooms.toml").write_text(ROOMS)
    (tmp_path / "tests/mutants/equivalent.toml").write_text("")
    return tmp_path


def python(folder: Path, code: str, *arguments: str) -> subprocess.CompletedProcess:
    path = os.pathsep.join((str(ROOT / "tests"), str(ROOT)))
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command, cwd=folder, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=120
    )


def outcomes(toy: Path) -> list[str]:
    """Each line of the session, whichever run wrote it."""
    return [json.loads(line)["key"] for line in (toy / "build/mutants/results.jsonl").read_text().splitlines()]


def test_a_killed_mutant_and_a_survivor_are_reported_as_such(toy: Path) -> None:
    done = python(toy, BY_HAND)
    assert done.returncode == 1, done.stderr  # half of the mutants are fewer than 90 %
    report = json.loads((toy / "benchmarks/results/mutants.json").read_text())
    assert [(row["after"], row["outcome"]) for row in report["mutants"]] == [
        ("return a - b", "killed"),
        ("return b + a", "survived"),
    ]
    (room,) = report["rooms"]
    assert (room["population"], room["killed"], room["survived"], room["score"]) == (2, 1, 1, 0.5)
    page = (toy / "docs/mutants.md").read_text()
    assert "| toy | 2 | 2 | 1 | 0 | 1 | 0 | 50.0% |" in page
    assert "- return a + b\n+ return b + a" in page
    assert "return a - b" not in page
    assert (toy / "toy.py").read_text() == SOURCE


def test_a_run_goes_on_where_the_last_one_ended(toy: Path) -> None:
    python(toy, BY_HAND)
    assert sorted(outcomes(toy)) == ["a - b", "b + a"]
    assert "0 of 2 mutants to run" in python(toy, BY_HAND).stdout
    session = toy / "build/mutants/results.jsonl"
    first, second = session.read_text().splitlines()
    session.write_text(f"{first}\n{second[:20]}")  # killed while it wrote
    assert "1 of 2 mutants to run" in python(toy, BY_HAND).stdout


def test_changed_tests_decide_anew_and_keep_believes_what_was_killed(toy: Path) -> None:
    python(toy, BY_HAND)
    (toy / "tests/test_toy.py").write_text(TEST + "    assert add('a', 'b') == 'ab'\n")
    kept = python(toy, BY_HAND, "--keep")
    assert kept.returncode == 0, kept.stdout + kept.stderr
    assert "1 of 2 mutants to run" in kept.stdout
    assert json.loads((toy / "benchmarks/results/mutants.json").read_text())["rooms"][0]["score"] == 1
    assert "1 of 2 mutants to run" in python(toy, BY_HAND).stdout  # the one that was only kept


@pytest.mark.parametrize(
    ("test", "words"),
    [
        (TEST.replace("5", "6"), "fail"),
        ("def test_nothing():\n    pass\n", "do not import every file"),
        ("", "fail"),
    ],
    ids=["failing", "importing nothing", "none"],
)
def test_tests_that_say_nothing_without_a_mutation_are_refused(toy: Path, test: str, words: str) -> None:
    (toy / "tests/test_toy.py").write_text(test)
    done = python(toy, BY_HAND)
    assert done.returncode == 1
    assert done.stderr.startswith("error: without a mutation the tests `")
    assert words in done.stderr
    assert not (toy / "build/mutants/results.jsonl").exists()
    assert not (toy / "benchmarks/results/mutants.json").exists()


def test_two_runs_never_share_their_copies(toy: Path) -> None:
    (toy / "build/mutants").mkdir(parents=True)
    with (toy / "build/mutants/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = python(toy, BY_HAND)
    assert done.returncode == 1
    assert "error: another run" in done.stderr
    assert not (toy / "build/mutants/results.jsonl").exists()


def test_endless_and_dying_mutants(toy: Path) -> None:
    code = """
from pathlib import Path
from mutants.population import Mutant
from mutants.running import copy, preload, run

preload(Path.cwd(), [])
bodies = {"endless": "while True: pass", "dying": "__import__('os').kill(__import__('os').getpid(), 11)"}
mutants = [Mutant("toy.py", 2, "", "", "", f"def add(a, b):\\n    {body}\\n", name) for name, body in bodies.items()]
trees = [copy(Path.cwd(), ["toy.py", "tests"], Path.cwd() / f"tree-{i}") for i in range(2)]
for mutant, outcome, _ in run(mutants, trees, lambda tree, mutant: ["tests/test_toy.py"], limit=4):
    print(mutant.key, outcome)
print([(tree / "toy.py").read_text() == Path("toy.py").read_text() for tree in trees])
"""
    done = python(toy, code)
    assert done.stdout.splitlines() == ["dying killed", "endless timed out", "[True, True]"], done.stderr


def test_slow_tests_run_last(toy: Path) -> None:
    slow = "def test_slow():\n    time.sleep(0.7)\n    open('slow', 'a').write('x')\n"
    (toy / "tests/test_toy.py").write_text("import time\n" + TEST.replace("\n\n\ndef", f"\n\n\n{slow}\n\ndef"))
    python(toy, BY_HAND)
    # in the baseline and for the survivor; the other mutant was killed before
    assert (toy / "build/mutants/tree-0/slow").read_text() == "xx"


def test_a_wrong_equivalent_is_refused_before_anything_runs(toy: Path) -> None:
    entry = '[[equivalent]]\nfile = "toy.py"\nbefore = "return a + b"\nafter = "return a * b"\nreason = "none"\n'
    (toy / "tests/mutants/equivalent.toml").write_text(entry)
    done = python(toy, BY_HAND)
    assert done.returncode == 1
    assert "`return a + b` -> `return a * b` fits no mutant" in done.stderr
    assert not (toy / "build/mutants/results.jsonl").exists()


def mutant(number: int, line: int = 1) -> Mutant:
    return Mutant("a.py", line, "by hand", "x", f"x + {number}", "", str(number))


ENTRY = {"file": "a.py", "before": "x", "after": "x + 7", "reason": "x is never read"}


def test_equivalents_are_matched_by_their_text_on_whatever_line() -> None:
    population = [mutant(number, line=100 + number) for number in range(20)]
    assert name_equivalents([ENTRY], population, {"7": "survived", "8": "killed"}) == {"7": "x is never read"}


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([{**ENTRY, "after": "x - 7"}], "fits no mutant"),
        ([{**ENTRY, "file": "b.py"}], "fits no mutant"),
        ([{**ENTRY, "reason": " "}], "gives no reason"),
        ([{**ENTRY, "after": "x + 8"}], "was killed"),
        ([{**ENTRY, "after": "x + 9"}], "was killed"),
        ([ENTRY, {**ENTRY, "after": "x + 1"}], "2 of 20 mutants are called equivalent: at most 5 %"),
    ],
)
def test_wrong_equivalents(entries: list[dict[str, str]], words: str) -> None:
    with pytest.raises(EquivalentError, match=words):
        name_equivalents(entries, [mutant(n) for n in range(20)], {"7": "survived", "8": "killed", "9": "timed out"})


def test_the_score_leaves_equivalents_out_and_counts_timeouts_as_noticed() -> None:
    found = count(["killed"] * 6 + ["timed out"] + ["survived"] * 3 + ["equivalent"] * 2)
    assert (found["tested"], found["score"]) == (12, 0.7)
    assert count([])["score"] is None


def test_a_sample_is_spread_in_proportion_and_grows() -> None:
    populations = {"a": [mutant(n) for n in range(600)], "b": [mutant(n) for n in range(300)], "c": [mutant(0)] * 100}
    drawn = sample(populations, 200, seed=1)
    assert {name: len(chosen) for name, chosen in drawn.items()} == {"a": 120, "b": 60, "c": 20}
    assert drawn["a"] == sample(populations, 400, seed=1)["a"][:120]
    assert drawn["a"] != sample(populations, 200, seed=2)["a"]
    assert [len(chosen) for chosen in sample(populations, 10, seed=1).values()] == [15, 15, 15]
    assert [len(chosen) for chosen in sample(populations, None, seed=1).values()] == [600, 300, 100]


def test_what_is_mutated_and_what_is_not() -> None:
    pytest.importorskip("cosmic_ray", reason="`make mutants` installs it")
    source = '''"""1 + 1"""
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    SIZE = 1
Either: TypeAlias = int | None

@cache
def f(a: int | None, *, n: int = 2) -> int | None:
    return a - n
'''
    found = {(mutant.line, mutant.after) for mutant in mutants_of("f.py", source)}
    assert found == {
        (10, "def f(a: int | None, *, n: int = 3) -> int | None:"),
        (10, "def f(a: int | None, *, n: int = 1) -> int | None:"),
        *((11, f"return a {operator} n") for operator in ("+", "*", "/", "//", "%", "**")),
    }


def test_a_comparison_is_replaced_by_the_others_and_not_by_identity() -> None:
    pytest.importorskip("cosmic_ray", reason="`make mutants` installs it")
    found = {mutant.after for mutant in mutants_of("f.py", "f = lambda x, y: x > y\n")}
    assert found == {f"f = lambda x, y: x {operator} y" for operator in ("<", "<=", ">=", "==", "!=")}
