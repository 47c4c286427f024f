"""Checkpoints that are one pickle of numpy arrays, as Paddle and Detectron write them, and hostile ones."""

import io
import os
import pickle
import random
import struct
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from attack_pickles import ATTACKS, array, called, integer, legacy_checkpoint, mapping, sequence, stop, tensor, text

from cascadezoo import Checkpoint, read_checkpoint
from cascadezoo.converters import pickle_reader
from cascadezoo.errors import CascadezooError, CorruptCheckpoint, UnsafeCheckpoint

from procedural import _Py2Pickler

FORMATS = Path(__file__).parents[1] / "parity" / "paddle" / "formats"
NUMPY_1, NUMPY_2 = "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"
NAMES, SPLIT = "StructuredToParameterName@@", "UnpackBigParamInfor@@"
ARRAYS = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2) / 7,
    "norm._mean": np.array([0.1, -np.inf, np.nan] * 3, np.float32),
    "half": np.array([0.5, 6e-8, 65504] * 5, np.float16),
    "double": np.array([[1e300, 1]] * 2),
    "count": np.array(7),
    "fortran": np.asfortranarray(np.arange(9, dtype=np.float32).reshape(3, 3)),
}


def python_2(value: Any) -> bytes:
    """As python 2 pickles: texts and the bytes of arrays alike are byte strings."""
    file = io.BytesIO()
    _Py2Pickler(file, protocol=2).dump(value)
    return file.getvalue()


WRITERS = {
    "protocol 2": lambda value: pickle.dumps(value, 2),
    "protocol 4": lambda value: pickle.dumps(value, 4),
    "protocol 5": lambda value: pickle.dumps(value, 5),
    "python 2": python_2,
}
SHORT = len(NAMES)  # with this for MAX_TEXT, all arrays of more than a few numbers stay where they lie
every_writer = pytest.mark.parametrize("writer", WRITERS)


def assert_equal(checkpoint: Checkpoint, arrays: Mapping[str, np.ndarray]) -> None:
    assert list(checkpoint.tensors) == list(arrays)
    for key, expected in arrays.items():
        found = checkpoint.tensors[key].numpy()
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        np.testing.assert_array_equal(found, expected)


# What publishers write


@pytest.mark.parametrize(
    ("name", "names"),
    [("paddle_save_small.pdparams", {NUMPY_2}), ("paddle_save_small_p2.pdparams", {NUMPY_1, "_codecs.encode"})],
)
def test_files_of_paddle_save(name: str, names: set[str]) -> None:
    checkpoint = read_checkpoint(FORMATS / name)
    with np.load(FORMATS / "paddle_save_small.npz") as recorded:
        assert_equal(checkpoint, dict(recorded))
    assert checkpoint.container == "pickle"
    assert set(checkpoint.globals) == names | {"numpy.ndarray", "numpy.dtype"}
    assert (checkpoint.refused, checkpoint.unsafe, checkpoint.meta) == ((), {}, None)
    assert checkpoint.ignored == (NAMES,)


@every_writer
@pytest.mark.parametrize("longest", [2**20, SHORT], ids=["copied", "where they lie"])
def test_arrays_of_every_kind(read, monkeypatch, writer, longest):
    monkeypatch.setattr(pickle_reader, "MAX_TEXT", longest)
    data = WRITERS[writer](ARRAYS | {NAMES: {"conv.weight": "conv2d_0.w_0"}})
    checkpoint = read(data)
    assert_equal(checkpoint, ARRAYS)
    assert checkpoint.refused == ()


@every_writer
def test_blobs_and_their_configuration(read, writer):
    checkpoint = read(WRITERS[writer]({"blobs": ARRAYS | {"lr": 0.1}, "cfg": "MODEL:\n  TYPE: é", "x": 1}))
    assert_equal(checkpoint, ARRAYS)
    assert checkpoint.meta == {"cfg": "MODEL:\n  TYPE: é"}
    assert checkpoint.ignored == ("x", "blobs.lr")
    assert read(WRITERS[writer]({"blobs": ARRAYS})).meta is None


def test_a_name_beside_each_array(read):
    """As Paddle writes a nested object: tuple((name, array))."""
    pair = sequence(text("conv2d_0.w_0"), array())
    for made in (pair, called("builtins.tuple", pair), called("__builtin__.tuple", pair)):
        checkpoint = read(stop(mapping({"a": made})))
        assert checkpoint.tensors["a"].tolist() == [1, 2, 3, 4]
        assert checkpoint.refused == ()
    with pytest.raises(CorruptCheckpoint, match="a tuple is made of something other"):
        read(stop(mapping({"a": called("builtins.tuple", text("abc"))})))


