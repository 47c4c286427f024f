"""Checkpoints as publishers and torch.save write them, and files that are none."""

import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from attack_pickles import (
    CONTAINERS,
    FLOATS,
    legacy_checkpoint,
    mapping,
    saved,
    stop,
    tensor,
    zip_archive,
    zip_checkpoint,
)

import cascadezoo
from cascadezoo import read_checkpoint
from cascadezoo.errors import CorruptCheckpoint, WeightsNotFound

FORMATS = Path(__file__).parents[1] / "parity" / "mmdet" / "formats"
EXPECTED = json.loads((FORMATS / "expected.json").read_text())
REFUSED_IN_TRAINING = {
    "mmengine.logging.history_buffer.HistoryBuffer",
    "__builtin__.getattr",
    "collections.Counter",
}

both_containers = pytest.mark.parametrize("container", CONTAINERS)


# What publishers write


@pytest.mark.parametrize("name", EXPECTED)
def test_recorded_files(name):
    expected = EXPECTED[name]
    checkpoint = cascadezoo.read_checkpoint(str(FORMATS / name))
    assert checkpoint.path == FORMATS / name
    assert checkpoint.container == expected["container"].split()[0]
    assert list(checkpoint.globals) == expected["globals"]
    assert set(checkpoint.refused) == (REFUSED_IN_TRAINING if name.startswith("train") else set())
    assert ["meta", "state_dict", *checkpoint.ignored] == expected["top_level_keys"]
    assert checkpoint.unsafe == {}
    assert list(checkpoint.tensors) == list(expected["state_dict"])
    for key, record in expected["state_dict"].items():
        value = checkpoint.tensors[key]
        assert str(value.dtype) == f"torch.{record['dtype']}"
        assert list(value.shape) == record["shape"]
        assert value.flatten().tolist() == record["values"]


def test_recorded_meta():
    meta = read_checkpoint(FORMATS / "published_checkpoint_mmdet2.pth").meta
    assert meta["mmdet_version"] == "2.3.0+8ef2ca9"
    assert meta["CLASSES"][:2] == ("person", "bicycle")
    meta = read_checkpoint(FORMATS / "train_checkpoint_mmdet3.pth").meta
    assert (meta["epoch"], meta["iter"]) == (2, 6)
    assert "CheckpointHook" in meta["cfg"]


# What torch.save writes


def benign() -> dict[str, Any]:
    base = torch.arange(24, dtype=torch.float32)
    dtypes = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8, torch.int8, torch.int16)
    values = {str(dtype): torch.tensor([0, 1, 3, 2], dtype=dtype) for dtype in (*dtypes, torch.int32, torch.int64)}
    return values | {
        "bool": torch.tensor([True, False, True]),
        "matrix": base.reshape(4, 6),
        "transposed": base.reshape(4, 6).t(),
        "part": base.reshape(4, 6)[1:3, 2::2],
        "channels last": torch.rand(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        "scalar": torch.tensor(7),
        "empty": torch.empty(0),
        "empty matrix": torch.empty(0, 3, dtype=torch.int64),
        "empty part": base[5:5],
        "parameter": torch.nn.Parameter(torch.rand(3)),
        "frozen": torch.nn.Parameter(torch.rand(3), requires_grad=False),
    }


@both_containers
@pytest.mark.parametrize("protocol", [2, 4])
def test_equals_torch_load(tmp_path, container, protocol):
    path = tmp_path / "benign.pth"
    path.write_bytes(saved({"state_dict": benign(), "meta": {"epoch": 3}}, container, protocol))
    theirs = torch.load(path, weights_only=protocol == 2)["state_dict"]  # its restricted reader knows protocol 2
    checkpoint = read_checkpoint(path)
    assert checkpoint.container == container
    assert checkpoint.meta == {"epoch": 3}
    assert checkpoint.refused == ()
    assert list(checkpoint.tensors) == list(theirs)
    for key, value in theirs.items():
        ours = checkpoint.tensors[key]
        assert (ours.dtype, ours.shape) == (value.dtype, value.shape)
        if container == "zip":  # a legacy file packs storages without padding: a part may be a copy without gaps
            assert ours.stride() == value.stride()
        assert torch.equal(ours, value)
        assert not ours.requires_grad


@both_containers
def test_state_dict_of_a_module(read, container):
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm2d(2))
    state = module.state_dict()
    assert hasattr(state, "_metadata")
    for value in (state, {"state_dict": state}):
        checkpoint = read(saved(value, container))
        assert list(checkpoint.tensors) == list(state)
        assert all(torch.equal(checkpoint.tensors[key], state[key]) for key in state)
        assert checkpoint.ignored == ()


def test_keys_stay_raw_and_other_entries_are_listed(read):
    weight = torch.rand(2)
    state = {"module.weight": weight, "steps": 5, "note": None, "odd": [weight]}
    checkpoint = read(saved({"optimizer": {"lr": 1}, "meta": None, "state_dict": state, 3: "x"}, "zip"))
    assert list(checkpoint.tensors) == ["module.weight"]
    assert checkpoint.ignored == ("optimizer", "3", "state_dict.steps", "state_dict.note", "state_dict.odd")
    bare = read(saved(state, "zip"))
    assert list(bare.tensors) == ["module.weight"]
    assert bare.ignored == ("steps", "note", "odd")
    assert bare.meta is None


