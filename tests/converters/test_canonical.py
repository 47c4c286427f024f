"""Canonical files, byte for byte."""

import errno
import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from cascadezoo.converters.canonical import (
    as_float32,
    content_digest,
    is_finite,
    read_canonical,
    write_canonical,
)
from cascadezoo.converters.safetensors_file import is_safetensors
from cascadezoo.errors import CorruptCheckpoint, TensorMismatch, UnwritableOutput, WeightsNotFound

TENSORS = {"b.weight": torch.tensor([[1.0, 2.0], [3.0, 4.0]]).t(), "a": torch.tensor([0.5]), "b.bias": torch.zeros(0)}


def test_the_bytes_are_those_of_the_format(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    sha256 = write_canonical(path, TENSORS, {"z": "1", "architecture": "ü"})
    header = (
        b'{"__metadata__":{"architecture":"\\u00fc","format":"pt","z":"1"},'
        b'"a":{"data_offsets":[0,4],"dtype":"F32","shape":[1]},'
        b'"b.bias":{"data_offsets":[4,4],"dtype":"F32","shape":[0]},'
        b'"b.weight":{"data_offsets":[4,20],"dtype":"F32","shape":[2,2]}}'
    )
    header += b" " * (-len(header) % 8)
    data = b"\0\0\0\x3f" + b"\0\0\x80\x3f" + b"\0\0\x40\x40" + b"\0\0\0\x40" + b"\0\0\x80\x40"  # 0.5, then 1 3 2 4
    assert path.read_bytes() == len(header).to_bytes(8, "little") + header + data
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert os.listdir(tmp_path) == ["x.safetensors"]


def test_the_library_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_canonical(path, TENSORS, {"architecture": "ü"})
    loaded = load_file(path)
    assert loaded.keys() == TENSORS.keys()
    assert all(torch.equal(loaded[name], TENSORS[name]) for name in TENSORS)
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"format": "pt", "architecture": "ü"}


def test_the_order_of_the_input_leaves_no_trace(tmp_path: Path) -> None:
    one, two = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    write_canonical(one, TENSORS, {"x": "1", "y": "2"})
    write_canonical(two, dict(reversed(TENSORS.items())), {"y": "2", "x": "1"})
    assert one.read_bytes() == two.read_bytes()
    assert content_digest(TENSORS) == content_digest(dict(reversed(TENSORS.items())))


def test_the_digest_is_over_name_type_shape_and_bytes() -> None:
    tensors = {"b": torch.zeros(2, dtype=torch.int64), "a": torch.tensor(1.5)}
    by_hand = b'["a", "float32", []]\n' + b"\0\0\xc0\x3f" + b'["b", "int64", [2]]\n' + bytes(16)
    assert content_digest(tensors) == hashlib.sha256(by_hand).hexdigest()
    variants: list[dict[str, Tensor]] = [
        {"b": torch.zeros(2)},
        {"c": torch.zeros(2)},
        {"b": torch.zeros(1, 2)},
        {"b": torch.zeros(2, dtype=torch.int32)},
        {"b": torch.tensor([0.0, -0.0])},
    ]
    assert len({content_digest(tensors) for tensors in variants}) == len(variants)


