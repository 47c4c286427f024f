"""An interpreter of pickles that makes inert data and nothing else.

Python's own unpickler calls what a file names; this one has no way to.  The standard library's opcode table
(`pickletools.opcodes`) decodes the arguments, a stack machine of ours gives the opcodes their meaning, and
`cascadezoo.converters.pickle_values` says what the few admitted globals make.  Lists, dicts, tuples, text, bytes and
numbers come as themselves, sets as lists, byte strings of python 2 as latin-1 text.  What is longer than `MAX_TEXT`
is not copied: it comes as a `Run`, the place in the stream where it lies.

Memory and time stay in proportion to the stream: an argument is compared with what the stream holds before it is
read, every opcode takes from one budget, and no opcode copies what an earlier one made without paying for it.
"""

import codecs
import io
import pickletools
import warnings
from collections.abc import Callable
from mmap import mmap
from typing import Any, TypeGuard

from cascadezoo.converters.pickle_values import (
    ADMITTED,
    Ledger,
    Run,
    Storage,
    Stub,
    call,
    plain_key,
    set_state,
    storage_of,
)
from cascadezoo.converters.records import MAX_NAME, Malformed

MAX_DEPTH = 100  # of nested containers: Python prints and compares recursively, and fails near 1000
MAX_EXTENT = 2**28  # characters and values when what is shared is written out, as printing or comparing does
MAX_INT_BITS = 1024  # Python refuses to print much longer ones; the longest genuine one is a random generator's seed
MAX_MEMO = 2**32  # memo indices are four bytes, but protocol 0 writes decimals, which could be chosen to collide
MAX_PROTOCOL = 5
MAX_TEXT = 2**20  # bytes of a text or byte string that is copied; longer ones hold arrays, and are most of a file

Stream = io.BytesIO | mmap


class PickleReader:
    """Reads the pickles that follow each other in ``stream``, which holds ``size`` bytes; see `load`."""

    def __init__(self, stream: Stream, size: int) -> None:
        self.globals: dict[str, None] = {}  # every global named so far, in order
        self.storages: dict[str, Storage] = {}  # every storage named so far, by key
        self._stream = stream
        self._ledger = Ledger(size)
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    @property
    def refused(self) -> tuple[str, ...]:
        """The globals that became stubs."""
        return tuple(name for name in self.globals if name not in ADMITTED)

    def load(self) -> Any:
        """The value of the next pickle: inert, no deeper than `MAX_DEPTH`, and free of cycles.

        Raises:
            Malformed: a truncated or malformed pickle, or one beyond a limit.
        """
        self._stack, self._marks, self._memo = [], [], {}
        while True:
            code = self._stream.read(1)
            if code not in _ARGUMENT_READERS:
                raise Malformed(f"its pickle ends early, at byte {self._stream.tell()}" if not code else self._at(code))
            self._ledger.take_values(1)
            name, read = _ARGUMENT_READERS[code]
            try:
                argument = read(self._stream) if read else None
            except ValueError:  # decoding errors are ValueErrors too
                raise Malformed(self._at(code)) from None
            if name == "STOP":
                value = self._pop()
                _check_extent(value)
                return value
            _OPERATIONS[name](self, argument)

    def _at(self, code: bytes) -> str:
        return f"its pickle is malformed or truncated near byte {self._stream.tell()} (opcode {code!r})"

    # The stack: `_marks` holds the heights at which groups of items begin.

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _top(self) -> Any:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise Malformed("its pickle takes a value that was never made")
        return self._stack[-1]

    def _pop(self) -> Any:
        value = self._top()
        del self._stack[-1]
        return value

    def _group(self) -> list[Any]:
        if not self._marks:
            raise Malformed("its pickle closes a group that was never opened")
        start = self._marks.pop()
        group = self._stack[start:]
        del self._stack[start:]
        return group

    def _last(self, count: int) -> tuple[Any, ...]:
        return tuple([self._pop() for _ in range(count)][::-1])

    # Opcodes, by the names of pickletools.

    def _mark(self, _: None) -> None:
        self._marks.append(len(self._stack))

    def _discard(self, _: None) -> None:
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self._pop()

    def _proto(self, version: int) -> None:
        if version > MAX_PROTOCOL:
            raise Malformed(f"its pickle has the unknown protocol {version}")

    def _frame(self, _: int) -> None:
        """A hint for buffered readers."""

    def _int(self, value: int) -> None:
        if value.bit_length() > MAX_INT_BITS:
            raise Malformed(f"its pickle holds an integer of {value.bit_length()} bits, more than {MAX_INT_BITS}")
        self._push(value)

    def _put(self, index: int) -> None:
        if not 0 <= index < MAX_MEMO:
            raise Malformed("its pickle has a memo index out of range")
        self._memo[index] = self._top()

    def _memoize(self, _: None) -> None:
        self._put(len(self._memo))

    def _get(self, index: int) -> None:
        if index not in self._memo:
            raise Malformed("its pickle refers to a value that was never made")
        self._push(self._memo[index])

    def _extend(self, items: list[Any]) -> None:
        target = self._top()
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Stub):
            raise Malformed(f"its pickle appends to a value of type {type(target).__name__}")

    def _update(self, items: list[Any]) -> None:
        target = self._top()
        if isinstance(target, dict):
            target.update(_dict(items))
        elif not isinstance(target, Stub):
            raise Malformed(f"its pickle sets items of a value of type {type(target).__name__}")

    def _name(self, name: str) -> Stub:
        if len(name) > MAX_NAME or not name.isprintable():
            raise Malformed("its pickle names a global that is no printable name")
        self.globals[name] = None
        return Stub(name)

    def _stack_global(self, _: None) -> None:
        match self._last(2):
            case (str(module), str(name)) if len(module) + len(name) <= MAX_NAME:
                self._push(self._name(f"{module}.{name}"))
            case _:
                raise Malformed("its pickle names a global by something other than a short text")

    def _call(self, function: Any, args: Any) -> None:
        self._push(call(function, args, self._ledger))

    def _newobj_ex(self, _: None) -> None:
        function, args, keywords = self._last(3)
        if isinstance(function, Stub) and function.name in ADMITTED and keywords != {}:
            raise Malformed(f"{function.name} is given keywords")
        self._call(function, args)

    def _inst(self, name: str) -> None:
        args = tuple(self._group())
        self._call(self._name(name), args)

    def _obj(self, _: None) -> None:
        group = self._group()
        if not group:
            raise Malformed("its pickle makes an object of no class")
        self._call(group[0], tuple(group[1:]))

    def _build(self, _: None) -> None:
        state = self._pop()
        set_state(self._top(), state, self._ledger)

    def _storage(self, _: None) -> None:
        storage = storage_of(self._pop())
        if isinstance(storage, Storage) and self.storages.setdefault(storage.key, storage) != storage:
            raise Malformed(f"storage {storage.key!r} is declared twice, differently")
        self._push(storage)

    def _unsupported(self, _: Any) -> None:
        raise Malformed("its pickle refers to data outside the file")


