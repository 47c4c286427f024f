"""Files that appear whole or not at all."""

import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from cascadezoo.errors import OutputExists, UnwritableOutput

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")  # escaped in JSON, or as it is


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, beside ``path``; renamed to it at the end, and removed after an error or Ctrl-C.

    Raises UnwritableOutput.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with open(part, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise UnwritableOutput(f"{path} cannot be written: {error.strerror or error}; nothing was left") from error
    finally:
        if part.exists():  # not renamed
            part.unlink()


def protect(target: Path, source: Path, force: bool) -> None:
    """Raise OutputExists where writing ``target`` would replace its source, or, without ``force``, any file."""
    if target.exists() and target.samefile(source):
        raise OutputExists(f"{target} is the input itself: choose another output")
    if target.exists() and not force:
        raise OutputExists(f"{target} is already there: choose another output, or pass --force to replace it")


def write_json(path: str | os.PathLike[str], document: object) -> Path:
    """Write ``document`` as one line of UTF-8 JSON, whole or not at all; returns the path.  Raises UnwritableOutput."""
    path = Path(path)
    text = json.dumps(document, ensure_ascii=False, allow_nan=False)
    with whole_file(path) as file:  # a file name that is no UTF-8 holds half a surrogate pair, which JSON can escape
        file.write(text.encode(errors="backslashreplace") + b"\n")
    return path


def parse_json(data: bytes | str) -> Any:
    """The value of a JSON text that may come from anyone.

    Raises ValueError where it is no JSON, is nested deeper than Python reads, or holds half a surrogate pair: such
    text can be neither printed nor written.
    """
    try:
        value = json.loads(data)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if _SURROGATE.search(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass")):
        json.dumps(value, ensure_ascii=False).encode()  # UnicodeEncodeError is a ValueError
    return value


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
