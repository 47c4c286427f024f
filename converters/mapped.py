"""A file's bytes as memory: pages are read when they are used, and writing to them never reaches the file."""

import stat
from mmap import ACCESS_COPY, mmap
from pathlib import Path

from cascadezoo.converters.mistaken import about_folder
from cascadezoo.errors import CorruptCheckpoint, WeightsNotFound


def mapped(path: Path) -> mmap:
    """The whole file, copy-on-write.

    Raises:
        WeightsNotFound: there is no such file.
        CorruptCheckpoint: it is empty, no regular file, or cannot be opened.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            about = about_folder(path) if stat.S_ISDIR(status.st_mode) else "it is no regular file: give a file"
            raise CorruptCheckpoint(f"{path} cannot be read as a checkpoint: {about}")
        if not status.st_size:
            raise CorruptCheckpoint(f"{path} is empty: download it again")
        with path.open("rb") as file:
            return mmap(file.fileno(), 0, access=ACCESS_COPY)
    except (FileNotFoundError, NotADirectoryError):
        raise WeightsNotFound(f"{path} does not exist: give the path of a downloaded checkpoint") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path, a file emptied meanwhile
        reason = error.strerror if isinstance(error, OSError) else error
        raise CorruptCheckpoint(f"{str(path)!r} cannot be opened: {reason}") from None