def _dict(items: list[Any]) -> dict[Any, Any]:
    if len(items) % 2:
        raise Malformed("its pickle holds a key without a value")
    return {plain_key(key): value for key, value in zip(items[::2], items[1::2], strict=True)}


def _counted(width: int, decode: Callable[[memoryview], str | bytes]) -> Callable[[Stream], str | bytes | Run]:
    """The reader of an argument that begins with its length, in ``width`` bytes."""

    def read(stream: Stream) -> str | bytes | Run:
        whole = memoryview(stream) if isinstance(stream, mmap) else stream.getbuffer()
        start = stream.tell() + width
        end = start + int.from_bytes(stream.read(width), "little")
        if end > len(whole):
            raise ValueError("longer than what is left")
        stream.seek(end)
        data = whole[start:end]
        return Run(data, utf8=decode is _utf8) if len(data) > MAX_TEXT else decode(data)

    return read


def _utf8(data: memoryview) -> str:
    return str(data, "utf-8", "surrogatepass")


def _latin1(data: memoryview) -> str:
    return str(data, "latin-1")


def _line(stream: Stream) -> bytes:
    line = stream.readline()
    if line[-1:] != b"\n":
        raise ValueError("a line without an end")
    return line[:-1]


def _dotted_name(stream: Stream) -> str:
    """The argument of GLOBAL and INST, a module and a name; pickletools undoes escapes in them, Python does not."""
    return f"{_line(stream).decode()}.{_line(stream).decode()}"