def test_reading_verifies_the_digest(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_canonical(path, TENSORS, {"content_digest": content_digest(TENSORS)})
    tensors, metadata = read_canonical(path)
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert metadata["format"] == "pt"

    broken = bytearray(path.read_bytes())
    broken[-1] ^= 1
    path.write_bytes(broken)
    said, found = content_digest(TENSORS), content_digest(load_file(path))
    with pytest.raises(CorruptCheckpoint, match=f"{found}.*{said}"):
        read_canonical(path)


def test_a_file_without_digest_is_read(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "x.safetensors")
    tensors, metadata = read_canonical(tmp_path / "x.safetensors")
    assert tensors["a"].tolist() == [1.0]
    assert metadata == {}


@pytest.mark.parametrize("cut", [0, 5, 40, -1])
def test_a_truncated_file_is_corrupt(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "x.safetensors"
    write_canonical(path, TENSORS, {})
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(CorruptCheckpoint, match="no whole safetensors file" if cut else "is empty"):
        read_canonical(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsNotFound, match="no such file"):
        read_canonical(tmp_path / "x.safetensors")


def test_safetensors_are_told_from_other_files(tmp_path: Path) -> None:
    write_canonical(tmp_path / "x.safetensors", TENSORS, {})
    torch.save({}, tmp_path / "x.pth")
    (tmp_path / "empty").touch()
    assert [is_safetensors(tmp_path / name) for name in ("x.safetensors", "x.pth", "empty")] == [True, False, False]


class Interrupted(Mapping[str, Tensor]):
    """Tensors of which the last raises when it is to be written."""

    def __init__(self, error: BaseException) -> None:
        self.error, self.asked = error, 0

    def __getitem__(self, name: str) -> Tensor:
        self.asked += 1
        if self.asked == 6:  # three for the header, then two are written
            raise self.error
        return TENSORS[name]

    def __iter__(self) -> Iterator[str]:
        return iter(TENSORS)

    def __len__(self) -> int:
        return len(TENSORS)


def test_an_interruption_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_text("the old one")
    with pytest.raises(KeyboardInterrupt):
        write_canonical(path, Interrupted(KeyboardInterrupt()), {})
    assert os.listdir(tmp_path) == ["x.safetensors"]
    assert path.read_text() == "the old one"


class FullDisk(io.FileIO):
    def write(self, data: Any) -> int:
        if self.tell() > 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fdopen", FullDisk)
    with pytest.raises(UnwritableOutput, match=r"x\.safetensors cannot be written: No space left"):
        write_canonical(tmp_path / "x.safetensors", TENSORS, {})
    assert os.listdir(tmp_path) == []


def test_folders_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnwritableOutput, match="No such file or directory"):
        write_canonical(tmp_path / "nowhere" / "x.safetensors", TENSORS, {})
    with pytest.raises(UnwritableOutput, match="Not a directory"):
        write_canonical(tmp_path / "file" / "x.safetensors", TENSORS, {})
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UnwritableOutput, match="Permission denied"):
        write_canonical(tmp_path / "x.safetensors", TENSORS, {})
    tmp_path.chmod(0o700)
    assert os.listdir(tmp_path) == []


def test_narrow_floats_are_widened_exactly() -> None:
    whole = torch.ones(2)
    assert as_float32("k", whole).data_ptr() == whole.data_ptr()
    values = torch.tensor([0.1, -65504.0, float("nan"), float("inf")])
    for dtype in (torch.float16, torch.bfloat16):
        narrow = values.to(dtype)
        wide = as_float32("k", narrow)
        assert wide.dtype == torch.float32
        assert wide.tolist()[:2] == narrow.tolist()[:2]
    assert as_float32("k", torch.tensor([0.5, float("nan")], dtype=torch.float64))[0] == 0.5


@pytest.mark.parametrize("value", [0.1, 1e300])
def test_float64_that_would_be_rounded_is_refused(value: float) -> None:
    with pytest.raises(TensorMismatch, match=r"tensor k\.w holds float64 values"):
        as_float32("k.w", torch.tensor([value], dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_other_types_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(TensorMismatch, match=r"tensor k\.w holds"):
        as_float32("k.w", torch.zeros(2, dtype=dtype))


@pytest.mark.parametrize(
    ("values", "finite"), [([1.0, -1.0], True), ([float("nan"), 1.0], False), ([1.0, float("-inf")], False)]
)
def test_finite(values: list[float], finite: bool) -> None:
    assert is_finite(torch.tensor(values)) is finite


def test_the_header_is_json_padded_to_eight(tmp_path: Path) -> None:
    for length in range(8):
        path = tmp_path / f"{length}.safetensors"
        write_canonical(path, {"a": torch.zeros(1)}, {"k": "x" * length})
        size = int.from_bytes(path.read_bytes()[:8], "little")
        assert size % 8 == 0
        assert json.loads(path.read_bytes()[8 : 8 + size])["__metadata__"] == {"format": "pt", "k": "x" * length}
