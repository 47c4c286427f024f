"""The environment that a measurement depends on, recorded beside every result."""

import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cascadezoo import manifest

_PACKAGES = (
    "cascadezoo",
    "torch",
    "torchvision",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "pycocotools",
    "hotcoco",
    "safetensors",
    "pydantic",
    "click",
)


def environment() -> dict[str, Any]:
    """The machine, the software and the code of this process, as JSON data.

    ``cores``: how many this process may use.  ``commit``: None outside a git checkout of cascadezoo, and ``modified``
    whether the checkout differs from it.  Never imports torch: its GPU and threads are described where it is
    imported already.
    """
    commit = _commit()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "modified": commit and bool(_git("status", "--porcelain", "--untracked-files=no")),
        "manifest_sha256": manifest.digest(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.platform(),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "packages": {name: number for name in _PACKAGES if (number := _version(name))},
        "torch": _torch(),
    }


def is_first_process() -> bool:
    """Whether this process is the one that writes and reports: alone, or the first that ``torchrun`` started."""
    return os.environ.get("RANK", "0") == "0"


def _torch() -> dict[str, Any] | None:
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"threads": torch.get_num_threads(), "cuda": torch.version.cuda, "gpu": gpu}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.M) if cpuinfo.exists() else None
    return model[1] if model else platform.processor()


def _commit() -> str | None:
    ours = _git("ls-files", "--error-unmatch", Path(__file__).name)  # an installed copy may lie in another project
    return _git("rev-parse", "HEAD") if ours else None


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git, or no checkout
        return None