def _latin1_literal(stream: Stream) -> str:
    """The argument of STRING, a quoted literal; pickletools wants it to be ASCII, python 2 did not."""
    line = _line(stream)
    if len(line) < 2 or line[:1] not in (b"'", b'"') or line[-1:] != line[:1]:
        raise ValueError("a literal without its quotes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an unknown escape stands for itself
        return codecs.escape_decode(line[1:-1])[0].decode("latin-1")


def _check_extent(root: object) -> None:
    """Refuse a value that contains itself, is nested too deeply, or is too long once written out.

    One pass without recursion: (depth, extent) of every container, children first.
    """
    measures: dict[int, tuple[int, int]] = {}
    path: set[int] = set()  # containers entered and not left
    stack = [(root, False)]
    while stack:
        node, leave = stack.pop()
        if id(node) in measures or not _is_nest(node):
            continue
        children = (*node.keys(), *node.values()) if isinstance(node, dict) else node
        if leave:
            parts = [measures.get(id(child)) or _leaf(child) for child in children]
            depth, extent = 1 + max(part[0] for part in parts), 1 + sum(part[1] for part in parts)
            if depth > MAX_DEPTH:
                raise Malformed(f"its pickle nests containers more than {MAX_DEPTH} deep")
            if extent > MAX_EXTENT:
                raise Malformed(f"its pickle unfolds to more than {MAX_EXTENT} values and characters")
            measures[id(node)] = depth, extent
            path.remove(id(node))
        elif id(node) in path:
            raise Malformed("its pickle holds a container that contains itself")
        else:
            path.add(id(node))
            stack.append((node, True))
            stack.extend((child, False) for child in children if _is_nest(child))


def _is_nest(value: object) -> TypeGuard[dict[Any, Any] | list[Any] | tuple[Any, ...]]:
    return isinstance(value, dict | list | tuple) and len(value) > 0


def _leaf(value: object) -> tuple[int, int]:
    """Depth and extent of what is no nest."""
    return int(isinstance(value, dict | list | tuple)), 1 + len(value) if isinstance(value, str | bytes | Run) else 1


_ARGUMENT_READERS: dict[bytes, tuple[str, Callable[[Any], Any] | None]] = {
    opcode.code.encode("latin-1"): (opcode.name, opcode.arg.reader if opcode.arg else None)
    for opcode in pickletools.opcodes
} | {
    b"B": ("BINBYTES", _counted(4, bytes)),
    b"\x8e": ("BINBYTES8", _counted(8, bytes)),
    b"\x96": ("BYTEARRAY8", _counted(8, bytes)),
    b"T": ("BINSTRING", _counted(4, _latin1)),
    b"X": ("BINUNICODE", _counted(4, _utf8)),
    b"\x8d": ("BINUNICODE8", _counted(8, _utf8)),
    b"S": ("STRING", _latin1_literal),
    b"c": ("GLOBAL", _dotted_name),
    b"i": ("INST", _dotted_name),
    b"P": ("PERSID", None),  # refused, whatever it says
}

_OPERATIONS: dict[str, Callable[[PickleReader, Any], None]] = {
    "PROTO": PickleReader._proto,
    "FRAME": PickleReader._frame,
    # values
    "NONE": lambda reader, _: reader._push(None),
    "NEWTRUE": lambda reader, _: reader._push(True),
    "NEWFALSE": lambda reader, _: reader._push(False),
    **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"), PickleReader._int),
    **dict.fromkeys(("FLOAT", "BINFLOAT"), PickleReader._push),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), PickleReader._push),
    **dict.fromkeys(("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"), PickleReader._push),
    **dict.fromkeys(("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"), PickleReader._push),
    "NEXT_BUFFER": PickleReader._unsupported,
    "READONLY_BUFFER": PickleReader._unsupported,
    # containers
    "EMPTY_TUPLE": lambda reader, _: reader._push(()),
    "TUPLE1": lambda reader, _: reader._push(reader._last(1)),
    "TUPLE2": lambda reader, _: reader._push(reader._last(2)),
    "TUPLE3": lambda reader, _: reader._push(reader._last(3)),
    "TUPLE": lambda reader, _: reader._push(tuple(reader._group())),
    "EMPTY_LIST": lambda reader, _: reader._push([]),
    "LIST": lambda reader, _: reader._push(reader._group()),
    "APPEND": lambda reader, _: reader._extend([reader._pop()]),
    "APPENDS": lambda reader, _: reader._extend(reader._group()),
    "EMPTY_SET": lambda reader, _: reader._push([]),
    "ADDITEMS": lambda reader, _: reader._extend(reader._group()),
    "FROZENSET": lambda reader, _: reader._push(reader._group()),
    "EMPTY_DICT": lambda reader, _: reader._push({}),
    "DICT": lambda reader, _: reader._push(_dict(reader._group())),
    "SETITEM": lambda reader, _: reader._update(list(reader._last(2))),
    "SETITEMS": lambda reader, _: reader._update(reader._group()),
    # stack and memo
    "MARK": PickleReader._mark,
    "POP": PickleReader._discard,
    "POP_MARK": lambda reader, _: reader._group().clear(),
    "DUP": lambda reader, _: reader._push(reader._top()),
    "MEMOIZE": PickleReader._memoize,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), PickleReader._put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), PickleReader._get),
    # globals, and what the file wants made of them
    "GLOBAL": lambda reader, name: reader._push(reader._name(name)),
    "STACK_GLOBAL": PickleReader._stack_global,
    **dict.fromkeys(
        ("EXT1", "EXT2", "EXT4"), lambda reader, code: reader._push(reader._name(f"copyreg.extension[{code}]"))
    ),
    "REDUCE": lambda reader, _: reader._call(*reader._last(2)),
    "NEWOBJ": lambda reader, _: reader._call(*reader._last(2)),
    "NEWOBJ_EX": PickleReader._newobj_ex,
    "INST": PickleReader._inst,
    "OBJ": PickleReader._obj,
    "BUILD": PickleReader._build,
    "PERSID": PickleReader._unsupported,
    "BINPERSID": PickleReader._storage,
}
