"""The interpreter of pickles: what it reads, what it refuses, and that it never runs anything."""

import collections
import io
import pickle
import pickletools
import random
import struct
import tracemalloc
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from attack_pickles import called, integer, mapping, named, sequence, stop, storage, tensor, text

from cascadezoo.converters import pickle_reader
from cascadezoo.converters.pickle_reader import MAX_DEPTH, PickleReader
from cascadezoo.converters.pickle_values import MAX_VALUES, Storage, Stub, TensorRecord
from cascadezoo.converters.records import Malformed


def read(data: bytes) -> Any:
    return PickleReader(io.BytesIO(data), len(data)).load()


@contextmanager
def memory_below(limit: int) -> Iterator[None]:
    """Bytes that Python and numpy may take at once."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


PLAIN = {
    "text": ["", "a", "käse", "\udc80", "x" * 70_000],
    "bytes": [b"", b"\x00\xff", bytes(70_000)],
    "numbers": [0, 1, 255, 65_536, -1, 2**31, -(2**63), 2**200, 0.0, -1.5, float("inf"), True, False, None],
    "nested": {"tuple": (1, (2, (3, 4, 5, 6)), ()), "dict": {1: {}, None: [], b"k": 0.5}, "list": [[], [[]]]},
}


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_plain_values_read_as_themselves(protocol):
    if protocol < 3:
        # bytes are written as a call: b"" as bytes(), which stays refused, others through _codecs.encode
        value = {**PLAIN, "bytes": PLAIN["bytes"][1:], "nested": PLAIN["nested"] | {"dict": {1: {}, None: []}}}
    else:
        value = PLAIN
    assert read(pickle.dumps(value, protocol)) == value


def test_sets_read_as_lists():
    assert read(pickle.dumps({1, 2}, 4)) == [1, 2]
    assert read(pickle.dumps(frozenset({3}), 4)) == [3]
    assert read(pickle.dumps(bytearray(b"ab"), 5)) == b"ab"


def test_every_opcode_has_a_meaning():
    assert {opcode.name for opcode in pickletools.opcodes} - {"STOP"} == pickle_reader._OPERATIONS.keys()


def test_shared_values_stay_shared():
    inner = [1]
    value = read(pickle.dumps([inner, inner, {"again": inner}]))
    assert value[0] is value[1] is value[2]["again"]


def test_python_2_byte_strings_are_latin_1_text():
    # protocol 0 and 2 as python 2.7 writes ["k\xe9y", u"k\xe9y", 5L, True]
    protocol0 = b"(lp0\nS'k\\xe9y'\np1\naVk\xe9y\np2\naL5L\naI01\na."
    protocol2 = b"\x80\x02]q\x00(U\x03k\xe9yq\x01X\x04\x00\x00\x00k\xc3\xa9yq\x02\x8a\x01\x05\x88e."
    assert read(protocol0) == read(protocol2) == ["kéy", "kéy", 5, True]
    assert read(b"T\x02\x00\x00\x00\xff\x00.") == "\xff\x00"


def test_python_2_ordered_dict():
    pairs = b"".join(b"]" + b"(" + text(key) + integer(value) + b"e" for key, value in (("b", 1), ("a", 2)))
    value = read(stop(called("collections.OrderedDict", b"](" + pairs + b"e")))
    assert list(value.items()) == [("b", 1), ("a", 2)]


def test_ordered_dict_with_attributes():
    value = collections.OrderedDict(a=1)
    value._metadata = {"": {"version": 1}}
    assert read(pickle.dumps(value, 2)) == {"a": 1}


def test_tensors_are_records_of_storages():
    record = read(
        stop(tensor(storage("7", 12), integer(2), sequence(integer(2), integer(3)), sequence(integer(1), integer(2))))
    )
    assert record == TensorRecord(Storage("7", "float32", 12), 2, (2, 3), (1, 2))
    assert read(stop(called("torch._utils._rebuild_parameter", tensor(), pickle.NEWTRUE, pickle.NONE))).shape == (4,)


def test_unknown_globals_are_inert_and_listed():
    class_ = named("collections.Counter")
    reader_input = stop(
        mapping(
            {
                "count": class_ + pickle.EMPTY_DICT + b"\x85R",
                "class": class_,
                "plain": called("collections.OrderedDict"),
            }
        )
    )
    reader = PickleReader(io.BytesIO(reader_input), len(reader_input))
    assert reader.load() == {"count": Stub("collections.Counter"), "class": Stub("collections.Counter"), "plain": {}}
    assert list(reader.globals) == ["collections.Counter", "collections.OrderedDict"]
    assert reader.refused == ("collections.Counter",)


def test_reads_what_real_classes_write_as_stubs():
    namespace = types.SimpleNamespace(a=1)
    assert read(pickle.dumps([namespace, complex(1, 2), collections.deque([1])], 4)) == [
        Stub("types.SimpleNamespace"),
        Stub("builtins.complex"),
        Stub("collections.deque"),
    ]


@pytest.mark.parametrize(("key", "name"), [((1, 2), "tuple"), (2**70, "int"), (frozenset((1,)), "list")])
def test_other_keys_than_text_and_numbers_are_stubs(key, name):
    assert read(pickle.dumps({key: 1}, 4)) == {Stub(name): 1}


def nested(opening: bytes, closing: bytes, depth: int) -> bytes:
    return stop(opening * depth + closing * depth)


NESTS = {
    "list in list": lambda depth: nested(b"]", b"", depth)[:-1] + b"a" * (depth - 1) + b".",
    "tuple in tuple": lambda depth: stop(b")" + b"\x85" * (depth - 1)),
    "dict in dict": lambda depth: stop(b"}" + b"K\x00}" * (depth - 1) + b"s" * (depth - 1)),
    "built inside out through the memo": lambda depth: stop(b"]q\x00" + b"]h\x00aq\x00" * (depth - 1)),
    "list made by marks": lambda depth: stop(b"(" * depth + b"l" * depth),
}


@pytest.mark.parametrize("nest", NESTS.values(), ids=NESTS)
def test_depth_is_limited(nest):
    read(nest(MAX_DEPTH))
    for depth in (MAX_DEPTH + 1, 100_000):
        with pytest.raises(Malformed, match=f"more than {MAX_DEPTH} deep"):
            read(nest(depth))


def test_deep_nests_that_are_thrown_away_do_no_harm():
    deep = b")" + b"\x85" * 200_000
    assert read(stop(deep + b"0" + b"N")) is None
    assert read(stop(called("victim.Class", deep))) == Stub("victim.Class")
    assert read(stop(b"}" + deep + b"Ns")) == {Stub("tuple"): None}  # hashing it would overflow the C stack


BOMBS = {
    "bytes of 2**60": b"\x8e" + struct.pack("<Q", 2**60) + b"abc.",
    "bytearray of 2**60": b"\x96" + struct.pack("<Q", 2**60) + b"abc.",
    "text of 2**60": b"\x8d" + struct.pack("<Q", 2**60) + b"abc.",
    "text of 4 GB": b"X\xff\xff\xff\xffabc.",
    "a size beyond the address space": b"\x8e" + b"\xff" * 8 + b"abc.",
    "byte string of a negative size": b"T\xff\xff\xff\xffabc.",
    "integer of 2 GB": b"\x8b" + struct.pack("<i", 2**31 - 1) + b"\x01.",
    "integer of 8 million bits": b"\x8b" + struct.pack("<i", 10**6) + b"\x01" * 10**6 + b".",
    "integer of 5000 digits": b"L" + b"9" * 5000 + b"L\n.",
    "memo index of 4000 digits": b"Np" + b"9" * 4000 + b"\n.",
    "memo index nobody wrote": b"j" + struct.pack("<I", 2**31) + b".",
    "list that holds itself": b"]q\x00h\x00a.",
    "dict that holds itself": b"}q\x00(K\x01h\x00u.",
    "two lists that hold each other": b"]q\x00]q\x01h\x00ah\x01a.",
    "tuple that holds itself": b"]q\x00h\x00\x85a.",
    "a billion laughs": stop(b"]" + b"".join(b"q%c](" % i + b"h%c" % i * 10 + b"e" for i in range(10, 20))),
    "a long text, many times": stop(text("ha" * 500_000) + b"q\x000](" + b"h\x00" * 1000 + b"e"),
    "a text encoded again and again": stop(
        text("x" * 10**6) + b"q\x000" + named("_codecs.encode") + b"h\x00" + text("latin1") + b"\x86q\x010q\x02"
        b"0](" + (b"h\x02h\x01R" * 1000) + b"e"
    ),
    "text beyond latin-1 as bytes": stop(called("_codecs.encode", text("€"), text("latin1"))),
    "another codec": stop(called("_codecs.encode", text("a"), text("rot13"))),
    "a string without its quotes": b"Sabc\n.",
    "a string of one quote": b"S'\n.",
    "a line that never ends": b"S'abc",
    "an unknown opcode": b"\xfe.",
    "a protocol of tomorrow": b"\x80\x09N.",
    "nothing": b"",
    "nothing on the stack": b".",
    "a group never opened": b"t.",
    "a value below the group": b"N(0a.",
    "a key without a value": b"}(Nu.",
    "append to a number": b"K\x01K\x02a.",
    "items of a list": b"]K\x01K\x02s.",
    "state of a number": b"K\x01}b.",
    "a call of a number": b"K\x01)R.",
    "no class": b"(o.",
    "a global by number": b"K\x01K\x02\x93.",
    "a global with an escape sequence": named("os.\x1b[31m") + b".",
    "a global of 10000 letters": named("a" * 10_000 + ".b") + b".",
    "out-of-band data": b"\x97.",
    "a persistent name": b"Pstorage\n.",
    "a persistent id of another kind": b"}Q.",
    "a storage of a negative size": stop(storage(numel=-1)),
    "a storage by number": stop(sequence(text("storage"), named("torch.FloatStorage"), *[b"K\x00"] * 3) + b"Q"),
    "a storage declared twice": stop(sequence(storage(numel=4), storage(numel=5))),
    "a tensor of 2**40 elements, all the same": stop(
        tensor(shape=sequence(integer(2**40)), strides=sequence(integer(0)))
    ),
    "a tensor beyond its storage": stop(tensor(shape=sequence(integer(5)))),
    "a tensor that starts beyond its storage": stop(tensor(offset=integer(1))),
    "a tensor whose strides leave its storage": stop(tensor(shape=sequence(integer(2)), strides=sequence(integer(4)))),
    "a tensor with a negative stride": stop(tensor(offset=integer(3), strides=sequence(integer(-1)))),
    "a tensor of negative size": stop(tensor(shape=sequence(integer(-1)))),
    "a tensor with too few strides": stop(tensor(strides=sequence())),
    "a tensor of rank 1000": stop(tensor(shape=sequence(*[integer(1)] * 1000), strides=sequence(*[integer(1)] * 1000))),
    "an empty tensor too wide for torch": stop(
        tensor(shape=sequence(integer(0), integer(2**40), integer(2**40)), strides=sequence(*[integer(1)] * 3))
    ),
    "a tensor of a text": stop(tensor(text("0"))),
    "a tensor of nothing": stop(called("torch._utils._rebuild_tensor_v2")),
    "a parameter of a text": stop(called("torch._utils._rebuild_parameter", text("0"))),
    "an OrderedDict of a text": stop(called("collections.OrderedDict", text("0"))),
    "an OrderedDict with keywords": stop(named("collections.OrderedDict") + b")" + mapping({"a": b"N"}) + b"\x92"),
    "bytes of a number": stop(called("builtins.bytes", integer(2**40))),
    "a data type without a code": stop(called("numpy.dtype", b"N")),
    "a scalar of nothing": stop(called("numpy.core.multiarray.scalar")),
    "a scalar of too few bytes": stop(
        called("numpy.core.multiarray.scalar", called("numpy.dtype", text("f8")), b"C\x01a")
    ),
    "an array of another class": stop(called("numpy.core.multiarray._reconstruct", b"N", b")", b"N")),
}  # fmt: skip


@pytest.mark.timeout(60)
@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_end_in_a_sentence(bomb):
    with memory_below(32 * 2**20), pytest.raises(Malformed) as caught:
        read(BOMBS[bomb])
    assert len(str(caught.value)) < 1000
    assert str(caught.value).isprintable()


def test_number_of_values_is_limited():
    with pytest.raises(Malformed, match=f"more than {MAX_VALUES} values"):
        read(b"N0" * (MAX_VALUES // 2 + 1) + b"N.")


def test_copies_of_a_mapping_count_as_values(monkeypatch):
    pairs = b"](" + b"](K\x01K\x02e" * 100 + b"eq\x000"
    copies = b"](" + (named("collections.OrderedDict") + b"h\x00\x85R") * 100 + b"e"
    read(stop(pairs + copies))
    monkeypatch.setattr("cascadezoo.converters.pickle_values.MAX_VALUES", 10_000)  # opcodes are some 1000
    with pytest.raises(Malformed, match="more than 10000 values"):
        read(stop(pairs + copies))


def test_number_of_tensors_is_limited(monkeypatch):
    monkeypatch.setattr("cascadezoo.converters.pickle_values.MAX_TENSORS", 3)
    read(stop(sequence(*[tensor()] * 3)))
    with pytest.raises(Malformed, match="more than 3 tensors"):
        read(stop(sequence(*[tensor()] * 4)))


def test_R11_arrays_count_as_tensors(monkeypatch):
    monkeypatch.setattr("cascadezoo.converters.pickle_values.MAX_TENSORS", 3)
    read(pickle.dumps([np.arange(2) for _ in range(3)], 4))
    with pytest.raises(Malformed, match="more than 3 tensors and arrays"):
        read(pickle.dumps([np.arange(2) for _ in range(4)], 4))


def test_a_data_type_by_name_is_none():
    state = sequence(b"K\x01", sequence(b"K\x01"), text("float32"), b"\x89", b"C\x04abcd")
    made = called("numpy.core.multiarray._reconstruct", named("numpy.ndarray"), sequence(b"K\x00"), b"C\x01b")
    with pytest.raises(Malformed, match="does not match its 4 bytes"):
        read(stop(made + state + b"b"))


def test_every_prefix_is_refused():
    data = pickle.dumps(PLAIN["nested"] | {"array": np.arange(3), "counter": collections.Counter("ab")}, 2)
    read(data)
    for end in range(len(data)):
        with pytest.raises(Malformed):
            read(data[:end])


@pytest.mark.timeout(120)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_random_damage_reads_or_is_refused(protocol):
    rng = random.Random(protocol)
    value = [PLAIN["numbers"], PLAIN["nested"], np.arange(3.0), np.float32(1), collections.OrderedDict(a=b"\xff")]
    data = pickle.dumps([*value, collections.Counter("ab")], protocol)
    kept = 0
    for _ in range(1500):
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(len(damaged))] = rng.choice((rng.randrange(256), ord(rng.choice("(][}tu0a2RbQ.qh"))))
        try:
            repr(read(bytes(damaged)))
            kept += 1
        except Malformed:
            pass
    assert 50 < kept < 1450  # both ways are taken
