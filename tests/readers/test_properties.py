"""Whatever bytes a reader is given, it returns inert data or raises one error of ours, soon."""

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attack_pickles import (
    CONTAINERS,
    FLOATS,
    array,
    called,
    integer,
    named,
    sequence,
    stop,
    storage,
    tensor,
    text,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from readers.readers import READERS, Reader

pytestmark = pytest.mark.timeout(120)  # a reader that hangs fails
some = settings(derandomize=True, deadline=None, max_examples=60)
many = settings(derandomize=True, deadline=None, max_examples=400)
BINARY = ("torch_zip", "torch_legacy", "pickle", "safetensors", "image")
JSON = ("repo_config", "report", "training_config", "categories", "annotations", "evaluation")
SEEDS = {
    f"{name}-{number}": (reader, seed()) for name, reader in READERS.items() for number, seed in enumerate(reader.seeds)
}
STARTS = [b"", b"PK\3\4", b"\x80\x02", b"\x80\x04", b"\x10" + bytes(7) + b'{"', b"\x89PNG\r\n\x1a\n", b"{", b"["]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("readers")


def holds(reader: Reader, folder: Path, data: bytes) -> bool:
    path = folder / reader.file
    path.write_bytes(data)
    return reader.holds(path)


@pytest.mark.parametrize("name", SEEDS)
def test_what_our_own_writers_write_is_read(name: str, folder: Path) -> None:
    reader, data = SEEDS[name]
    assert holds(reader, folder, data)


@pytest.mark.parametrize("name", READERS)
@some
@given(start=st.sampled_from(STARTS), data=st.binary(max_size=400))
def test_any_bytes(name: str, folder: Path, start: bytes, data: bytes) -> None:
    assert not holds(READERS[name], folder, start + data + b"\0")


@st.composite
def edited(draw: st.DrawFn, data: bytes) -> bytes:
    """``data`` with a few bits turned, runs lost, repeated or put in, or its end cut off."""
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        more = draw(st.integers(1, 16))
        match draw(st.sampled_from(("bit", "bit", "byte", "cut", "lose", "repeat", "insert"))):
            case "bit" if at < len(data):
                data = data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
            case "byte" if at < len(data):
                data = data[:at] + draw(st.sampled_from((b"\0", b"\x7f", b"\x80", b"\xff"))) + data[at + 1 :]
            case "cut":
                data = data[:at]
            case "lose":
                data = data[:at] + data[at + more :]
            case "repeat":
                data = data[: at + more] + data[at:]
            case "insert":
                data = data[:at] + draw(st.binary(min_size=1, max_size=8)) + data[at:]
    return data


@pytest.mark.parametrize("name", SEEDS)
@some
@given(choice=st.data())
def test_a_damaged_file(name: str, folder: Path, choice: st.DataObject) -> None:
    reader, data = SEEDS[name]
    holds(reader, folder, choice.draw(edited(data)))


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 100),
    st.sampled_from([2**31, 2**63, -(2**63) - 1, 10**400]),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(["\ud800", "\0", "x" * 5000]),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from places(inner)


ODD = [None, True, 0, -1, 0.5, 2**31, 2**63, 10**400, float("nan"), 1e300, "", "\ud800", "\0", "x" * 5000, [], {}, [{}]]


@pytest.mark.parametrize("name", JSON)
def test_every_value_of_a_json_file_in_turn(name: str, folder: Path) -> None:
    reader = READERS[name]
    document = json.loads(reader.seeds[0]())
    for container, key in list(places(document)):
        kept = container[key]
        for value in ODD:
            container[key] = value
            holds(reader, folder, json.dumps(document).encode())
        container[key] = kept


@pytest.mark.parametrize("name", JSON)
@some
@given(choice=st.data())
def test_a_json_file_with_other_values(name: str, folder: Path, choice: st.DataObject) -> None:
    reader = READERS[name]
    document = json.loads(reader.seeds[0]())
    for _ in range(choice.draw(st.integers(1, 3))):
        if not (found := list(places(document))):
            break
        container, key = choice.draw(st.sampled_from(found))
        change = choice.draw(st.sampled_from(("set", "set", "lose", "add")))
        if change == "lose":
            del container[key]
        elif change == "add" and isinstance(container, dict):
            container[choice.draw(st.text(max_size=8))] = choice.draw(VALUES)
        else:
            container[key] = choice.draw(VALUES)
    holds(reader, folder, json.dumps(document).encode())


@pytest.mark.parametrize("name", [*JSON, "manifest"])
@pytest.mark.parametrize("depth", [200, 980, 5000, 200_000])
def test_nesting_that_python_does_not_bear(name: str, depth: int, folder: Path) -> None:
    before = b"a = " if name == "manifest" else b""
    for opening, closing in ((b"[", b"]"), (b'{"images":', b"}"), (b"{", b"}")):
        assert not holds(READERS[name], folder, before + opening * depth + b"1" + closing * depth)


@pytest.mark.parametrize("where", ["images", "annotations", "categories"])
@pytest.mark.parametrize("depth", [100, 900, 990, 5000])
def test_nesting_inside_an_annotation_file(where: str, depth: int, folder: Path) -> None:
    document = json.loads(READERS["annotations"].seeds[0]())
    for key in document[where][0]:
        bent = {**document, where: [{**document[where][0], key: "HERE"}]}
        data = json.dumps(bent).encode().replace(b'"HERE"', b"[" * depth + b"]" * depth)
        for name in ("annotations", "evaluation"):
            holds(READERS[name], folder, data)


FRAGMENTS = [
    pickle.MARK, pickle.NONE, pickle.EMPTY_DICT, pickle.EMPTY_LIST, pickle.EMPTY_TUPLE, pickle.APPEND, pickle.APPENDS,
    pickle.SETITEM, pickle.SETITEMS, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.REDUCE, pickle.BUILD,
    pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.OBJ, pickle.MEMOIZE, pickle.BINGET + b"\0", pickle.BINGET + b"\1",
    pickle.BINPUT + b"\0", pickle.POP, pickle.POP_MARK, pickle.DUP, pickle.STACK_GLOBAL, pickle.BINPERSID,
    pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET, pickle.NEWFALSE, text("a"), text("latin1"), integer(-1),
    integer(2**70), integer(4), storage(), tensor(), array(), called("collections.OrderedDict"), named("os.system"),
    called("_codecs.encode", text("é"), text("latin1")), named("numpy.dtype"), called("numpy.dtype", text("f4")),
    sequence(integer(2), integer(2)), pickle.BYTEARRAY8 + (4).to_bytes(8, "little") + b"abcd", pickle.NEXT_BUFFER,
    named("torch._utils._rebuild_tensor_v2"), named("torch.FloatStorage"), named("numpy.core.multiarray.scalar"),
]  # fmt: skip


@many
@given(
    fragments=st.lists(st.sampled_from(FRAGMENTS), max_size=30),
    rooted=st.booleans(),
    container=st.sampled_from([*CONTAINERS, "plain"]),
)
def test_any_sequence_of_opcodes(folder: Path, fragments: list[bytes], rooted: bool, container: str) -> None:
    fragment = b"".join(fragments)
    if rooted:  # as a value of a state dict that holds a tensor besides
        fragment = (
            pickle.EMPTY_DICT + text("good") + tensor() + pickle.SETITEM + text("bad") + fragment + pickle.SETITEM
        )
    data = stop(fragment, 4) if container == "plain" else CONTAINERS[container](fragment, {"0": FLOATS})
    holds(READERS["pickle"], folder, data)
