"""The mechanism, on toy tables that need everything the publishers need: translated words, transposed layers, moved
class rows, twins to ignore, counters to restore."""

import hashlib
from dataclasses import FrozenInstanceError

import pytest
import torch

from cascadezoo.converters.keymap import (
    FIRST_ROW_LAST,
    REVERSE_INPUT_CHANNELS,
    TRANSPOSE,
    Derived,
    Fit,
    KeyMap,
    abbreviate,
    same,
    without_first_rows,
)
from cascadezoo.errors import TensorMismatch

TOY = KeyMap(
    rows=(
        ("res{s}.res{s}{block}.w", "layer{s}.{block}.weight"),
        ("fc{tower}_w", "towers.{tower}.weight"),
        ("norm.{p}", "norm.{p}"),
        ("cls", "score.weight"),
    ),
    holes={
        "s": {"2": "1", "3": "2"},
        "block": {"a": "0", "b": "1", "b10": "10"},
        "tower": {"": "0", "_2": "1"},
        "p": same("weight", "var"),
    },
    ignored=(("ema_*", "a twin"), ("*.counter", "a counter")),
    transforms={"towers.1.weight": TRANSPOSE, "score.weight": FIRST_ROW_LAST},
    counters=((".var", ".counter"),),
)

EXPECTED = {
    "layer1.0.weight": (4, 3),
    "layer2.10.weight": (4, 4),
    "towers.0.weight": (2, 5),
    "towers.1.weight": (2, 5),
    "norm.weight": (4,),
    "norm.var": (4,),
    "score.weight": (3, 2),
}
FOUND = {
    "ema_res2": (7,),
    "res2.res2a.w": (4, 3),
    "res3.res3b10.w": (4, 4),
    "fc_w": (2, 5),
    "fc_2_w": (5, 2),  # transposed
    "norm.weight": (4,),
    "norm.var": (4,),
    "norm.counter": (),
    "cls": (3, 2),
}
PAIRS = {
    "res2.res2a.w": "layer1.0.weight",
    "res3.res3b10.w": "layer2.10.weight",
    "fc_w": "towers.0.weight",
    "fc_2_w": "towers.1.weight",
    "norm.weight": "norm.weight",
    "norm.var": "norm.var",
    "cls": "score.weight",
}


def test_every_tensor_is_paired_or_ignored_for_a_reason() -> None:
    fit = TOY.fit(FOUND, EXPECTED)
    assert fit.problems == 0, fit.describe()
    assert fit.describe() == ""
    assert fit.pairs == PAIRS
    assert fit.ignored == {"ema_res2": "a twin", "norm.counter": "a counter"}


def test_each_side_of_a_mismatch_is_listed() -> None:
    found = {**FOUND, "stray": (1,), "res2.res3a.w": (4, 3), "norm.weight": (9,)}
    del found["cls"], found["fc_2_w"]
    fit = TOY.fit(found, EXPECTED)
    assert fit.missing == ("cls", "fc_2_w")
    assert fit.unexpected == ("res2.res3a.w", "stray")  # the hole {s} cannot be 2 and 3 at once
    assert fit.misshapen == (("norm.weight", (9,), (4,)),)
    assert fit.problems == 5
    assert fit.describe() == (
        "2 missing: cls, fc_2_w; 2 unexpected: res2.res3a.w, stray; "
        "1 of another shape: norm.weight is (9,), expected (4,)"
    )


def test_shapes_are_compared_in_the_publishers_layout() -> None:
    fit = TOY.fit({**FOUND, "fc_2_w": (2, 5)}, EXPECTED)
    assert fit.misshapen == (("fc_2_w", (2, 5), (5, 2)),)


def test_shapes_are_compared_without_making_tensors() -> None:
    expected = {**EXPECTED, "towers.1.weight": (2**30, 2**20)}
    assert TOY.fit({**FOUND, "fc_2_w": (2**20, 2**30)}, expected).problems == 0


def test_a_tensor_that_the_network_lacks_is_unexpected() -> None:
    expected = {name: shape for name, shape in EXPECTED.items() if name != "score.weight"}
    assert TOY.fit(FOUND, expected).unexpected == ("cls",)


