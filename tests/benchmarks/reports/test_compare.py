"""What moved between two reports, and the joining of parts."""

import pytest
from sample_report import MACHINE, accuracy, sample, speed

from cascadezoo.benchmarks.reports.compare import Move, compare, merge
from cascadezoo.benchmarks.reports.schema import EntryReport, GivenWeights, Report, Settings
from cascadezoo.benchmarks.reports.verdict import Verdict
from cascadezoo.errors import UsageError

ONE, TWO = "cascade_mask_r50_fpn_1x.mmdet", "cascade_mask_r50_fpn_3x.mmdet"


def changed(entry: int, **update) -> Report:
    entries = list(sample().entries)
    entries[entry] = entries[entry].model_copy(update=update)
    return sample().model_copy(update={"entries": tuple(entries)})


def test_the_same_report_has_not_moved() -> None:
    assert compare(sample(), sample()) == []


def test_a_moved_figure_is_shown() -> None:
    moves = compare(sample(), changed(1, accuracy=(accuracy(40.0, 35.95),)))
    assert [(m.entry, m.part, m.what, m.before, m.after, m.kind) for m in moves] == [
        (TWO, "plain", "verdict", "PASS", "FAIL", "verdict"),
        (TWO, "plain", "bbox AP", "41.250", "40.000", "figure"),
    ]
    assert compare(sample(), changed(1, accuracy=(accuracy(41.2501, 35.95),))) == []


def test_a_moved_speed_is_shown_on_the_same_device_only() -> None:
    slower = changed(1, speed=speed(10.0))
    (move,) = compare(sample(), slower)
    assert (move.what, move.before, move.after) == ("fps at batch 1", "12.50", "10.00")
    assert compare(sample(), changed(1, speed=speed(12.6))) == []
    elsewhere = slower.model_copy(update={"machines": (MACHINE.model_copy(update={"device": "H100"}),)})
    assert [move.what for move in compare(sample(), elsewhere)] == ["device"]


def test_entries_and_evaluations_that_come_or_go_are_shown() -> None:
    without = sample().model_copy(update={"entries": sample().entries[:1]})
    assert compare(sample(), without) == [
        Move(entry=TWO, part="", what="entry", before="PASS", after=None, kind="presence")
    ]
    (move,) = compare(sample(), changed(0, accuracy=sample().entries[0].accuracy[:1]))
    assert (move.part, move.before, move.after) == ("test-time augmentation, later figures", "SKIPPED", None)


def test_changed_settings_are_shown() -> None:
    other = sample().model_copy(update={"settings": Settings(precision="fp16"), "commit": "e" * 40})
    assert {(m.what, m.before, m.after) for m in compare(sample(), other)} == {
        ("commit", "d" * 40, "e" * 40),
        ("precision", "fp32", "fp16"),
        ("tolerance", "0.2", None),
    }


def test_V2_weights_that_were_given_are_shown() -> None:
    given = changed(1, given=GivenWeights(name="my.pth", sha256="7" * 64))
    (move,) = compare(sample(), given)
    assert (move.entry, move.what, move.before, move.after) == (
        TWO, "weights", "the published ones", f"given: my.pth, sha256 {'7' * 64}",
    )  # fmt: skip
    assert compare(given, given) == []


def test_V9_settings_are_shown_in_words() -> None:
    other = sample().settings.model_copy(update={"shard": (3, 8), "tta": True, "tolerance": None})
    moves = compare(sample(), sample().model_copy(update={"settings": other}))
    assert {(m.what, m.before, m.after) for m in moves} == {
        ("shard", None, "3/8"),
        ("tta", "no", "yes"),
        ("tolerance", "0.2", None),
    }


def part(index: int, count: int, *entries: EntryReport, **update) -> Report:
    settings = sample().settings.model_copy(update={"shard": (index, count)})
    return sample().model_copy(update={"settings": settings, "entries": entries, **update})


def test_parts_join_in_the_order_of_the_manifest() -> None:
    one, two = sample().entries
    merged = merge([part(2, 2, two), part(1, 2, one)])
    assert merged.settings == sample().settings
    assert merged.entries == sample().entries
    assert merged.machines == sample().machines
    assert merged.timing.seconds == 24


def test_entries_that_are_gone_by_now_come_last() -> None:
    old = sample().entries[0].model_copy(update={"name": "an_old_one.mmdet"})
    assert [entry.name for entry in merge([part(1, 2, old), part(2, 2, sample().entries[1])]).entries] == [
        TWO,
        old.name,
    ]


def test_machines_are_kept_apart() -> None:
    one, two = sample().entries
    other = MACHINE.model_copy(update={"device": "H100"})
    merged = merge([part(1, 2, one), part(2, 2, two, machines=(other,))])
    assert merged.machines == (MACHINE, other)
    assert [entry.machine for entry in merged.entries] == [0, 1]


def test_what_does_not_belong_together_is_not_joined() -> None:
    one, two = sample().entries
    for reports, message in (
        ([], "no reports"),
        ([part(1, 2, one)], "missing: shard 2/2"),
        ([part(1, 3, one), part(3, 3, two)], "missing: shard 2/3"),
        ([part(1, 2, one), part(2, 3, two)], "different divisions"),
        ([part(1, 2, one), part(2, 2, one)], f"{ONE} is in two"),
        ([part(1, 2, one), part(2, 2, two, code_sha256="9" * 64)], "differ in code_sha256"),
        ([part(1, 2, one), part(2, 2, two, settings=Settings(shard=(2, 2)))], r"settings \(tolerance\)"),
    ):
        with pytest.raises(UsageError, match=message):
            merge(reports)


def test_the_gravest_verdict_stays_with_its_entry() -> None:
    assert [entry.verdict for entry in sample().entries] == [Verdict.FAIL, Verdict.PASS]