def test_what_is_no_number_is_no_tensor(read):
    state = ARRAYS | {"text": np.array(["a"]), "note": "b", "list": [np.zeros(1)], 3: None}
    checkpoint = read(pickle.dumps(state, 4))
    assert list(checkpoint.tensors) == list(ARRAYS)
    assert checkpoint.unsafe == {"text": "numpy.dtype[<U1]"}
    assert checkpoint.ignored == ("note", "list", "3")


def test_arrays_in_a_torch_file_are_tensors_too(read):
    checkpoint = read(legacy_checkpoint(mapping({"a": array(), "b": tensor()})))
    assert checkpoint.tensors["a"].tolist() == checkpoint.tensors["b"].tolist() == [1, 2, 3, 4]


@every_writer
def test_writing_to_a_tensor_never_reaches_the_file(read, tmp_path, monkeypatch, writer):
    monkeypatch.setattr(pickle_reader, "MAX_TEXT", SHORT)
    data = WRITERS[writer](ARRAYS)
    for value in read(data).tensors.values():
        value.fill_(1)
    assert (tmp_path / "checkpoint.pth").read_bytes() == data


MIB = 2**20


@pytest.mark.parametrize(
    ("writer", "limit"),
    [("protocol 4", 0.5), ("protocol 5", 0.5), ("python 2", 0.5), ("protocol 2", 8 + 2 * 2 + 0.5)],
)
def test_long_arrays_are_not_held_beside_the_file(tmp_path, writer, limit):
    """Four arrays of 2 MiB; texts have to be decoded, each by way of a text and its bytes."""
    path = tmp_path / "checkpoint.pkl"
    path.write_bytes(WRITERS[writer]({f"a{i}": np.full(MIB // 2, i, np.float32) for i in range(4)}))
    tracemalloc.start()
    try:
        checkpoint = read_checkpoint(path)
        assert tracemalloc.get_traced_memory()[1] < limit * MIB
    finally:
        tracemalloc.stop()
    assert [int(value.sum()) // (MIB // 2) for value in checkpoint.tensors.values()] == [0, 1, 2, 3]


@pytest.mark.parametrize("padding", range(8))
def test_long_arrays_at_every_alignment(read, monkeypatch, padding):
    monkeypatch.setattr(pickle_reader, "MAX_TEXT", SHORT)
    value = read(pickle.dumps({"x" * (padding + 1): 0, "a": ARRAYS["conv.weight"]}, 4)).tensors["a"]
    assert torch.equal(value, torch.from_numpy(ARRAYS["conv.weight"]))
    assert value.data_ptr() % 4 == 0


def test_empty_arrays(read):
    assert read(pickle.dumps({"a": np.empty((0, 3), np.float32)}, 4)).tensors["a"].shape == (0, 3)


def test_a_long_text_is_named_but_not_made(read):
    checkpoint = read(pickle.dumps({"a": ARRAYS["count"], "note": "x" * (2**20 + 1)}, 4))
    assert checkpoint.ignored == ("note",)
    with pytest.raises(CorruptCheckpoint, match="holds no tensors"):
        read(pickle.dumps({"x" * (2**20 + 1): ARRAYS["count"]}, 4)[:-1] + b"0}.")


# Tensors that Paddle split


def split(shape: object = (2, 3), slices: object = ("w@@.0", "w@@.1"), **changes: object) -> dict[str, Any]:
    flat = np.arange(6, dtype=np.float32)
    parts = {"w@@.0": flat[:4], "w@@.1": flat[4:]} | {f"w@@.{key[1:]}": value for key, value in changes.items()}
    return {"b": flat, **parts, SPLIT: {"w": {"OriginShape": shape, "slices": slices}}}


def test_split_tensors_are_put_together(read):
    checkpoint = read(pickle.dumps(split(slices=["w@@.0", "w@@.1"]), 2))
    assert list(checkpoint.tensors) == ["b", "w"]
    assert checkpoint.tensors["w"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert checkpoint.ignored == ()


@pytest.mark.parametrize(
    "state",
    [
        split(shape=(2, 4)),
        split(shape=(2, -3)),
        split(shape=(2.0, 3)),
        split(shape=6),
        split(shape=(1,) * 64 + (6,)),
        split(slices=()),
        split(slices=("w@@.0", "w@@.0")),
        split(slices=("w@@.0", "w@@.2")),
        split(slices=("w@@.0", 1)),
        split(slices="w@@.0"),
        split(s1=np.zeros(2)),
        split(s1=np.zeros((1, 2), np.float32)),
        split(s1=None),
        split(s1=[4, 5]),
        {**split(), "w": np.zeros((2, 3), np.float32)},
        {**split(), SPLIT: {"w": {"slices": ("w@@.0", "w@@.1")}}},
        {**split(), SPLIT: {"w": None}},
        {**split(), SPLIT: []},
    ],
)
def test_split_tensors_that_contradict_themselves(read, state):
    with pytest.raises(CorruptCheckpoint, match=SPLIT):
        read(pickle.dumps(state, 4))


def test_R10_slices_may_not_share_bytes(read):
    flat = np.arange(4, dtype=np.float32)
    shared = {"w@@.0": flat, "w@@.1": flat, SPLIT: {"w": {"OriginShape": (8,), "slices": ("w@@.0", "w@@.1")}}}
    with pytest.raises(CorruptCheckpoint, match=r"slices of 'w' .* share their bytes"):
        read(pickle.dumps(shared, 4))
    apart = {"w@@.0": flat, "v@@.0": flat}
    tables = {name: {"OriginShape": (4,), "slices": (f"{name}@@.0",)} for name in "wv"}
    with pytest.raises(CorruptCheckpoint, match=r"slices of 'v' .* share their bytes"):
        read(pickle.dumps({**apart, SPLIT: tables}, 4))
    raw = pickle.SHORT_BINBYTES + b"\x10" + bytes(16) + pickle.BINPUT + b"\0" + pickle.POP
    names = {"OriginShape": sequence(integer(8)), "slices": sequence(text("a"), text("b"))}
    one = array(raw=pickle.BINGET + b"\0")
    with pytest.raises(CorruptCheckpoint, match="share their bytes"):
        read(stop(raw + mapping({"a": one, "b": one, SPLIT: mapping({"w": mapping(names)})})))


def test_R10_the_shape_of_a_split_tensor_is_known_before_it_is_joined(read):
    record = read(pickle.dumps(split(), 4)).records["w"]
    assert (record.shape, record.dtype) == ((2, 3), "float32")
    assert [part.shape for part in record.slices] == [(4,), (2,)]


def test_R10_names_of_one_array(read):
    one = np.arange(6, dtype=np.float32).reshape(2, 3)
    checkpoint = read(pickle.dumps({"a": one, "b": one}, 4))
    assert checkpoint.records["a"] is checkpoint.records["b"]
    assert checkpoint.tensors["a"].tolist() == checkpoint.tensors["b"].tolist() == one.tolist()


def test_a_slice_that_hangs_on_foreign_code(read, ran):
    fragment, name = ATTACKS["os.system by REDUCE"]
    parts = {"good": array(), "w@@.0": array(raw=fragment)}
    table = mapping({"w": mapping({"OriginShape": sequence(integer(4)), "slices": sequence(text("w@@.0"))})})
    assert read(stop(mapping({**parts, SPLIT: table}))).unsafe == {"w": name}
    assert not ran


# Hostile and broken files


def places(attack: bytes) -> dict[str, tuple[str, bytes]]:
    """Where an attack may stand -> (what becomes of the file, its pickle)."""
    good = {"good": array()}
    table = {"w": mapping({"OriginShape": attack, "slices": sequence(text("good"))})}
    return {
        "root": ("refused", attack),
        "blobs": ("refused", mapping({"blobs": attack, "cfg": text("")})),
        "value": ("unsafe", mapping(good | {"bad": attack})),
        "blob": ("unsafe", mapping({"blobs": mapping(good | {"bad": attack}), "cfg": text("")})),
        "bytes": ("unsafe", mapping(good | {"bad": array(raw=attack)})),
        "data type": ("unsafe", mapping(good | {"bad": array(dtype=attack)})),
        "bytes by encode": (
            "unsafe",
            mapping(good | {"bad": array(raw=called("_codecs.encode", attack, text("latin1")))}),
        ),
        "class": (
            "unsafe",
            mapping(good | {"bad": called(NUMPY_2, attack, sequence(integer(0)), text("b")) + b"N" + pickle.BUILD}),
        ),
        "pair": ("unsafe", mapping(good | {"bad": called("builtins.tuple", sequence(text("name"), attack))})),
        "names": ("harmless", mapping(good | {NAMES: mapping({"good": attack})})),
        "configuration": ("harmless", mapping({"blobs": mapping(good), "cfg": attack})),
        "a key": ("harmless", mapping({"other": b"}" + attack + b"Ns"} | good)),
        "table of slices": ("corrupt", mapping(good | {SPLIT: mapping(table)})),
        "whole table of slices": ("corrupt", mapping(good | {SPLIT: attack})),
    }


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_runs(read, ran, attack):
    fragment, name = ATTACKS[attack]
    for where, (outcome, data) in places(fragment).items():
        if outcome == "refused":
            with pytest.raises(UnsafeCheckpoint) as caught:
                read(stop(data))
            assert name in str(caught.value)
        elif outcome == "corrupt":
            with pytest.raises(CorruptCheckpoint):
                read(stop(data))
        else:
            checkpoint = read(stop(data))
            assert checkpoint.tensors["good"].tolist() == [1, 2, 3, 4], where
            assert checkpoint.unsafe == ({"bad": name} if outcome == "unsafe" else {}), where
            assert name in checkpoint.refused
        assert not ran, where


def test_a_pickle_of_nothing_but_foreign_code(read, ran):
    for attack, name in ATTACKS.values():
        with pytest.raises(UnsafeCheckpoint, match="has no other tensors") as caught:
            read(stop(mapping({"a": attack, "b": text("c")})))
        assert name in str(caught.value)
    assert not ran


@every_writer
@pytest.mark.parametrize("longest", [2**20, SHORT], ids=["copied", "where they lie"])
def test_every_prefix_is_refused(tmp_path, monkeypatch, writer, longest):
    monkeypatch.setattr(pickle_reader, "MAX_TEXT", longest)
    data = WRITERS[writer]({"blobs": {"a": np.arange(4.0), "b": np.array(1)}, "cfg": "text"})
    path = tmp_path / "checkpoint.pkl"
    path.write_bytes(data)
    read_checkpoint(path)
    for end in range(len(data) - 1, -1, -1):
        os.truncate(path, end)
        with pytest.raises(CorruptCheckpoint):
            read_checkpoint(path)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ["paddle_save_small.pdparams", "paddle_save_small_p2.pdparams"])
def test_random_damage_reads_or_is_refused(tmp_path, name):
    rng = random.Random(name)
    data = (FORMATS / name).read_bytes()
    path = tmp_path / name
    outcomes = {True: 0, False: 0}
    for _ in range(400):
        damaged = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 20))):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            for value in read_checkpoint(path).tensors.values():
                value.clone()
        except CascadezooError:
            outcomes[False] += 1
        else:
            outcomes[True] += 1
    assert min(outcomes.values()) > 10


BROKEN = {
    "bytes after it": (pickle.dumps(ARRAYS, 4) + b"xy", "2 bytes follow its pickle"),
    "two pickles": (pickle.dumps(ARRAYS, 4) * 2, "bytes follow its pickle"),
    "torch tensors without their storages": (stop(mapping({"a": tensor()})), "tensors lie elsewhere"),
    "no tensors": (pickle.dumps({"epoch": 3}, 2), "holds no tensors: its entries are epoch"),
    "no blobs": (pickle.dumps({"blobs": {}, "cfg": ""}, 2), "holds no tensors in its blobs"),
    "blobs that are a list": (pickle.dumps({"blobs": [1], "cfg": ""}, 2), "its blobs is of type list"),
    "a list": (pickle.dumps([np.zeros(1)], 4), "the file is of type list"),
    "an array": (pickle.dumps(np.zeros(1), 4), "the file is of type ArrayRecord"),
    "an array by number": (pickle.dumps({1: np.zeros(1)}, 4), "key 1, which is no name"),
    "an array of 2**40": (stop(mapping({"a": array(shape=sequence(integer(2**40)))})), "does not match its 16 bytes"),
    "bytes of 2**60": (stop(mapping({"a": array(raw=b"\x8e" + struct.pack("<Q", 2**60))})), "truncated"),
    "text of 4 GB": (stop(mapping({"a": array(raw=b"X\xff\xff\xff\xff")})), "truncated"),
    "too many bytes": (stop(mapping({"a": array(raw=b"C\x11" + bytes(17))})), "does not match its 17 bytes"),
    "text beyond latin-1": (stop(mapping({"a": array(raw=text("€" * 4))})), "beyond latin-1"),
    "a protocol of tomorrow": (b"\x80\x05\x80\x09N.", "unknown protocol 9"),
}


@pytest.mark.parametrize("longest", [2**20, SHORT], ids=["copied", "where they lie"])
@pytest.mark.parametrize("name", BROKEN)
def test_files_that_cannot_be_trusted(read, monkeypatch, name, longest):
    monkeypatch.setattr(pickle_reader, "MAX_TEXT", longest)
    data, message = BROKEN[name]
    with pytest.raises(CorruptCheckpoint, match=message):
        read(data)


def test_a_long_text_is_turned_into_bytes_once(read, monkeypatch):
    monkeypatch.setattr(pickle_reader, "MAX_TEXT", 100)
    memo = text("a" * 4000) + b"q\x000"
    encoded = called("_codecs.encode", b"h\x00", text("latin1"))
    one = array(raw=encoded, shape=sequence(integer(1000)))
    assert read(stop(memo + mapping({"a": one}))).tensors["a"].shape == (1000,)
    with pytest.raises(CorruptCheckpoint, match="copies more bytes than it holds"):
        read(stop(memo + mapping(dict.fromkeys("abc", one))))
