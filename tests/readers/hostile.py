"""Small files that are made to take memory or time, by what they are made to abuse: name -> their bytes."""

import io
import json
import pickle
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping

from attack_pickles import (
    FLOATS,
    array,
    called,
    integer,
    legacy_checkpoint,
    mapping,
    named,
    sequence,
    stop,
    storage,
    tensor,
    text,
    zip_archive,
    zip_checkpoint,
)
from PIL import Image

MIB = 2**20
SPLIT = "UnpackBigParamInfor@@"
DETECTOR = "roi_head.bbox_head.0.shared_fcs.{}.weight"  # names that look like mmdetection's
RECONSTRUCT = "numpy.core.multiarray._reconstruct"


def kept(fragment: bytes, place: int) -> bytes:
    """The fragment's value in the memo, and nowhere else."""
    return fragment + pickle.BINPUT + bytes([place]) + pickle.POP


def get(place: int) -> bytes:
    return pickle.BINGET + bytes([place])


def byte_string(length: int) -> bytes:
    return pickle.BINBYTES + struct.pack("<I", length) + bytes(length)


def repeated(value: bytes, count: int, key: str = "a{}") -> bytes:
    """A mapping of many names to values that are all written alike."""
    return mapping({key.format(i): value for i in range(count)})


def split_of_one(names: int, size: int, slice_: bytes, before: bytes) -> bytes:
    """A split tensor of Paddle's whose slices, by many names, are all ``slice_``."""
    slices = pickle.EMPTY_LIST + pickle.MARK + b"".join(text(f"a{i}") for i in range(names)) + pickle.APPENDS
    table = mapping({"w": mapping({"OriginShape": sequence(integer(names * size // 4)), "slices": slices})})
    return stop(before + repeated(slice_, names) + text(SPLIT) + table + pickle.SETITEM, 4)


def slices_of_one_array(names: int, size: int) -> bytes:
    whole = array(byte_string(size), sequence(integer(size // 4)))
    return split_of_one(names, size, get(0), kept(whole, 0))


def slices_of_the_same_bytes(names: int, size: int) -> bytes:
    one = array(get(0), sequence(integer(size // 4)))
    return split_of_one(names, size, one, kept(byte_string(size), 0))


def names_of_one_array(names: int, size: int) -> bytes:
    whole = array(byte_string(size), sequence(integer(size // 4)))
    return stop(kept(whole, 0) + repeated(get(0), names, "bbox_head.bbox_{}"), 4)


def legacy_names_of_one_storage(names: int, size: int, padding: int) -> bytes:
    shape = sequence(integer(size // 4))
    one = tensor(get(0), shape=shape)
    state = kept(tensor(storage(numel=size // 4) + pickle.BINPUT + b"\0", shape=shape), 1)
    return legacy_checkpoint(state + repeated(one, names, "x" * padding + DETECTOR), {"0": bytes(size)})


def names_of_one_tensor(names: int) -> bytes:
    return zip_checkpoint(kept(tensor(), 0) + repeated(get(0), names, DETECTOR), {"0": FLOATS})


def empty_tensors(count: int) -> bytes:
    args = (storage(numel=0), integer(0), sequence(integer(0)), sequence(integer(1)), pickle.NEWFALSE)
    before = kept(named("torch._utils._rebuild_tensor_v2"), 0)
    before += kept(sequence(*args, called("collections.OrderedDict")), 1)
    return zip_checkpoint(before + repeated(get(0) + get(1) + pickle.REDUCE, count), {"0": b""})


def empty_arrays(count: int) -> bytes:
    before = kept(named(RECONSTRUCT), 0) + kept(sequence(named("numpy.ndarray"), sequence(integer(0)), text("b")), 1)
    return stop(before + repeated(get(0) + get(1) + pickle.REDUCE, count))


def many(fragments: bytes) -> bytes:
    return stop(pickle.EMPTY_LIST + pickle.MARK + fragments + pickle.APPENDS, 4)


def config(text_of_config: str) -> bytes:
    state = mapping({DETECTOR.format(0): tensor()})
    return zip_checkpoint(mapping({"state_dict": state, "meta": mapping({"cfg": text(text_of_config)})}))


RESNEXT = "backbone=dict(type='ResNeXt', depth=101, groups={}, base_width={}))"


def deflated(members: Mapping[str, bytes]) -> bytes:
    return zip_archive(members, zipfile.ZIP_DEFLATED)


def tensors_of_a_deflated_storage(names: int, size: int) -> bytes:
    """Three parts of the storage's four hardly shrink, so that it passes for a compressed checkpoint."""
    noise = random.Random(0).randbytes(size // 4 * 3)
    one = tensor(get(0), shape=sequence(integer(size // 4)))
    whole = tensor(storage(numel=size // 4) + pickle.BINPUT + b"\0", shape=sequence(integer(size // 4)))
    pickled = stop(kept(whole, 1) + repeated(one, names, DETECTOR))
    return deflated({"r/data.pkl": pickled, "r/data/0": noise + bytes(size - len(noise))})


CHECKPOINTS: dict[str, Callable[[], bytes]] = {
    "R9 config with a number of 5000 digits.pth": lambda: config(RESNEXT.format("9" * 5000, 4)),
    "R9 config with a width of 5000 digits.pth": lambda: config(RESNEXT.format(32, "9" * 5000)),
    "R9 config with digits of another script.pth": lambda: config(RESNEXT.format("\u0663" * 5000, 4)),
    "R9 config of parentheses.pth": lambda: config("backbone=dict(" + "(" * 900_000),
    "R9 config of spaces.pth": lambda: config("backbone=dict(type" + " " * 900_000),
    "R9 config of folders.pth": lambda: config("\n".join(f"work_dir='cascade_rcnn_r50_{i}'" for i in range(25_000))),
    "R9 config with a null and a surrogate.pth": lambda: config("work_dir='\0\ud800'\nbackbone=dict(depth=\0"),
    "R9 integer of a million bytes.pkl": lambda: stop(pickle.LONG4 + struct.pack("<i", 10**6) + b"\x7f" * 10**6),
    "R9 integer of a million digits.pkl": lambda: stop(pickle.INT + b"9" * 10**6 + b"\n"),
    "R9 tuples 100,000 deep.pkl": lambda: stop(pickle.NONE + pickle.TUPLE1 * 100_000),
    "R9 list in itself.pkl": lambda: stop(mapping({"a": array(), "b": b"]q\0h\0a"})),
    "R10 3000 slices of one array.pdparams": lambda: slices_of_one_array(3000, MIB),
    "R10 30,000 slices of one array.pdparams": lambda: slices_of_one_array(30_000, MIB),
    "R10 slices of the same bytes.pdparams": lambda: slices_of_the_same_bytes(3000, MIB),
    "R10 19,000 names of one array.pdparams": lambda: names_of_one_array(19_000, MIB),
    "R10 deflated storage of many names.pth": lambda: tensors_of_a_deflated_storage(2000, 8 * MIB),
    "R10 zip bomb.pth": lambda: deflated({"r/data.pkl": stop(mapping({"a": tensor()})), "r/data/0": bytes(64 * MIB)}),
    "R10 24,000 members.pth": lambda: zip_archive({f"r/data/{i}": b"" for i in range(24_000)}),
    "R11 names of one unaligned storage.pth": lambda: legacy_names_of_one_storage(10_000, 16 * MIB, 1),
    "R11 names of one unaligned storage, otherwise.pth": lambda: legacy_names_of_one_storage(3000, 16 * MIB, 3),
    "R11 19,000 plausible names.pth": lambda: names_of_one_tensor(19_000),
    "R11 300,000 plausible names.pth": lambda: names_of_one_tensor(300_000),
    "R11 300,000 empty tensors.pth": lambda: empty_tensors(300_000),
    "R11 300,000 empty arrays.pdparams": lambda: empty_arrays(300_000),
    "R11 900,000 empty mappings.pkl": lambda: many(pickle.EMPTY_DICT * 900_000),
    "R11 450,000 globals.pkl": lambda: many(b"".join(named(f"m.n{i}") for i in range(450_000))),
}


def safetensors(header: object, body: bytes = b"") -> bytes:
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(data).to_bytes(8, "little") + data + body


def _empty_with(shape: str) -> bytes:
    return safetensors(b'{"a":{"dtype":"F32","shape":[%b],"data_offsets":[0,0]}}' % shape.encode())


ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}

SAFETENSORS: dict[str, Callable[[], bytes]] = {
    "R9 shape 0, 2**63.safetensors": lambda: _empty_with(f"0, {2**63}"),
    "R9 shape 0, 2**62.safetensors": lambda: _empty_with(f"0, {2**62 - 1}, {2**62 - 1}"),
    "R9 shape of 5000 digits.safetensors": lambda: _empty_with("0, " + "9" * 5000),
    "R9 shape of a million axes.safetensors": lambda: _empty_with("9223372036854775807," * 350_000 + "0"),
    "R9 shape 0.0.safetensors": lambda: _empty_with("0.0"),
    "R9 shape NaN.safetensors": lambda: _empty_with("NaN"),
    "R9 shape true.safetensors": lambda: _empty_with("0, true"),
    "R9 shape -0.safetensors": lambda: _empty_with("0, -1"),
    "R9 unknown type.safetensors": lambda: safetensors({"a": {**ONE, "dtype": "F4"}}, bytes(4)),
    "R9 type that is no text.safetensors": lambda: safetensors({"a": {**ONE, "dtype": ["F32"]}}, bytes(4)),
    "R9 name twice.safetensors": lambda: safetensors(b'{"a":%b,"a":%b}' % ((json.dumps(ONE).encode(),) * 2), bytes(4)),
    "R9 metadata twice.safetensors": lambda: safetensors(b'{"__metadata__":{"a":"1","a":"2"}}'),
    "R9 metadata that is a number.safetensors": lambda: safetensors({"__metadata__": {"a": 1}}),
    "R9 metadata that is null.safetensors": lambda: safetensors({"__metadata__": None}),
    "R9 half a surrogate pair.safetensors": lambda: safetensors({"__metadata__": {"a": "\ud800"}}),
    "R9 UTF-16.safetensors": lambda: safetensors('{"__metadata__":{}}'.encode("utf-16-le")),
    "R9 nested brackets.safetensors": lambda: safetensors(b'{"a":' * 500_000),
    "R9 two million brackets.safetensors": lambda: safetensors(b'{"a":[' + b"{}," * 2_000_000 + b"{}]}"),
    "R9 header of 2**63 bytes.safetensors": lambda: (2**63).to_bytes(8, "little") + b'{"a":1}',
    "R9 deep categories.safetensors": lambda: safetensors(
        {"__metadata__": {"categories": '{"names":' + "[" * 100_000 + "]" * 100_000 + "}"}, "a": ONE}, bytes(4)
    ),
    "R11 80,000 empty tensors.safetensors": lambda: safetensors(
        {f"a{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(80_000)}
    ),
    "R11 400,000 metadata.safetensors": lambda: safetensors({"__metadata__": {f"a{i}": "" for i in range(400_000)}}),
}


def _jpeg(side: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    data = file.getvalue()
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + side.to_bytes(2, "big") * 2 + data[at + 4 :]


def _png(side: int) -> bytes:
    """One bit a pixel, and all of it there."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    rows = zlib.compress(bytes((side // 8 + 1) * side), 9)
    head = side.to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _gif(side: int) -> bytes:
    file = io.BytesIO()
    Image.new("P", (8, 8)).save(file, "GIF")
    data = file.getvalue()
    return data[:6] + side.to_bytes(2, "little") * 2 + data[10:]


def _bmp(side: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "BMP")
    data = file.getvalue()
    return data[:18] + side.to_bytes(4, "little") * 2 + data[26:]


IMAGES: dict[str, Callable[[], bytes]] = {
    "P3 JPEG of 30,000 x 30,000.jpg": lambda: _jpeg(30_000),
    "P3 JPEG of 3000 x 3000, most of it missing.jpg": lambda: _jpeg(3000),
    "P3 PNG of 16,384 x 16,384.png": lambda: _png(16_384),
    "P3 GIF of 60,000 x 60,000.gif": lambda: _gif(60_000),
    "P3 BMP of 2**31 x 2**31.bmp": lambda: _bmp(2**31 - 1),
    "P3 PPM of 100,000 x 100,000.ppm": lambda: b"P6 100000 100000 255\n" + bytes(1000),
    "P3 PGM of a million digits.pgm": lambda: b"P5 " + b"9" * 1_000_000 + b" 1 255\n",
}
