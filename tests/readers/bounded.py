"""Reads files in every way there is for them, and prints what became of it: ``python -m readers.bounded FOLDER``.

A line of JSON before each reading and one after it, so that whoever waits knows the file that never ended.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from cascadezoo.checkpoints.conversion import convert
from cascadezoo.checkpoints.inspection import inspect
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


CHECKPOINT: dict[str, Callable[[Path], object]] = {"inspect": _inspect, "convert": _convert}
IMAGE: dict[str, Callable[[Path], object]] = {"read_image": read_image}
READERS = {
    **dict.fromkeys((".pth", ".pkl", ".pdparams", ".safetensors"), CHECKPOINT),
    **dict.fromkeys((".jpg", ".png", ".gif", ".bmp", ".ppm", ".pgm"), IMAGE),
}


def main() -> None:
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + ROOM, mapped + ROOM))
    before = peak()
    for path in sorted(Path(sys.argv[1]).iterdir()):
        for verb, read in READERS[path.suffix].items():
            print(json.dumps({"file": path.name, "verb": verb}), flush=True)
            started = time.monotonic()
            try:
                read(path)
                outcome = "read"
            except CascadezooError as error:
                outcome = type(error).__name__
            except BaseException as error:
                outcome = f"raw {type(error).__name__}: {str(error)[:200]}"
            done = {"outcome": outcome, "bytes": peak() - before, "seconds": round(time.monotonic() - started, 1)}
            print(json.dumps({"file": path.name, "verb": verb, **done}), flush=True)


if __name__ == "__main__":
    main()