@both_containers
def test_tensors_that_share_a_storage(read, container):
    base = torch.arange(6.0)
    tensors = read(saved({"a": base, "b": base[2:4], "c": base}, container)).tensors
    assert tensors["a"].tolist() == tensors["c"].tolist() == [0, 1, 2, 3, 4, 5]
    assert tensors["b"].tolist() == [2, 3]


@both_containers
def test_writing_to_a_tensor_never_reaches_the_file(read, tmp_path, container):
    data = saved({"a": torch.arange(6.0)}, container)
    checkpoint = read(data)
    checkpoint.tensors["a"].add_(1)
    assert (tmp_path / "checkpoint.pth").read_bytes() == data


@pytest.mark.parametrize("padding", range(8))
def test_legacy_storages_at_every_alignment(read, padding):
    fragment = mapping({"a": tensor(), "x" * (padding + 1): b"N"})
    value = read(legacy_checkpoint(fragment)).tensors["a"]
    assert value.tolist() == [1, 2, 3, 4]
    assert value.data_ptr() % 4 == 0


def test_tensors_lie_on_the_pages_of_the_file(read):
    tensors = read(saved({"a": torch.zeros(1000)}, "zip")).tensors
    assert tensors["a"].data_ptr() == tensors["a"].data_ptr()


def test_location_of_a_storage_does_not_matter(read):
    assert b"cuda:0" in tensor()
    assert read(zip_checkpoint(mapping({"a": tensor()}))).tensors["a"].device.type == "cpu"


def test_deflated_archive(read):
    state = {"a": torch.arange(1000.0), "b": torch.tensor(3)}
    with zipfile.ZipFile(io.BytesIO(saved(state, "zip"))) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    checkpoint = read(zip_archive(members, zipfile.ZIP_DEFLATED))
    assert all(torch.equal(checkpoint.tensors[key], value) for key, value in state.items())


def test_archive_with_wide_numbers(read):
    """zip64 fields, as files of more than 4 GB have them."""
    file = io.BytesIO()
    fragment = mapping({"a": tensor()})
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in (("data.pkl", stop(fragment)), ("data/0", FLOATS)):
            with archive.open(zipfile.ZipInfo(f"r/{name}"), "w", force_zip64=True) as member:
                member.write(data)
    data = bytearray(file.getvalue())
    entry = data.index(b"PK\1\2")
    name_end = entry + 46 + len("r/data.pkl")
    packed, size = struct.unpack_from("<2L", data, entry + 20)
    extra = struct.pack("<2H2Q", 1, 16, size, packed)
    struct.pack_into("<2L", data, entry + 20, 0xFFFFFFFF, 0xFFFFFFFF)
    struct.pack_into("<H", data, entry + 30, len(extra))
    data[name_end:name_end] = extra
    (directory,) = struct.unpack_from("<L", data, len(data) - 10)
    struct.pack_into("<L", data, len(data) - 10, directory + len(extra))
    assert read(bytes(data)).tensors["a"].tolist() == [1, 2, 3, 4]
    struct.pack_into("<H", data, name_end + 2, 8)  # one number in place of two
    with pytest.raises(CorruptCheckpoint):
        read(bytes(data))


# What is no checkpoint at all


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\xef\xbb\xbf\n <HTML>", "web page"),
        (b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code>', "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:", "git lfs pull"),
        (struct.pack("<Q", 60) + b'{"__metadata__":{}}', "safetensors"),
        (b"x" * 257 + b"ustar\x0000" + b"x" * 99, "tar archive"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (pickle.dumps({"state_dict": {}}, 2), "no tensors in its state_dict"),
        (b"\x89PNG\r\n\x1a\n", "no checkpoint"),
        (b"PK", "no checkpoint"),
    ],
)
def test_other_files(read, data, message):
    with pytest.raises(CorruptCheckpoint, match=message) as caught:
        read(data)
    assert caught.value.exit_code == 4
    assert "checkpoint.pth" in str(caught.value)


def test_folders_inside_that_nobody_may_read_are_left_aside(tmp_path, monkeypatch):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "model.pth").touch()
    with pytest.raises(CorruptCheckpoint, match=r"of its folder inner: .*model\.pth"):
        read_checkpoint(tmp_path)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(CorruptCheckpoint, match="give the checkpoint file itself"):
        read_checkpoint(tmp_path)


def test_files_that_cannot_be_opened(tmp_path):
    with pytest.raises(CorruptCheckpoint, match="is a directory"):
        read_checkpoint(tmp_path)
    for missing in (tmp_path / "missing.pth", FORMATS / "expected.json" / "inside.pth"):
        with pytest.raises(WeightsNotFound, match="does not exist") as caught:
            read_checkpoint(missing)
        assert caught.value.exit_code == 3
    with pytest.raises(CorruptCheckpoint, match="no regular file"):
        read_checkpoint("/dev/zero")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(CorruptCheckpoint, match="no regular file"):
        read_checkpoint(tmp_path / "fifo")
    for name in ("a\0b", "x" * 5000):
        with pytest.raises(CorruptCheckpoint, match="cannot be opened"):
            read_checkpoint(name)
