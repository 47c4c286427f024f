"""What is learnt of a file before any tensor of it is made."""

import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from attack_pickles import legacy_checkpoint, mapping, saved, tensor
from readers import small_files
from safetensors.torch import _SIZE, save_file

from cascadezoo.converters.keymap import FIRST_ROW_LAST, REVERSE_INPUT_CHANNELS, TRANSPOSE, without_first_rows
from cascadezoo.converters.records import ITEM_SIZES
from cascadezoo.converters.safetensors_file import open_safetensors
from cascadezoo.converters.tensors import strided

STATE = {"a": torch.zeros(2, 3), "b": torch.tensor(1), "c": torch.zeros(0, 4, dtype=torch.bfloat16)}
DECLARED = {"a": ((2, 3), "float32"), "b": ((), "int64"), "c": ((0, 4), "bfloat16")}


@pytest.mark.parametrize("container", ["zip", "legacy"])
def test_R11_records_of_torch(read, container: str) -> None:
    checkpoint = read(saved(STATE, container))
    assert {key: (record.shape, record.dtype) for key, record in checkpoint.records.items()} == DECLARED
    assert list(checkpoint.tensors) == list(checkpoint.records) == list(STATE)


def test_R11_records_of_numpy(read) -> None:
    state = {"a": np.zeros((2, 3), np.float16), "b": np.array(True), "c": np.zeros((3, 0), np.uint8)}
    records = read(pickle.dumps(state, 4)).records
    found = {key: (record.shape, record.dtype) for key, record in records.items()}
    assert found == {"a": ((2, 3), "float16"), "b": ((), "bool"), "c": ((3, 0), "uint8")}


def test_R11_records_of_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(small_files.safetensors())
    file = open_safetensors(path)
    assert {key: (record.shape, record.dtype) for key, record in file.records.items()} == {
        "a.bias": ((2,), "float32"),
        "a.weight": ((2, 3), "float32"),
    }
    assert file.metadata["publisher"] == "mmdet"
    assert file.content_digest() == file.metadata["content_digest"]
    assert file.tensors["a.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_C3_checkpoints_are_read_without_torch(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(small_files.torch_zip())
    (tmp_path / "b.pth").write_bytes(small_files.torch_legacy())
    (tmp_path / "c.pdparams").write_bytes(small_files.pdparams())
    (tmp_path / "d.safetensors").write_bytes(small_files.safetensors())
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from cascadezoo.converters import CONVERTERS
        from cascadezoo.converters.checkpoint import read_checkpoint
        from cascadezoo.converters.safetensors_file import open_safetensors

        for name in ("a.pth", "b.pth", "c.pdparams"):
            checkpoint = read_checkpoint(name)
            print(name, checkpoint.records["a.weight"].shape)
            for converter in CONVERTERS.values():
                converter.refusal(checkpoint.records.keys(), checkpoint.meta)
        file = open_safetensors(Path("d.safetensors"))
        print(file.records["a.weight"].shape, file.digest_fault())
        print(sorted({"torch", "numpy"} & sys.modules.keys()))
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.splitlines() == [
        "a.pth (2, 3)",
        "b.pth (2, 3)",
        "c.pdparams (2, 3)",
        "(2, 3) None",
        "[]",
    ], done.stderr


@pytest.mark.parametrize(
    ("transform", "canonical", "published"),
    [
        (REVERSE_INPUT_CHANNELS, (64, 3, 7, 7), (64, 3, 7, 7)),
        (TRANSPOSE, (81, 1024), (1024, 81)),
        (FIRST_ROW_LAST, (81,), (81,)),
        (without_first_rows(4, "why"), (320, 1024), (324, 1024)),
    ],
)
def test_R11_a_transform_tells_the_published_shape(transform, canonical, published) -> None:
    assert transform.source_shape(canonical) == published
    assert transform.inverse(torch.zeros(canonical)).shape == published


def test_R11_an_unaligned_tensor_copies_its_own_elements(read) -> None:
    fragments = [mapping({"a": tensor(), "x" * (padding + 1): b"N"}) for padding in range(4)]
    for value in (read(legacy_checkpoint(fragment)).tensors["a"] for fragment in fragments):
        assert value.tolist() == [1, 2, 3, 4]
    numbers = np.arange(1000, dtype=np.int32).tobytes()
    value = strided(bytearray(b"x" + numbers), 1 + 4 * 10, "int32", (2,), (500,))
    assert value.tolist() == [10, 510]
    assert value.untyped_storage().nbytes() == 2 * 4


def test_writing_to_a_tensor_reaches_neither_file_nor_bytes() -> None:
    data = np.arange(3, dtype=np.float32).tobytes()
    strided(data, 0, "float32", (3,), (1,)).add_(1)
    assert data == np.arange(3, dtype=np.float32).tobytes()


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "complex64", "uint16", "uint32", "uint64", "bool"])
def test_types_that_numpy_or_torch_treat_apart(dtype: str) -> None:
    kind = getattr(torch, dtype)
    expected = torch.tensor([[0, 1, 1], [1, 0, 0]]).to(kind)
    raw = bytearray(bytes(expected.flatten().view(torch.uint8)))
    value = strided(raw, 0, dtype, (2, 3), (3, 1))
    assert value.dtype == kind
    assert bytes(value.flatten().view(torch.uint8)) == bytes(raw)


@pytest.mark.parametrize("spaces", range(4))
def test_files_of_the_safetensors_library(tmp_path: Path, spaces: int) -> None:
    """Every type that it writes, at every alignment, empty and of no axis too."""
    kinds = [getattr(torch, name) for name in ITEM_SIZES if getattr(torch, name) in _SIZE]  # older ones write fewer
    state = {str(kind): torch.tensor([[0, 1, 2], [1, 0, 0]]).to(kind) for kind in kinds}
    state |= {"scalar": torch.tensor(0.5), "empty": torch.zeros(0, 2), "one": torch.tensor([7], dtype=torch.uint8)}
    path = tmp_path / "a.safetensors"
    save_file(state, path, {"key": "value"})
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    path.write_bytes((size + spaces).to_bytes(8, "little") + data[8 : 8 + size] + b" " * spaces + data[8 + size :])
    file = open_safetensors(path)
    assert file.tensors.keys() == state.keys()
    assert file.metadata == {"key": "value"}
    for name, expected in state.items():
        found = file.tensors[name]
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert bytes(found.flatten().view(torch.uint8)) == bytes(expected.flatten().view(torch.uint8))
    found = file.tensors["scalar"].add_(1)
    assert found.item() == 1.5
    assert path.read_bytes()[16 + size + spaces :] == data[16 + size :]
