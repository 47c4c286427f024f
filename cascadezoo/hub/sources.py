"""Names of repositories: on the Hugging Face Hub, or a folder laid out as one."""

import re
from dataclasses import dataclass
from pathlib import Path

from cascadezoo.errors import UsageError
from cascadezoo.paths import expanded

_HUB, _LOCAL = "hf-hub:", "local-dir:"
_NAME = r"[\w.-]+/[\w.-]+"
_REPO = re.compile(rf"(?P<repo>{_NAME})(@(?P<revision>\S+))?", re.ASCII)


@dataclass(frozen=True)
class HubSource:
    """A repository on the Hub at a branch, tag or commit; None: its main branch as it is now."""

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{_HUB}{self.repo}" + (f"@{self.revision}" if self.revision else "")


@dataclass(frozen=True)
class LocalSource:
    """A folder that holds the files of a repository."""

    folder: Path

    def __str__(self) -> str:
        return f"{_LOCAL}{self.folder}"


Source = HubSource | LocalSource


def parse(name: str) -> Source | None:
    """The source that ``hf-hub:org/repo[@revision]`` or ``local-dir:path`` names; None for any other kind of name.

    Raises UsageError where what follows the prefix names nothing.
    """
    if name.startswith(_LOCAL):
        if folder := name.removeprefix(_LOCAL):
            return LocalSource(expanded(folder))
        raise UsageError(f"{_LOCAL} wants a folder: {_LOCAL}path/of/the/folder")
    if name.startswith(_HUB):
        if found := _REPO.fullmatch(name.removeprefix(_HUB)):
            return HubSource(found["repo"], found["revision"])
        raise UsageError(
            f"{name!r} names no repository: write {_HUB}organisation/repository, or with @revision after it"
        )
    return None


def is_repository(name: str) -> bool:
    """Whether this is ``organisation/repository``."""
    return re.fullmatch(_NAME, name, re.ASCII) is not None
