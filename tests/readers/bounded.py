"""Reads files, each in turn, and prints what became of it: ``python -m readers.bounded VERB FOLDER``.

A line of JSON before each file and one after it, so that whoever waits knows the file that never ended.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from cascadezoo.checkpoints.conversion import convert, expected_shapes
from cascadezoo.checkpoints.inspection import inspect
from cascadezoo.converters import CONVERTERS
from cascadezoo.errors import CascadezooError
from cascadezoo.images import read_image

ROOM = 2**31  # bytes of address space beyond what is mapped after the imports


def peak() -> int:
    """Bytes of memory that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _convert(path: Path) -> None:
    output = path.with_suffix(".converted.safetensors")
    try:
        convert(path, "paddle" if path.suffix == ".pdparams" else "mmdet", output=output)
    finally:
        output.unlink(missing_ok=True)


def _inspect(path: Path) -> None:
    inspect(path).to_json(tensors=True)


VERBS: dict[str, Callable[[Path], object]] = {"inspect": _inspect, "convert": _convert, "image": read_image}


def main() -> None:
    verb, folder = VERBS[sys.argv[1]], Path(sys.argv[2])
    for publisher in CONVERTERS:
        expected_shapes(publisher)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + ROOM, mapped + ROOM))
    before = peak()
    for path in sorted(folder.iterdir()):
        print(json.dumps({"file": path.name}), flush=True)
        started = time.monotonic()
        try:
            verb(path)
            outcome = "read"
        except CascadezooError as error:
            outcome = type(error).__name__
        except BaseException as error:
            outcome = f"raw {type(error).__name__}: {str(error)[:200]}"
        done = {"outcome": outcome, "bytes": peak() - before, "seconds": round(time.monotonic() - started, 1)}
        print(json.dumps({"file": path.name, **done}), flush=True)


if __name__ == "__main__":
    main()