def test_a_missing_tensor_without_a_row_goes_by_its_own_name() -> None:
    assert TOY.fit(FOUND, {**EXPECTED, "unknown.weight": (1,)}).missing == ("unknown.weight",)


def test_two_rows_for_one_key_are_a_problem() -> None:
    key_map = KeyMap(rows=(("a.{x}", "left.{x}"), ("a.{y}", "right.{y}")))
    fit = key_map.fit({"a.b": (1,)}, {"left.b": (1,)})
    assert fit.contested == ("a.b",)
    assert fit.pairs == {}


def test_a_row_for_an_ignored_key_is_a_problem() -> None:
    key_map = KeyMap(rows=(("a.{x}", "a.{x}"),), ignored=(("*.b", "because"),))
    assert key_map.fit({"a.b": (1,)}, {"a.b": (1,)}).contested == ("a.b",)


def test_two_keys_for_one_name_are_a_problem() -> None:
    key_map = KeyMap(rows=(("a.{x}", "left.{x}"), ("b.{x}", "left.{x}")))
    assert key_map.fit({"a.1": (1,), "b.1": (1,)}, {"left.1": (1,)}).contested == ("a.1", "b.1")


def test_a_hole_is_one_component() -> None:
    key_map = KeyMap(rows=(("a.{x}.w", "b.{x}.w"),))
    assert key_map.claims("a.1.w") == ["b.1.w"]
    assert key_map.claims("a.1.2.w") == []
    assert key_map.claims("a..w") == []
    assert key_map.claims("aX1.w") == []  # the dot of a row is a dot


