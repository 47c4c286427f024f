"""A temporary folder for what other packages write to files only."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from cascadezoo.errors import UnwritableOutput


@contextmanager
def scratch() -> Iterator[Path]:
    """The folder, removed at the end; raises UnwritableOutput for an OSError, such as of a full disk, within."""
    try:
        with TemporaryDirectory(prefix="cascadezoo-") as folder:
            yield Path(folder)
    except OSError as error:
        raise no_room(error.strerror or error) from error


def no_room(reason: object) -> UnwritableOutput:
    """The error of a temporary folder that cannot be written to."""
    return UnwritableOutput(
        f"what is exported cannot be written to the temporary folder first: {reason}; make room there, or name another "
        "with TMPDIR"
    )
