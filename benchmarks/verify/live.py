"""The report of a run while it lasts: all of its entries, those to come as SKIPPED, rewritten whole as each is done.

An earlier report settles entries of a later run: what it says of them is taken as it is.
"""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from cascadezoo.benchmarks.reports.schema import EntryReport, Machine, Report, Settings, read_report, text_of
from cascadezoo.benchmarks.reports.verdict import Verdict
from cascadezoo.errors import CascadezooError, UnwritableOutput, UsageError
from cascadezoo.files import whole_file

REPORT = "report.json"  # in a run folder
PENDING = "not finished yet"  # the reason of what is still to come

_log = logging.getLogger("cascadezoo")


class LiveReport:
    """A report that grows.

    Args:
        head: the report without entries.
        pending: what stands for each entry until it is done, in their order.
        path: the file that shows it; None: nowhere.
    """

    def __init__(self, head: Report, pending: Iterable[EntryReport], path: Path | None) -> None:
        self._head, self._path = head, path
        self._machines = list(head.machines)
        self._entries = {entry.name: entry for entry in pending}

    def take(self, entry: EntryReport, machine: Machine) -> EntryReport:
        """An entry that an earlier report has settled."""
        if machine not in self._machines:
            self._machines.append(machine)
        taken = entry.model_copy(update={"machine": self._machines.index(machine)})
        self._entries[entry.name] = taken
        return taken

    def add(self, entry: EntryReport) -> None:
        """An entry that is done now."""
        self._entries[entry.name] = entry

    def whole(self, seconds: float) -> Report:
        """All of it, after so many seconds."""
        timing = self._head.timing.model_copy(update={"seconds": round(seconds, 3)})
        entries = tuple(self._entries.values())
        return self._head.model_copy(update={"machines": tuple(self._machines), "entries": entries, "timing": timing})

    def write(self, seconds: float) -> None:
        """Show it as it is now; the run goes on where that fails."""
        if self._path is None:
            return
        try:
            with whole_file(self._path) as file:
                file.write(text_of(self.whole(seconds)).encode(errors="backslashreplace"))
        except UnwritableOutput as error:
            _log.warning("%s", error)


def earlier_report(folder: Path) -> Report | None:
    """The report of the latest call on a run folder, if there is one that can be read."""
    try:
        return read_report(folder / REPORT)
    except (CascadezooError, OSError):
        return None


def settled_by(earlier: Report, settings: Settings, given: str | None) -> Mapping[str, EntryReport]:
    """The entries that an earlier report has, all but those that FAILed, ended in ERROR or were not finished.

    ``given``: the SHA-256 of weights that were given now.  Raises UsageError where its figures come from other
    settings.
    """
    then, now = (one.model_copy(update={"shard": None}) for one in (earlier.settings, settings))
    differ = [name for name in Settings.model_fields if getattr(then, name) != getattr(now, name)]
    if differ:
        raise UsageError(
            f"the earlier report has other settings ({', '.join(differ)}): give the same options, or measure everything"
        )
    return {
        entry.name: entry
        for entry in earlier.entries
        if entry.verdict not in (Verdict.FAIL, Verdict.ERROR)
        and not is_pending(entry)
        and (entry.given.sha256 if entry.given else None) == given
    }


def is_pending(entry: EntryReport) -> bool:
    """Whether a report was written before this entry was done."""
    reasons = [part.reason for part in entry.accuracy] + ([entry.speed.reason] if entry.speed else [])
    return PENDING in reasons