def test_values_go_there_and_back() -> None:
    state = {key: torch.arange(float(max(1, torch.Size(shape).numel()))).reshape(shape) for key, shape in FOUND.items()}
    canonical = {name: TOY.apply(name, state[key]) for key, name in PAIRS.items()}
    assert torch.equal(canonical["towers.1.weight"], torch.tensor([[0.0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]))
    assert torch.equal(canonical["score.weight"], torch.tensor([[2.0, 3], [4, 5], [0, 1]]))
    back = TOY.invert(canonical)
    assert back.keys() == PAIRS.keys() | {"norm.counter"}
    assert all(torch.equal(back[key], state[key]) for key in PAIRS)
    assert back["norm.counter"].dtype == torch.int64
    assert back["norm.counter"].shape == ()
    assert back["norm.counter"] == 0


def test_a_name_without_a_row_has_no_way_back() -> None:
    with pytest.raises(TensorMismatch, match=r"1 tensors have no place .*: layer9\.0\.weight"):
        TOY.invert({"layer9.0.weight": torch.zeros(1), "norm.weight": torch.zeros(1)})


def test_channels_are_reversed_and_restored() -> None:
    bgr = torch.tensor([[1.0, 2.0, 3.0]]).reshape(1, 3, 1, 1)
    rgb = REVERSE_INPUT_CHANNELS.forward(bgr)
    assert rgb.flatten().tolist() == [3.0, 2.0, 1.0]
    assert torch.equal(REVERSE_INPUT_CHANNELS.inverse(rgb), bgr)


def test_dead_rows_are_left_out_listed_and_written_as_zeros() -> None:
    key_map = KeyMap(
        rows=(("box_{p}", "box.{p}"), ("var", "var")),
        ignored=(("count", "a counter"),),
        transforms={"box.w": without_first_rows(2, "dead"), "box.b": without_first_rows(1, "dead")},
        counters=(("var", "count"),),
    )
    found = {"box_w": (5, 2), "box_b": (4,), "var": (1,), "count": ()}
    fit = key_map.fit(found, {"box.w": (3, 2), "box.b": (3,), "var": (1,)})
    assert fit.problems == 0, fit.describe()
    assert key_map.fit({**found, "box_w": (3, 2)}, {"box.w": (3, 2)}).misshapen == (("box_w", (3, 2), (5, 2)),)
    assert key_map.apply("box.b", torch.tensor([1.0, 2, 3, 4])).tolist() == [2, 3, 4]
    assert key_map.partly_ignored_because("box.w") == "rows 0 to 1: dead"
    assert key_map.partly_ignored_because("var") is None

    half = torch.ones(3, 2, dtype=torch.float16)
    back = key_map.invert({"box.w": half, "box.b": torch.ones(3), "var": torch.ones(1)})
    assert back["box_w"].tolist() == [[0, 0], [0, 0], [1, 1], [1, 1], [1, 1]]
    assert back["box_w"].dtype == torch.float16
    assert back["box_b"].tolist() == [0, 1, 1, 1]
    assert key_map.zeros(["box.w", "box.b", "var"]) == {
        "box_w": "rows 0 to 1: dead",
        "box_b": "row 0: dead",
        "count": "a counter",
    }


def test_tensors_that_others_determine_are_left_out_held_and_written_from_their_formula() -> None:
    rule = Derived(ending=".places", beside=".table", formula=lambda t: torch.arange(len(t)), reason="of its rows")
    key_map = KeyMap(rows=(("{i}.table", "t{i}.table"),), derived=(rule,))
    fit = key_map.fit({"a.table": (3, 2), "a.places": (3,)}, {"ta.table": (3, 2)})
    assert fit.problems == 0, fit.describe()
    assert fit.ignored == {"a.places": "of its rows"}
    assert key_map.derivation("a.places") is rule
    assert key_map.derivation("a.table") is None
    assert key_map.digest != KeyMap(rows=key_map.rows).digest

    back = key_map.invert({"ta.table": torch.ones(3, 2), "tb.table": torch.ones(1, 2)})
    assert list(back) == ["a.table", "a.places", "b.table", "b.places"]
    assert back["a.places"].tolist() == [0, 1, 2]
    assert key_map.zeros(["ta.table"]) == {}

    assert key_map.departures(back) == []
    assert key_map.departures({**back, "a.places": torch.tensor([0, 1, 2], dtype=torch.int32)}) == []
    assert key_map.departures({"a.table": torch.ones(3, 2)}) == []  # it need not be there
    for wrong in (torch.tensor([0, 2, 1]), torch.tensor([0]), torch.zeros(3), torch.zeros(0)):
        assert key_map.departures({**back, "a.places": wrong}) == ["a.places"]
    assert key_map.departures({"c.places": torch.arange(3)}) == ["c.places"]  # of nothing


def test_a_transposed_tensor_is_laid_out_anew() -> None:
    theirs = torch.tensor([[1.0, 2, 3], [4, 5, 6]])
    ours = TRANSPOSE.forward(theirs)
    assert ours.tolist() == [[1, 4], [2, 5], [3, 6]]
    assert ours.is_contiguous()
    assert TRANSPOSE.inverse(ours).tolist() == theirs.tolist()
    assert TRANSPOSE.inverse(ours).is_contiguous()


def test_transforms_are_told_apart_by_name() -> None:
    """The names enter the digest of a map, and with it what a converted file is compared by."""
    named = (REVERSE_INPUT_CHANNELS, TRANSPOSE, FIRST_ROW_LAST, without_first_rows(4, "dead"))
    assert [transform.name for transform in named] == [
        "reverse_input_channels",
        "transpose",
        "first_row_last",
        "without_first_rows_4",
    ]
    assert [transform.drops for transform in named] == [None, None, None, "rows 0 to 3: dead"]


def test_what_nothing_claims_is_not_said_to_be_ignored() -> None:
    assert TOY.ignored_because("ema_res2") == "a twin"
    assert TOY.ignored_because("res2.res2a.w") is None


def test_problems_of_every_kind_count_and_are_listed() -> None:
    fit = Fit(
        pairs={},
        ignored={},
        missing=("a",),
        unexpected=("b", "c"),
        contested=("d", "e", "f", "g"),
        misshapen=tuple((f"m{i}", (i,), (9,)) for i in range(8)),
    )
    assert fit.problems == 1 + 2 + 4 + 8
    assert fit.describe() == (
        "1 missing: a; 2 unexpected: b, c; 4 claimed twice: d, e, f, g; 8 of another shape: m0 is (0,), expected (9,), "
        "m1 is (1,), expected (9,), m2 is (2,), expected (9,), m3 is (3,), expected (9,), m4 is (4,), expected (9,), "
        "m5 is (5,), expected (9,), m6 is (6,), expected (9,), m7 is (7,), expected (9,)"
    )


def test_what_is_missing_is_named_by_every_row_that_could_give_it() -> None:
    key_map = KeyMap(rows=(("a.{x}", "left.{x}"), ("b.{x}", "left.{x}")))
    fit = key_map.fit({}, {"left.2": (1,), "left.1": (1,)})
    assert fit.missing == ("a.1 or b.1", "a.2 or b.2")


def test_a_later_key_is_paired_after_one_that_was_not() -> None:
    key_map = KeyMap(rows=(("a.{x}", "b.{x}"),), ignored=(("skip", "because"),))
    fit = key_map.fit({"stray": (), "skip": (), "a.1": (2,)}, {"b.1": (2,)})
    assert fit.pairs == {"a.1": "b.1"}
    assert (fit.unexpected, fit.ignored, fit.misshapen) == (("stray",), {"skip": "because"}, ())


def test_a_name_that_two_rows_lead_to_has_no_way_back() -> None:
    key_map = KeyMap(rows=(("a.{x}", "left.{x}"), ("b.{x}", "left.{x}")))
    with pytest.raises(TensorMismatch) as caught:
        key_map.invert({"left.1": torch.zeros(1)})
    assert str(caught.value) == "1 tensors have no place in the publisher's layout: left.1"


def test_a_table_that_cannot_be_inverted_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\A'a\.\{x\}' and 'b' differ in their holes\Z"):
        KeyMap(rows=(("a.{x}", "b"),))
    with pytest.raises(ValueError, match="differ in their holes"):
        KeyMap(rows=(("a", "b.{x}"),))
    with pytest.raises(ValueError, match=r"\Ahole 'x' gives two words one meaning\Z"):
        KeyMap(rows=(), holes={"x": {"1": "0", "2": "0"}})


def test_tables_are_frozen_and_spelt_out() -> None:
    for record, name in ((TRANSPOSE, "name"), (TOY, "rows"), (TOY.fit({}, {}), "missing")):
        with pytest.raises(FrozenInstanceError):
            setattr(record, name, ())
    with pytest.raises(TypeError):
        KeyMap((("a", "b"),))
    with pytest.raises(TypeError):
        Fit({}, {}, (), (), (), ())


def test_the_digest_is_over_the_table_as_json() -> None:
    key_map = KeyMap(
        rows=(("a{x}", "b{x}"),),
        holes={"x": {"2": "1", "1": "0"}},
        ignored=(("d", "because"),),
        transforms={"b0": TRANSPOSE},
    )
    table = (
        b'{"holes": {"x": [["1", "0"], ["2", "1"]]}, "ignored": ["d"], "rows": [["a{x}", "b{x}"]], '
        b'"transforms": {"b0": "transpose"}}'
    )
    assert key_map.digest == hashlib.sha256(table).hexdigest()


def test_the_digest_follows_what_decides_a_conversion() -> None:
    row = (("a", "b"),)
    digests = {
        KeyMap(rows=row).digest,
        KeyMap(rows=(("a", "c"),)).digest,
        KeyMap(rows=row, holes={"x": {"1": "0"}}).digest,
        KeyMap(rows=row, ignored=(("d", "because"),)).digest,
        KeyMap(rows=row, transforms={"b": TRANSPOSE}).digest,
    }
    assert len(digests) == 5
    assert KeyMap(rows=row, ignored=(("d", "because"),)).digest == KeyMap(rows=row, ignored=(("d", "said"),)).digest


def test_long_lists_are_abbreviated() -> None:
    names = [f"k{i}" for i in range(10)]
    assert abbreviate([]) == ""
    assert abbreviate(["b", "a"]) == "a, b"
    assert abbreviate(names[:7]) == "k0, k1, k2, k3, k4, k5, k6"
    assert abbreviate(names[:8]) == "k0, k1, k2, k3, k4, k5, k6, k7"
    assert abbreviate(names[:9]) == "k0, k1, k2, k3, k4, k5, k6, k7 and 1 more"
    assert abbreviate(names) == "k0, k1, k2, k3, k4, k5, k6, k7 and 2 more"
