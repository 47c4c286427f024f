"""How much memory this process has taken at the most, and how much more there is for it, as Linux says; bytes."""

from pathlib import Path

from cascadezoo.errors import UsageError

_ROOT = Path("/")
_NO_LIMIT = 2**60  # cgroup v1 writes a number beyond any memory


def free_memory(root: Path = _ROOT) -> int:
    """What is free for this process: of the machine and, where it is less, of its control groups.

    ``root``: where ``proc`` and ``sys`` lie.  Raises UsageError where the system does not say.
    """
    free = _kibibytes(root / "proc/meminfo", "MemAvailable")
    for limit, used in _limits(root):
        free = min(free, max(0, limit - used))
    return free


def peak_memory(root: Path = _ROOT) -> int:
    """The most that this process has held since ``forget_peak``.  Raises UsageError where the system does not say."""
    return _kibibytes(root / "proc/self/status", "VmHWM")


def held_memory(root: Path = _ROOT) -> int:
    """What this process holds now.  Raises UsageError where the system does not say."""
    return _kibibytes(root / "proc/self/status", "VmRSS")


def forget_peak(root: Path = _ROOT) -> None:
    """Let ``peak_memory`` begin anew.  Raises UsageError where the system does not allow it."""
    try:
        (root / "proc/self/clear_refs").write_text("5")
    except OSError as error:
        raise _unknown() from error


def _kibibytes(path: Path, key: str) -> int:
    try:
        for line in path.read_text().splitlines():
            name, _, value = line.partition(":")
            if name == key:
                return int(value.split()[0]) * 1024
    except (OSError, ValueError, IndexError) as error:
        raise _unknown() from error
    raise _unknown()


def _limits(root: Path) -> list[tuple[int, int]]:
    """Limit and use of each control group that this process is in, and of those above it."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # a system without them
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, limit, used, files = "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            base, limit, used = "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            files = "total_inactive_file"
        else:
            continue
        own = Path(path.lstrip("/"))
        for group in (own, *own.parents):
            numbers = [_number(root / base / group / name) for name in (limit, used)]
            if numbers[0] is not None and numbers[1] is not None and numbers[0] < _NO_LIMIT:
                found.append((numbers[0], numbers[1] - _given_back(root / base / group / "memory.stat", files)))
    return found


def _number(path: Path) -> int | None:
    """The number in a file; None where there is none, as in ``max``."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _given_back(path: Path, key: str) -> int:
    """The copies of files that a group holds, which the system takes back when memory is wanted."""
    try:
        pairs = dict(line.split() for line in path.read_text().splitlines())
        return int(pairs.get(key, 0))
    except (OSError, ValueError):
        return 0


def _unknown() -> UsageError:
    return UsageError("--batch-size auto: this system does not say how much memory is free or taken: give a number")
