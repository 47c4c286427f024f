"""Checkpoints that are truncated, damaged, contradictory, or built to take memory."""

import json
import os
import pickle
import random
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from attack_pickles import (
    CONTAINERS,
    FLOATS,
    LEGACY_HEAD,
    integer,
    legacy_checkpoint,
    mapping,
    saved,
    sequence,
    stop,
    storage,
    tensor,
    zip_archive,
    zip_checkpoint,
)

from cascadezoo import read_checkpoint
from cascadezoo.errors import CascadezooError, CorruptCheckpoint

FORMATS = Path(__file__).parents[1] / "parity" / "mmdet" / "formats"
EXPECTED = json.loads((FORMATS / "expected.json").read_text())
both_containers = pytest.mark.parametrize("container", CONTAINERS)


@both_containers
def test_every_prefix_is_refused(tmp_path, container):
    data = saved({"state_dict": OrderedDict(a=torch.arange(4.0), b=torch.tensor(1)), "meta": {"x": "y"}}, container)
    path = tmp_path / "checkpoint.pth"
    path.write_bytes(data)
    read_checkpoint(path)
    for end in range(len(data) - 1, -1, -1):
        os.truncate(path, end)
        with pytest.raises(CorruptCheckpoint):
            read_checkpoint(path)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", EXPECTED)
def test_random_damage_reads_or_is_refused(tmp_path, name):
    rng = random.Random(name)
    data = (FORMATS / name).read_bytes()
    path = tmp_path / "checkpoint.pth"
    outcomes = {True: 0, False: 0}
    for _ in range(250):
        damaged = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 20))):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            checkpoint = read_checkpoint(path)
            for value in checkpoint.tensors.values():
                value.clone()
            str(checkpoint.meta)
        except CascadezooError:
            outcomes[False] += 1
        else:
            outcomes[True] += 1
    assert min(outcomes.values()) > 10


GOOD = mapping({"a": tensor()})
MEMBERS = {"r/data.pkl": stop(GOOD), "r/data/0": FLOATS}


def patched(data: bytes, signature: bytes, offset: int, form: str, *values: int) -> bytes:
    """``data`` with other numbers in its last header of that kind."""
    changed = bytearray(data)
    struct.pack_into(f"<{form}", changed, changed.rindex(signature) + offset, *values)
    return bytes(changed)


