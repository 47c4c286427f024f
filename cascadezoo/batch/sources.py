"""Images that are no files of this machine: objects behind a URI, and rows of Parquet files, read through pyarrow.

pyarrow comes with Ray, the extra ``fleet``, and is imported where it is used.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from cascadezoo.errors import CascadezooError, CorruptData, MissingResource, UnreadableImage, UsageError
from cascadezoo.image_files import most_bytes, not_there

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_WEB = ("http", "https", "ftp")
_COLUMNS = ("path", "bytes", "image")  # taken where a table has just one of them
_ROWS = 32  # of a row group that are handed on together


@dataclass(frozen=True)
class RowGroup:
    """Encoded images in a row group of a Parquet file.

    Attributes:
        file: a path or a URI.
        size: of the file, in bytes.
        number: of the row group in it.
        first: its first row, counted from the file's beginning.
        rows: how many it has.
        column: where the images are; ``a.b`` is the field b of a column of records.
    """

    file: str
    size: int
    number: int
    first: int
    rows: int
    column: str

    def names(self) -> list[str]:
        """What the images are called in the results: the file and the row, from 0."""
        return [f"{self.file}#{row}" for row in range(self.first, self.first + self.rows)]

    def identity(self) -> list[object]:
        """By what it is recognised."""
        return [self.file, self.size, self.number, self.rows, self.column]

    def images(self) -> Iterator[list[bytes | None]]:
        """The images in their order, a few at a time.  Raises CorruptData or MissingResource."""
        import pyarrow.parquet

        with _opened(self.file) as file, _told(self.file):
            table = pyarrow.parquet.ParquetFile(file)
            for batch in table.iter_batches(_ROWS, row_groups=[self.number], columns=[self.column]):
                yield _values(batch, self.column)


Piece = str | RowGroup  # an image by its path or URI, or many in a table


class Entry(NamedTuple):
    """Something in a folder: its name, its address, and whether it is a folder itself."""

    name: str
    address: str
    is_folder: bool


def is_uri(text: str) -> bool:
    """Whether this is an address such as s3://bucket/key."""
    return _URI.match(text) is not None


def require_usable(uri: str) -> None:
    """Raise MissingResource for an address of the web, UsageError for one that holds a secret: results repeat it."""
    parts = urlsplit(uri)
    if parts.scheme in _WEB:
        raise not_there(uri)
    if ":" in parts.netloc.rpartition("@")[0]:
        raise UsageError(
            f"{parts.scheme}://…@{parts.netloc.rpartition('@')[2]}{parts.path} holds credentials, which the results "
            "would repeat: give them as the environment or the files that pyarrow.fs reads"
        )


def entries(uri: str) -> list[Entry] | None:
    """What lies directly behind the URI of a folder, by name; None where it is no folder.

    Raises MissingResource, UnreadableImage, UsageError.
    """
    from pyarrow.fs import FileSelector, FileType

    files, path = _filesystem(uri)
    with _told(uri):
        found = files.get_file_info(path)
        if found.type == FileType.NotFound:
            raise MissingResource(f"no such image: {uri}")
        if found.type != FileType.Directory:
            return None
        inside = files.get_file_info(FileSelector(path))
    base, mark, query = uri.partition("?")
    names = [(PurePosixPath(each.path).name, each.type == FileType.Directory) for each in inside]
    return [Entry(name, f"{base.rstrip('/')}/{quote(name)}{mark}{query}", folder) for name, folder in sorted(names)]


def fetched(uri: str) -> bytes:
    """The bytes of an object.  Raises MissingResource, UnreadableImage."""
    limit = most_bytes()
    with _opened(uri) as file, _told(uri):
        data: bytes = file.read(limit + 1)
    if len(data) > limit:
        raise UnreadableImage(f"{uri} has more than {limit:,} bytes, which no image of the pixels allowed needs")
    return data


def table_pieces(file: str, column: str | None) -> list[Piece]:
    """The images of a Parquet file: paths or URIs, or row groups where its column holds encoded images.

    Raises UsageError for a column that is not there or holds neither, CorruptData, MissingResource.
    """
    import pyarrow.parquet
    from pyarrow import types

    with _opened(file) as opened, _told(file):
        size = opened.size()
        table = pyarrow.parquet.ParquetFile(opened)
        column = _column(file, table.schema_arrow, column)
        kind = _type_of(file, table.schema_arrow, column)
        if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
            values = (value for batch in table.iter_batches(columns=[column]) for value in _values(batch, column))
            return [value or f"{file}#{row}" for row, value in enumerate(values)]
        if not (types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)):
            raise UsageError(f"{file}: the column {column} holds {kind}: give one of paths or of encoded images")
        groups: list[Piece] = []
        first = 0
        for number in range(table.num_row_groups):
            rows = table.metadata.row_group(number).num_rows
            groups.append(RowGroup(file, size, number, first, rows, column))
            first += rows
        return groups


def _column(file: str, schema: Any, column: str | None) -> str:
    if column is not None:
        return column
    found = [name for name in _COLUMNS if name in schema.names]
    if len(found) != 1:
        raise UsageError(f"{file} has the columns {', '.join(schema.names)}: say which holds the images (--column)")
    return found[0]


def _type_of(file: str, schema: Any, column: str) -> Any:
    head, *inner = column.split(".")
    try:
        kind = schema.field(head).type
        for name in inner:
            kind = kind.field(name).type
    except (KeyError, AttributeError) as error:
        raise UsageError(
            f"{file} has no column {column}, only {', '.join(schema.names)}: choose one (--column)"
        ) from error
    return kind


def _values(batch: Any, column: str) -> list[Any]:
    import pyarrow.compute

    _, *inner = column.split(".")
    values = batch.column(0)
    for name in inner:
        values = pyarrow.compute.struct_field(values, name)
    return list(values.to_pylist())


def _filesystem(uri: str) -> tuple[Any, str]:
    from pyarrow.fs import FileSystem

    with _told(uri):
        try:
            files, path = FileSystem.from_uri(uri)
        except (ValueError, NotImplementedError) as error:  # as pyarrow's own are too
            raise UsageError(f"{uri} is no address that pyarrow.fs knows, such as s3://bucket/key: {error}") from error
    return files, path


def _opened(address: str) -> Any:
    from pyarrow.fs import LocalFileSystem

    files, path = _filesystem(address) if is_uri(address) else (LocalFileSystem(), os.path.abspath(address))
    with _told(address):
        return files.open_input_file(path)


class _told:
    """What pyarrow raises inside, as an error of ours that names the address."""

    def __init__(self, address: str) -> None:
        self.address = address

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from pyarrow import ArrowException

        if isinstance(error, CascadezooError):
            return
        if isinstance(error, FileNotFoundError):
            raise MissingResource(f"no such image: {self.address}") from error
        if isinstance(error, OSError):
            raise UnreadableImage(f"{self.address} cannot be read: {error}") from error
        if isinstance(error, ArrowException):
            raise CorruptData(f"{self.address} is no sound Parquet file: {error}") from error
