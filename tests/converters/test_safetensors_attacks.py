"""Safetensors files built to mislead or to exhaust their reader: each ends in one error of ours.

The kinds are those that the folder ``attacks`` of huggingface/safetensors tries and proposes.
"""

import json
import os
from pathlib import Path

import pytest
from readers import hostile

from cascadezoo.coco.categories import Categories
from cascadezoo.converters.canonical import read_canonical
from cascadezoo.errors import CorruptCheckpoint, FileError

pytestmark = pytest.mark.timeout(60)

FLOAT = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}


def safetensors(header: object, body: bytes = bytes(16), length: int | None = None) -> bytes:
    """A file of this header, as JSON or as it is, whose length it may lie about."""
    data = hostile.safetensors(header, body)
    return data if length is None else length.to_bytes(8, "little") + data[8:]


SAFETENSORS = {
    # attempt 1: the header claims to be longer than the file
    "a header longer than the file": safetensors({"a": FLOAT}, length=1000),
    "a header of 2**63 bytes": safetensors({"a": FLOAT}, length=2**63),
    "a header of 2**64 - 1 bytes": safetensors({"a": FLOAT}, length=2**64 - 1),
    "a header cut short": safetensors({"a": FLOAT}, length=20),
    "no header": bytes(8),
    "seven bytes": bytes(7),
    # attempts 2 and 3: many tensors on the same bytes
    "many tensors on the same bytes": safetensors({f"weight_{i}": FLOAT for i in range(20_000)}),
    "two tensors that overlap": safetensors(
        {"a": FLOAT, "b": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}}
    ),
    # proposals 3 to 5: offsets that are negative, outside, in disorder, or not those of shape and type
    "negative offsets": safetensors({"a": {**FLOAT, "data_offsets": [-16, 0]}}),
    "offsets outside": safetensors({"a": {**FLOAT, "data_offsets": [16, 32]}}),
    "offsets far outside": safetensors({"a": {**FLOAT, "data_offsets": [2**64 - 16, 2**64 - 1]}}),
    "offsets beyond 64 bits": safetensors({"a": {**FLOAT, "data_offsets": [0, 2**64]}}),
    "an end before its beginning": safetensors({"a": {**FLOAT, "data_offsets": [16, 0]}}),
    "offsets of another shape": safetensors({"a": {**FLOAT, "shape": [3, 2]}}),
    "offsets of another type": safetensors({"a": {**FLOAT, "dtype": "F64"}}),
    "a shape that overflows": safetensors({"a": {**FLOAT, "shape": [2**32, 2**32]}}),
    "a shape that overflows to what is there": safetensors({"a": {**FLOAT, "shape": [2**62 + 1, 4]}}),
    "a negative shape": safetensors({"a": {**FLOAT, "shape": [-2, -2]}}),
    "a hole before": safetensors({"a": {**FLOAT, "data_offsets": [4, 20]}}, bytes(20)),
    "bytes that nobody names": safetensors({"a": FLOAT}, bytes(17)),
    "bytes that are missing": safetensors({"a": FLOAT}, bytes(15)),
    "an unknown type": safetensors({"a": {**FLOAT, "dtype": "PICKLE"}}),
    # proposal 7: the JSON itself
    "a header that is no object": safetensors([FLOAT]),
    "a header that is no JSON": safetensors(b"{'a': 1}"),
    "a header that is no text": safetensors(b'{"\xff": 1}'),
    "a header nested deeply": safetensors(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "metadata that is no text": safetensors({"__metadata__": {"a": 1}, "b": FLOAT}),
    "metadata of several levels": safetensors({"__metadata__": {"a": {"b": "c"}}, "b": FLOAT}),
    "metadata twice": safetensors(
        b'{"__metadata__":{"a":"1"},"__metadata__":{"a":"2"},"b":%b}' % json.dumps(FLOAT).encode()
    ),
    "a tensor twice, elsewhere": safetensors(
        b'{"a":%b,"a":{"dtype":"F32","shape":[4],"data_offsets":[16,32]}}' % json.dumps(FLOAT).encode(), bytes(32)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SAFETENSORS)
def test_safetensors_that_abuse_the_format(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(SAFETENSORS[name])
    with pytest.raises(CorruptCheckpoint, match=r"a\.safetensors is no whole safetensors file"):
        read_canonical(path)


READABLE = {"R9 deep categories.safetensors", "R11 400,000 metadata.safetensors"}


@pytest.mark.parametrize("name", sorted(hostile.SAFETENSORS.keys() - READABLE))
def test_R9_headers_that_python_or_torch_do_not_bear(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(hostile.SAFETENSORS[name]())
    with pytest.raises(CorruptCheckpoint, match=r"a\.safetensors is no whole safetensors file"):
        read_canonical(path)


def test_R9_categories_nested_deeply_in_the_metadata(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(hostile.SAFETENSORS["R9 deep categories.safetensors"]())
    with pytest.raises(FileError, match="nested too deeply"):
        Categories.from_json(read_canonical(path)[1]["categories"])


def test_a_header_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    """The file is there in full, but only on paper."""
    path = tmp_path / "a.safetensors"
    path.write_bytes((2**23 + 1).to_bytes(8, "little") + b"{")
    os.truncate(path, 2**23 + 9)
    with pytest.raises(CorruptCheckpoint, match=r"no whole safetensors file .its header of 8388609 bytes is longer"):
        read_canonical(path)


def test_given_as_a_publishers_checkpoint(read) -> None:
    checkpoint = read(safetensors({"a": FLOAT}))
    assert (checkpoint.container, list(checkpoint.records), checkpoint.meta) == ("safetensors", ["a"], {})
