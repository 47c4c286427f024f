"""The report of a part, which is on disk from its first result on, and the time that the part has."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cascadezoo.benchmarks.reports.schema import gpu_driver
from cascadezoo.environment import environment
from cascadezoo.files import whole_file

RUNNING, PASSED, FAILED, CUT, LEFT_OUT = "running", "passed", "failed", "cut", "left out"
MOST_WORDS = 4000  # of a failure in the report, in characters: a compiler's first errors are among them


class Deadline:
    """Some seconds from now on."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """The seconds that are left; none are 0."""
        return max(0.0, self._end - time.monotonic())


class Report:
    """What a part has found so far.

    Attributes:
        data: JSON; ``status`` is one of the words above, ``failures`` says by name what went wrong, ``left_out`` names
            what there was no time for, and ``rows`` are results.
    """

    def __init__(self, path: Path, part: str, deadline: Deadline) -> None:
        self.path, self.deadline = path, deadline
        self.data: dict[str, Any] = {"part": part, "status": RUNNING, "failures": {}, "left_out": [], "rows": []}
        self._environment = {**environment(), "driver": gpu_driver()}
        self.write()

    def write(self) -> None:
        """Bring the file up to date; a reader never sees half of it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(self.path) as file:
            file.write(json.dumps({**self.data, "environment": self._environment}, indent=2).encode() + b"\n")

    def fail(self, what: str, why: str) -> None:
        """Take down that ``what`` went wrong."""
        self.data["failures"][what] = why
        self.write()

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """A step whose failure is written down and does not stop the others."""
        try:
            yield
        except Exception as error:
            self.fail(what, f"{type(error).__name__}: {str(error)[:MOST_WORDS] or 'no message'}")
        else:
            self.write()

    def has_time(self, what: str, seconds: float) -> bool:
        """Whether a step that takes so many seconds may begin; where not, it is named among what was left out."""
        if self.deadline.left() >= seconds:
            return True
        self.data["left_out"].append(what)
        self.write()
        return False

    def end(self) -> bool:
        """Say whether all that was tried passed."""
        self.data["status"] = FAILED if self.data["failures"] else PASSED
        self.write()
        return not self.data["failures"]
