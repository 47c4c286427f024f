"""The race cases reach every line and branch of the kernels, each launch with few threads."""

import json

import pytest

from cuda_emulation import reached
from cuda_emulation.building import needs_compiler
from cuda_emulation.reached import CSRC, MOST_THREADS, RACES, REPORT, Place

emulated = pytest.mark.emulated


def fail_where_missed(found: reached.Reached) -> None:
    missed = "\n".join(map(str, found.missed()))
    assert not missed, f"tests/cuda_emulation/races/*.cpp reach neither all lines nor all branches:\n{missed}"


@needs_compiler
@emulated
@pytest.mark.parametrize("stem", reached.kernels())
def test_a_kernels_race_case_reaches_all_of_it(stem: str) -> None:
    assert (RACES / f"{stem}.cpp").exists(), f"csrc/cuda/{stem}.cu has no race case: write races/{stem}.cpp"
    found, threads = reached.run(stem)
    own = found.of([f"cuda/{stem}.cu"])
    assert own.lines
    fail_where_missed(own)
    assert max(threads) <= MOST_THREADS, f"races/{stem}.cpp has a launch of {max(threads)} threads"
    row = next(row for row in json.loads(REPORT.read_text())["kernels"] if row["kernel"] == stem)
    assert (row["launches"], row["threads"]) == (len(threads), sum(threads)), "run `make cuda-coverage`"


@needs_compiler
@emulated
def test_all_race_cases_together_reach_all_of_the_headers() -> None:
    found = reached.headers()
    assert {place.file for place in found.lines} >= {"cuda/launch.h", "cuda/sort.h", "nms.h", "roi_align.h"}
    fail_where_missed(found)


def test_the_committed_report_has_every_kernel_and_misses_nothing() -> None:
    rows = json.loads(REPORT.read_text())["kernels"]
    assert [row["kernel"] for row in rows[:-1]] == reached.kernels(), "run `make cuda-coverage`"
    for row in rows:
        assert row["not_reached"] == []
        assert row.get("most_threads_of_a_launch", 0) <= MOST_THREADS
        assert (row["lines_reached"], row["branches_reached"]) == (row["lines"], row["branches"])


def line(number: int, count: int, *ways: int) -> dict:
    return {"line_number": number, "count": count, "branches": [{"count": way, "throw": False} for way in ways]}


def test_what_gcov_says_is_added_up_over_the_instances_of_a_template() -> None:
    """Line 2 is reached by the second instance; of line 3 each goes one way; line 4 never goes the other."""
    one, other = [line(2, 0), line(3, 1, 1, 0), line(4, 1, 1, 0)], [line(2, 1), line(3, 1, 0, 1), line(4, 2, 2, 0)]
    library = {"file": "/usr/include/vector", "lines": [line(9, 0)]}
    found = reached.read({"files": [{"file": str(CSRC / "cuda/nms.cu"), "lines": one + other}, library]})
    assert found.missed() == [Place("cuda/nms.cu", 4)]
    assert {place.line: count for place, count in found.lines.items()} == {2: 1, 3: 2, 4: 3}
    assert found.ways[Place("cuda/nms.cu", 4)] == [[3, 0]]


def test_lines_that_never_ran_are_missed_and_named_with_their_text(tmp_path, monkeypatch) -> None:
    (tmp_path / "own.h").write_text("one();\n  two();\n")
    monkeypatch.setattr(reached, "CSRC", tmp_path)
    found = reached.read({"files": [{"file": str(tmp_path / "own.h"), "lines": [line(1, 0), line(2, 0)]}]})
    assert list(map(str, found.missed())) == ["csrc/own.h:1: one();", "csrc/own.h:2: two();"]
    assert found.row()["not_reached"] == ["csrc/own.h:1: one();", "csrc/own.h:2: two();"]
    assert found.of(["other.h"]).missed() == []
    with pytest.raises(AssertionError, match=r"nor all branches:\n.*own.h:1: one"):
        fail_where_missed(found)


def test_of_several_kernels_one_is_enough_for_a_header() -> None:
    parts = [
        reached.read({"files": [{"file": str(CSRC / "nms.h"), "lines": [line(5, n, *ways)]}]})
        for n, ways in [(0, (0, 0)), (2, (0, 2)), (3, (3, 0)), (1, (1, 0, 0))]
    ]
    assert reached.added(parts[:3]).missed() == []
    assert reached.added(parts[:2]).missed() == [Place("nms.h", 5)]
    assert reached.added(parts).missed() == [Place("nms.h", 5)]  # other ways, which the first ones say nothing of
    assert reached.added(parts).row()["branches_reached"] == 3
