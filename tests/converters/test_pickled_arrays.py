"""Numpy's arrays, scalars and data types in pickles, as every version of numpy and every protocol writes them."""

import io
import pickle
import struct
from typing import Any

import numpy as np
import pytest
from attack_pickles import called, integer, named, sequence, stop, text

from cascadezoo.converters.pickle_reader import PickleReader
from cascadezoo.converters.pickle_values import ArrayRecord, Stub
from cascadezoo.converters.records import Malformed
from cascadezoo.converters.tensors import tensor_of


def read(data: bytes) -> Any:
    return PickleReader(io.BytesIO(data), len(data)).load()


def arrays() -> list[Any]:
    kinds = ["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]
    shapes = [np.arange(6).reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3)), np.array(1), np.arange(3)]
    shapes += [np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1), np.arange(6)[::2], np.empty((0, 3))]
    return [shape.astype(kind, order="A") for kind in kinds for shape in shapes]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_numpy_arrays_equal_the_ones_written(protocol):
    for array in arrays():
        record = read(pickle.dumps(array, protocol))
        assert isinstance(record, ArrayRecord)
        assert (record.values.dtype, record.values.shape) == (array.dtype.name, array.shape)
        np.testing.assert_array_equal(tensor_of(record.values, {}).numpy(), array)


def test_numpy_1_and_python_2_array():
    # numpy 1.x under python 2.7: np.array([1, -2], "<f4"), protocol 2
    head = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    dtype = b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R"
    dtype += b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    record = read(head + b"(K\x01K\x02\x85" + dtype + b"\x89U\x08" + struct.pack("<2f", 1, -2) + b"tb.")
    assert tensor_of(record.values, {}).tolist() == [1, -2]
    assert record.values.dtype == "float32"


@pytest.mark.parametrize("value", [np.float64(0.25), np.float32(0.5), np.int64(-3), np.bool_(True)])
def test_numpy_scalars_become_numbers(value):
    number = read(pickle.dumps(value, 2))
    assert number == value.item()
    assert type(number) is type(value.item())


@pytest.mark.parametrize(
    "array",
    [
        np.array([1], ">f4"),
        np.array([{}], object),
        np.array(["a"]),
        np.array([b"a"]),
        np.array([(1, 2)], [("a", "i4"), ("b", "f4")]),
        np.array(["2020-01-01"], "M8[D]"),
        np.array([1j]),
    ],
)
def test_other_arrays_are_stubs(array):
    assert isinstance(read(pickle.dumps(array, 4)).values, Stub)
    assert isinstance(read(pickle.dumps(array[0], 4)) if array.dtype.kind in "cM" else Stub(""), Stub)


def test_object_array_does_not_run_what_it_holds():
    class Attack:
        def __reduce__(self):
            return pytest.fail, ("ran",)

    record = read(pickle.dumps(np.array([Attack()], object), 4))
    assert isinstance(record.values, Stub)


def array_state(shape: bytes, raw: bytes, code: str = "f4") -> bytes:
    made = called("numpy.core.multiarray._reconstruct", named("numpy.ndarray"), sequence(b"K\x00"), b"C\x01b")
    return stop(made + sequence(b"K\x01", shape, called("numpy.dtype", text(code)), b"\x89", raw) + b"b")


def test_arrays_that_do_not_match_their_bytes():
    assert read(array_state(sequence(b"K\x01"), b"C\x04abcd")).values.shape == (1,)
    for shape, raw in (
        (sequence(b"K\x02"), b"C\x04abcd"),
        (sequence(integer(2**40)), b"C\x04abcd"),
        (sequence(integer(-1)), b"C\x04abcd"),
        (sequence(integer(0), integer(2**61), integer(2**61)), b"C\x00"),
        (sequence(b"K\x01"), b"K\x04"),
        (b"N", b"C\x04abcd"),
    ):
        with pytest.raises(Malformed):
            read(array_state(shape, raw))


def from_buffer(*arguments: bytes) -> bytes:
    dtype = called("numpy.dtype", text("f4"))
    return stop(called("numpy._core.numeric._frombuffer", b"C\x08abcdefgh", dtype, *arguments))


@pytest.mark.parametrize("module", ["numpy.core.numeric", "numpy._core.numeric"])
def test_arrays_of_protocol_5_by_either_name_of_the_module(module):
    data = pickle.dumps(np.arange(6, dtype=np.float32).reshape(2, 3), 5)
    known = next(name for name in (b"numpy.core.numeric", b"numpy._core.numeric") if name in data)
    framed = data.index(b"\x95")  # without the frame, whose length would no longer be right
    data = (data[:framed] + data[framed + 9 :]).replace(
        bytes([len(known)]) + known, bytes([len(module)]) + module.encode()
    )
    assert tensor_of(read(data).values, {}).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_axes_of_protocol_5():
    """The bytes are those of shape (1, 2), whose axes are then exchanged."""
    made = read(from_buffer(sequence(b"K\x01", b"K\x02"), text("K"), sequence(b"K\x01", b"K\x00"))).values
    assert (made.shape, made.strides) == ((2, 1), (1, 2))


@pytest.mark.parametrize(
    "arguments",
    [
        (sequence(b"K\x02"),),
        (sequence(b"K\x03"), text("C")),
        (sequence(b"K\x02"), text("A")),
        (sequence(b"K\x02"), b"K\x01"),
        (sequence(b"K\x02"), text("K")),
        (sequence(b"K\x02"), text("K"), b"N"),
        (sequence(b"K\x01", b"K\x02"), text("K"), sequence(b"K\x00", b"K\x00")),
        (sequence(b"K\x01", b"K\x02"), text("K"), sequence(b"K\x00")),
        (sequence(b"K\x01", b"K\x02"), text("K"), sequence(b"K\x01", b"K\x02")),
        (sequence(b"K\x02"), text("C"), b"N", b"N"),
    ],
)  # fmt: skip
def test_malformed_arrays_of_protocol_5(arguments):
    with pytest.raises(Malformed):
        read(from_buffer(*arguments))
