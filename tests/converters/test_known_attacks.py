"""Known attacks on model files, each rebuilt small: nothing in it runs, and it ends in one error of ours.

GHSA-w8jq-xcqf-f792 (CVE-2025-1945) and GHSA-7q5r-7gvp-wc82 (CVE-2025-1944): zip archives that a scanner fails to open
and torch opens all the same.  CVE-2026-24747: pickles that set items of a tensor, and storages whose declared size is
not that of their bytes, took torch's weights_only reader outside its memory.  The rest are the kinds in the folder
``attacks`` of huggingface/safetensors.
"""

import io
import marshal
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from attack_pickles import (
    CONTAINERS,
    FLOATS,
    TRIPWIRE,
    integer,
    mapping,
    named,
    saved,
    sequence,
    storage,
    tensor,
    text,
    zip_archive,
    zip_checkpoint,
)

from cascadezoo.converters.canonical import read_canonical
from cascadezoo.converters.checkpoint import read_checkpoint
from cascadezoo.errors import CorruptCheckpoint, UnsafeCheckpoint

pytestmark = pytest.mark.timeout(60)
both_containers = pytest.mark.parametrize("container", CONTAINERS)


class Runs:
    """A pickle that runs a command when Python's own unpickler reads it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"echo {TRIPWIRE}",)


class RunsAndPoses(dict):
    """The same, and passes for the dict it was made from."""

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"__import__('os').system('echo {TRIPWIRE}') or dict()",), None, None, iter(self.items())


# pickled now: inside a test, what they name is watched, and no longer what pickle would find under its name
RUNS = saved(Runs(), "zip")
RUNS_LEGACY = saved(Runs(), "legacy")
RUNS_PLAIN = pickle.dumps(Runs(), 4)
RUNS_ARRAY = np.array([Runs()], dtype=object)
POSES = RunsAndPoses(weight=np.zeros((2, 2), np.float32))
POSING = {
    f"{name}, protocol {protocol}": pickle.dumps(value, protocol)
    for name, value in {"bare": POSES, "value": {"a": POSES}, "state_dict": {"state_dict": POSES}}.items()
    for protocol in (2, 3, 4, 5)
}
POSING_LIST = pickle.dumps([POSES], 4)
POSING_TORCH = {container: saved(POSES, container) for container in CONTAINERS}
POSING_BESIDE = saved({"good": torch.ones(2), "bad": POSES}, "zip")
OBJECTS = pickle.dumps({"good": np.ones(2, np.float32), "bad": RUNS_ARRAY}, 4)


def of_numpy(save: Callable[..., None]) -> bytes:
    file = io.BytesIO()
    save(file, RUNS_ARRAY)
    return file.getvalue()


OF_NUMPY = {"npy": of_numpy(np.save), "npz": of_numpy(np.savez)}


def python_runs(ran: list[str], load: Callable[[], object]) -> None:
    """The control: in the hands of Python's own unpickler something runs, so that a silent tripwire means something."""
    with suppress(TypeError):  # what was watched, and not run, returned nothing
        load()
    assert ran.pop() in ("eval", "system")
    assert not ran


def headers(data: bytes, signature: bytes, name: bytes) -> Iterator[int]:
    """Where the zip headers of this kind lie that are of a member ending with ``name``."""
    name_at, length_at = (30, 26) if signature == b"PK\3\4" else (46, 28)
    at = data.find(signature)
    while at >= 0:
        (length,) = struct.unpack_from("<H", data, at + length_at)
        if data[at + name_at : at + name_at + length].endswith(name):
            yield at
        at = data.find(signature, at + 1)