ARCHIVES = {
    "a path that climbs": (zip_archive({**MEMBERS, "../evil": b""}), "forbidden name"),
    "a path that climbs inside": (zip_archive({**MEMBERS, "r/../../evil": b""}), "forbidden name"),
    "an absolute path": (zip_archive({**MEMBERS, "/etc/passwd": b""}), "forbidden name"),
    "a path of another system": (zip_archive({**MEMBERS, "r\\evil": b""}), "forbidden name"),
    "an escape sequence": (zip_archive({**MEMBERS, "r/\x1b[31m": b""}), "forbidden name"),
    "two members of a name": (zip_archive({**MEMBERS, "r/data/1": FLOATS}).replace(b"data/1", b"data/0"), "twice"),
    "two pickles": (zip_archive({**MEMBERS, "s/data.pkl": stop(GOOD)}), "2 members named data.pkl"),
    "no pickle": (zip_archive({"r/data/0": FLOATS}), "no member named data.pkl"),
    "nothing": (zip_archive({}), "no checkpoint"),
    "no storage": (zip_archive({"r/data.pkl": stop(GOOD)}), "storage '0' is missing"),
    "a storage too short": (zip_checkpoint(GOOD, {"0": FLOATS[:-1]}), "16 bytes and has 15"),
    "a storage too long": (zip_checkpoint(GOOD, {"0": FLOATS + b"x"}), "16 bytes and has 17"),
    "a storage that lies": (zip_checkpoint(mapping({"a": tensor(storage(numel=2**40))})), "and has 16"),
    "big-endian": (zip_checkpoint(GOOD, byteorder=b"big"), "big-endian"),
    "TorchScript": (zip_checkpoint(GOOD, **{"constants.pkl": b"."}), "TorchScript"),
    "encrypted": (patched(zip_archive(MEMBERS), b"PK\1\2", 8, "H", 1), "encrypted"),
    "another compression": (zip_archive(MEMBERS, zipfile.ZIP_LZMA), "neither stored nor deflated"),
    "a bomb": (zip_archive({**MEMBERS, "r/big": bytes(2**23)}, zipfile.ZIP_DEFLATED), "4 times"),
    "deflated to more than declared": (
        patched(zip_archive({**MEMBERS, "r/data/0": FLOATS * 99}, zipfile.ZIP_DEFLATED), b"PK\1\2", 24, "L", 16),
        "does not inflate to the 16 bytes",
    ),
    "no deflated data": (
        patched(patched(zip_archive(MEMBERS), b"PK\1\2", 10, "H", 8), b"PK\3\4", 8, "H", 8),
        "inflate",
    ),
    "stored, of two sizes": (patched(zip_archive(MEMBERS), b"PK\1\2", 24, "L", 2**31), "neither stored nor deflated"),
    "a member beyond the end": (
        patched(zip_archive(MEMBERS), b"PK\1\2", 20, "2L", 2**31, 2**31),
        "outside the archive",
    ),
    "a header beyond the end": (patched(zip_archive(MEMBERS), b"PK\1\2", 42, "L", 2**31), "outside the archive"),
    "another header": (patched(zip_archive(MEMBERS), b"PK\1\2", 42, "L", 0), "not where the directory says"),
    "entries promised": (patched(zip_archive(MEMBERS), b"PK\5\6", 8, "2H", 9, 9), "contradicts itself"),
    "entries withheld": (patched(zip_archive(MEMBERS), b"PK\5\6", 8, "2H", 1, 1), "more than it declares"),
    "a directory elsewhere": (patched(zip_archive(MEMBERS), b"PK\5\6", 16, "L", 2**31), "contradicts itself"),
    "a comment": (zip_archive(MEMBERS) + b"x", "truncated zip archive"),
    "bytes before": (b"PK\3\4" + zip_archive(MEMBERS), "contradicts itself"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_that_cannot_be_trusted(read, name):
    data, message = ARCHIVES[name]
    with pytest.raises(CorruptCheckpoint, match=message) as caught:
        read(data).tensors["a"]
    assert "checkpoint.pth" in str(caught.value)


def test_overlapping_members(read):
    """A member inside another one's data, as zip bombs have them."""
    inner = zip_archive({"r/b": b"?" * 50})[: 30 + 3 + 50]
    data = bytearray(zip_archive({**MEMBERS, "r/a": inner, "r/b": b"?" * 50}))
    struct.pack_into("<L", data, data.rindex(b"PK\1\2") + 42, data.index(inner))
    with pytest.raises(CorruptCheckpoint, match="overlaps"):
        read(bytes(data))


def test_number_of_members_is_limited(read, monkeypatch):
    read(zip_archive(MEMBERS))
    monkeypatch.setattr("cascadezoo.converters.zip_members.MAX_MEMBERS", 1)
    with pytest.raises(CorruptCheckpoint, match="more than 1 members"):
        read(zip_archive(MEMBERS))


def test_R11_number_of_names_is_limited(read, monkeypatch):
    state = mapping({"a": tensor() + b"q\x00", "b": b"h\x00", "c": b"h\x00"})
    assert len(read(zip_checkpoint(state, {"0": FLOATS})).tensors) == 3
    monkeypatch.setattr("cascadezoo.converters.checkpoint.MAX_TENSORS", 2)
    with pytest.raises(CorruptCheckpoint, match="names more than 2 tensors"):
        read(zip_checkpoint(state, {"0": FLOATS}))


def test_R11_deflated_storages_are_inflated_when_they_are_used(read):
    data = patched(zip_archive({**MEMBERS, "r/data/0": FLOATS * 99}, zipfile.ZIP_DEFLATED), b"PK\1\2", 24, "L", 16)
    checkpoint = read(data)
    assert checkpoint.records["a"].shape == (4,)
    with pytest.raises(CorruptCheckpoint, match=r"checkpoint\.pth .* does not inflate to the 16 bytes"):
        checkpoint.tensors["a"]


LEGACY = legacy_checkpoint(GOOD)
LEGACIES = {
    "bytes after it": (LEGACY + b"x", "1 bytes follow"),
    "a storage too short": (LEGACY[:-1], "ends within storage '0'"),
    "a count that lies": (LEGACY[:-24] + struct.pack("<q", 5) + FLOATS, "4 elements and has 5"),
    "a negative count": (LEGACY[:-24] + struct.pack("<q", -1) + FLOATS, "4 elements and has"),
    "a storage that lies": (legacy_checkpoint(mapping({"a": tensor(storage(numel=2**40))})), "ends within storage"),
    "a storage nobody names": (legacy_checkpoint(GOOD, {"0": FLOATS, "1": FLOATS}), "not that of its tensors"),
    "a storage missing": (legacy_checkpoint(GOOD, {}), "not that of its tensors"),
    "a storage listed twice": (
        LEGACY_HEAD + stop(GOOD) + pickle.dumps(["0", "0"], 2) + (struct.pack("<q", 4) + FLOATS) * 2,
        "not that of its tensors",
    ),
    "storages by number": (LEGACY_HEAD + stop(GOOD) + pickle.dumps([0], 2), "malformed"),
    "another protocol": (LEGACY.replace(struct.pack("<H", 1001), struct.pack("<H", 1002), 1), "protocol 1001"),
    "big-endian": (LEGACY.replace(b"\x88", b"\x89", 1), "big-endian"),
}


@pytest.mark.parametrize("name", LEGACIES)
def test_legacy_files_that_cannot_be_trusted(read, name):
    data, message = LEGACIES[name]
    with pytest.raises(CorruptCheckpoint, match=message):
        read(data)


CONTENTS = {
    "a list": (pickle.EMPTY_LIST, "the file is of type list"),
    "a number": (b"K\x01", "the file is of type int"),
    "a tensor": (tensor(), "the file is of type TensorRecord"),
    "an empty mapping": (b"}", "holds no tensors"),
    "a mapping of mappings": (mapping({"model": mapping({"a": tensor()})}), "holds no tensors: its entries are model"),
    "a state dict of numbers": (mapping({"state_dict": mapping({"a": b"N"})}), "no tensors in its state_dict"),
    "a state dict that is a list": (mapping({"state_dict": b"]"}), "its state_dict is of type list"),
    "a tensor by number": (b"}K\x01" + tensor() + b"s", "key 1, which is no name"),
    "a tensor named in colour": (mapping({"\x1b[31m": tensor()}), "which is no name"),
    "a deep nest": (mapping({"a": tensor(), "meta": b"]" * 100_000 + b"a" * 99_999}), "100 deep"),
    "a cycle": (mapping({"a": tensor(), "meta": b"]q\x00h\x00a"}), "contains itself"),
    "a tensor of 2**40": (
        mapping({"a": tensor(shape=sequence(integer(2**40)), strides=sequence(integer(0)))}),
        "does not lie inside its storage",
    ),
}


@both_containers
@pytest.mark.parametrize("name", CONTENTS)
def test_contents_that_are_no_state_dict(read, name, container):
    fragment, message = CONTENTS[name]
    with pytest.raises(CorruptCheckpoint, match=message):
        read(CONTAINERS[container](fragment))