def flagged(data: bytes, bit: int, *signatures: bytes) -> bytes:
    """``data`` with a general purpose flag of its data.pkl set: at byte 6 of local headers, 8 of the directory's."""
    changed = bytearray(data)
    for signature in signatures:
        for at in headers(data, signature, b"data.pkl"):
            changed[at + (6 if signature == b"PK\3\4" else 8) + bit // 8] |= 1 << bit % 8
    return bytes(changed)


LOCAL, DIRECTORY = b"PK\3\4", b"PK\1\2"
PLACES = {"local header": (LOCAL,), "directory": (DIRECTORY,), "both": (LOCAL, DIRECTORY)}


class TestFlagBits:
    """GHSA-w8jq-xcqf-f792: with a flag set, zipfile refuses the pickle as encrypted, and torch read it."""

    def test_the_attack_is_real(self, ran) -> None:
        """zipfile, and whoever scans with it, stops at the flag; the pickle behind it is live."""
        with zipfile.ZipFile(io.BytesIO(RUNS)) as archive:
            data = archive.read("archive/data.pkl")
        with (
            zipfile.ZipFile(io.BytesIO(flagged(RUNS, 0, DIRECTORY))) as archive,
            pytest.raises(RuntimeError, match="encrypted"),
        ):
            archive.read("archive/data.pkl")
        python_runs(ran, lambda: pickle.loads(data))

    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize("bit", range(16))
    def test_nothing_runs(self, read, ran, bit, place) -> None:
        with pytest.raises((UnsafeCheckpoint, CorruptCheckpoint)):
            read(flagged(RUNS, bit, *PLACES[place]))
        assert not ran

    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize("bit", range(16))
    def test_encryption_is_refused_and_other_flags_change_nothing(self, read, bit, place) -> None:
        data = flagged(saved({"a": torch.tensor([1.0, 2.0])}, "zip"), bit, *PLACES[place])
        if bit in (0, 6, 13):  # encrypted, strongly encrypted, with masked headers
            with pytest.raises(CorruptCheckpoint, match=r"encrypted|not where the directory says"):
                read(data)
        else:
            assert read(data).tensors["a"].tolist() == [1.0, 2.0]


class TestNamesThatDiffer:
    """GHSA-7q5r-7gvp-wc82: the local header has another name than the directory; zipfile breaks, torch goes on."""

    @staticmethod
    def bent(data: bytes) -> bytes:
        return data.replace(b"data.pkl", b"datap.kl", 1)

    def test_the_attack_is_real(self, ran, tmp_path) -> None:
        path = tmp_path / "a.pth"
        path.write_bytes(self.bent(RUNS))
        with pytest.raises(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
            archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
        python_runs(ran, lambda: torch.load(path, weights_only=False))

    @pytest.mark.parametrize("data", [RUNS, saved({"a": torch.zeros(2)}, "zip")], ids=["hostile", "harmless"])
    def test_it_is_refused(self, read, ran, data) -> None:
        with pytest.raises(CorruptCheckpoint, match=r"data\.pkl' is not where the directory says"):
            read(self.bent(data))
        assert not ran


SETTERS = {
    "SETITEM": integer(0) + integer(7) + pickle.SETITEM,
    "SETITEMS": pickle.MARK + integer(0) + integer(7) + integer(1) + integer(7) + pickle.SETITEMS,
    "SETITEM with a tensor": tensor() + tensor() + pickle.SETITEM,
    "SETITEM far outside": integer(2**40) + integer(7) + pickle.SETITEM,
}
TARGETS = {
    "a tensor": tensor(),
    "a tensor without elements": tensor(shape=sequence(integer(0))),
    "a storage": storage(),
    "a list": pickle.EMPTY_LIST,
    "a tuple": sequence(integer(1)),
    "a text": text("aaaa"),
    "a number": integer(5),
}


class TestItemsOfOtherThanDicts:
    """CVE-2026-24747, first part: SETITEM and SETITEMS are for dicts."""

    @both_containers
    @pytest.mark.parametrize("setter", SETTERS)
    @pytest.mark.parametrize("target", TARGETS)
    def test_it_is_refused(self, read, container, target, setter) -> None:
        fragment = mapping({"a": tensor(), "b": TARGETS[target] + SETTERS[setter]})
        with pytest.raises(CorruptCheckpoint, match=r"sets items of a value of type"):
            read(CONTAINERS[container](fragment, {"0": FLOATS}))

    @both_containers
    def test_the_same_on_a_dict_is_read(self, read, container) -> None:
        fragment = mapping({"a": tensor(), "b": pickle.EMPTY_DICT + SETTERS["SETITEMS"]})
        assert read(CONTAINERS[container](fragment, {"0": FLOATS})).tensors["a"].tolist() == [1, 2, 3, 4]


class TestStoragesOfAnotherSize:
    """CVE-2026-24747, second part: how many elements a storage has is said three times, and must be said alike."""

    @both_containers
    @pytest.mark.parametrize("numel", [0, 1, 3, 5, 2**31, 2**40, 2**61, 2**62, 2**64, -1])
    def test_the_pickle_lies(self, read, container, numel) -> None:
        fragment = mapping({"a": tensor(storage(numel=numel), shape=sequence(integer(1)))})
        with pytest.raises(CorruptCheckpoint):
            read(CONTAINERS[container](fragment, {"0": FLOATS})).tensors["a"]

    @both_containers
    @pytest.mark.parametrize("kind", ["torch.DoubleStorage", "torch.HalfStorage", "torch.ByteStorage"])
    def test_the_type_lies(self, read, container, kind) -> None:
        fragment = mapping({"a": tensor(storage(kind=kind))})
        with pytest.raises(CorruptCheckpoint):
            read(CONTAINERS[container](fragment, {"0": FLOATS})).tensors["a"]

    @both_containers
    @pytest.mark.parametrize(
        ("offset", "shape", "strides"),
        [(0, (5,), (1,)), (1, (4,), (1,)), (0, (2, 2), (4, 1)), (0, (4,), (2**61,)), (0, (2**32, 2**32), (0, 0)),
         (2**62 - 1, (1,), (1,)), (0, (2,), (2**62 - 1,)), (4, (1,), (1,)), (0, (4,), (-1,)), (-1, (1,), (1,))],
    )  # fmt: skip
    def test_a_view_leaves_its_storage(self, read, container, offset, shape, strides) -> None:
        view = tensor(
            offset=integer(offset),
            shape=sequence(*map(integer, shape)),
            strides=sequence(*map(integer, strides)),
        )
        with pytest.raises(CorruptCheckpoint):
            read(CONTAINERS[container](mapping({"a": view}))).tensors["a"]

    @both_containers
    def test_one_storage_declared_with_two_sizes(self, read, container) -> None:
        fragment = mapping({"a": tensor(), "b": tensor(storage(numel=2**20), shape=sequence(integer(2**20)))})
        with pytest.raises(CorruptCheckpoint, match="declared twice, differently"):
            read(CONTAINERS[container](fragment, {"0": FLOATS}))


class TestPicklesThatRun:
    """torch_ace, paddle_ace, numpy's object arrays: a value that evaluates text, in each container."""

    @pytest.mark.parametrize("name", POSING)
    def test_in_a_plain_pickle(self, read, ran, name) -> None:
        python_runs(ran, lambda: pickle.loads(POSING[name]))
        with pytest.raises(UnsafeCheckpoint, match=r"eval"):
            read(POSING[name])
        assert not ran

    def test_as_paddle_ace_writes_it(self, read, ran) -> None:
        python_runs(ran, lambda: pickle.loads(POSING_LIST))
        with pytest.raises(CorruptCheckpoint, match="of type list, where a state dict is expected"):
            read(POSING_LIST)
        assert not ran

    @both_containers
    def test_as_torch_ace_writes_it(self, read, ran, container) -> None:
        python_runs(ran, lambda: torch.load(io.BytesIO(POSING_TORCH[container]), weights_only=False))
        with pytest.raises(UnsafeCheckpoint, match=r"eval"):
            read(POSING_TORCH[container])
        assert not ran

    def test_beside_good_tensors(self, read, ran) -> None:
        checkpoint = read(POSING_BESIDE)
        assert checkpoint.tensors["good"].tolist() == [1, 1]
        assert list(checkpoint.unsafe) == ["bad"]
        assert not ran

    def test_in_an_array_of_objects(self, read, ran) -> None:
        python_runs(ran, lambda: pickle.loads(OBJECTS))
        checkpoint = read(OBJECTS)
        assert list(checkpoint.tensors) == ["good"]
        assert checkpoint.tensors["good"].tolist() == [1, 1]
        assert not ran

    @pytest.mark.parametrize("kind", OF_NUMPY)
    def test_in_a_file_of_numpys(self, read, ran, kind) -> None:
        with pytest.raises(CorruptCheckpoint, match=r"no checkpoint|no member named data\.pkl|of numpy"):
            read(OF_NUMPY[kind])
        assert not ran


class TestOtherFrameworks:
    """tf_ace and tf_safe_ace: a Keras file carries marshalled code, a SavedModel is a folder."""

    def test_a_keras_file(self, read, ran) -> None:
        code = marshal.dumps(compile(f"__import__('os').system('echo {TRIPWIRE}')", "lambda", "exec"))
        with pytest.raises(CorruptCheckpoint, match="it is an HDF5 file"):
            read(b"\x89HDF\r\n\x1a\n" + bytes(88) + code)
        assert not ran

    def test_a_saved_model(self, tmp_path) -> None:
        (tmp_path / "model" / "variables").mkdir(parents=True)
        (tmp_path / "model" / "saved_model.pb").write_bytes(b"\x08\x01\x12\x00")
        for path in (tmp_path / "model", tmp_path / "model" / "saved_model.pb"):
            with pytest.raises(CorruptCheckpoint, match="it is a checkpoint of TensorFlow"):
                read_checkpoint(path)


class TestBombs:
    """torch_dos and numpy_dos: members of zeros, deflated a thousand times; none is inflated."""

    ZEROS = bytes(2**26)

    def peak(self, call: Callable[[], object], match: str) -> int:
        """Bytes that Python took at most until the error came."""
        tracemalloc.start()
        try:
            with pytest.raises(CorruptCheckpoint, match=match):
                call()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def test_torch(self, read) -> None:
        numel = len(self.ZEROS) // 4
        big = tensor(storage(numel=numel), shape=sequence(integer(numel)))
        members = {"archive/data.pkl": pickle.PROTO + b"\2" + mapping({"weight": big}) + pickle.STOP}
        data = zip_archive({**members, "archive/data/0": self.ZEROS}, zipfile.ZIP_DEFLATED)
        assert len(data) < 2**17
        assert self.peak(lambda: read(data), "unpack to more than 4 times the file") < 2**20

    def test_a_pickle_that_is_one(self, read) -> None:
        data = zip_archive({"archive/data.pkl": self.ZEROS}, zipfile.ZIP_DEFLATED)
        assert self.peak(lambda: read(data), "unpack to more than 4 times the file") < 2**20

    def test_numpy(self, read) -> None:
        file = io.BytesIO()
        np.savez_compressed(file, weight=np.zeros(2**24, np.float32))
        assert self.peak(lambda: read(file.getvalue()), "unpack to more than|no member named data.pkl") < 2**20

    @pytest.mark.parametrize("numel", [2**33, 2**50])
    def test_a_size_without_bytes(self, read, numel) -> None:
        data = zip_checkpoint(mapping({"a": tensor(storage(numel=numel), shape=sequence(integer(numel)))}), {"0": b""})
        assert self.peak(lambda: read(data), "storage '0' should have") < 2**20


def test_under_the_name_of_canonical_weights(ran, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    for data in (RUNS, RUNS_LEGACY, RUNS_PLAIN, named("os.system") + b"."):
        path.write_bytes(data)
        with pytest.raises(CorruptCheckpoint):
            read_canonical(path)
    assert not ran
