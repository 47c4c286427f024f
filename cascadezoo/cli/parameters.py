"""What arguments and options stand for: checked while the command line is read, before anything slow is imported, and
offered to whoever presses the tab key."""

import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from cascadezoo import registry
from cascadezoo.cli.terminal import echo
from cascadezoo.environment import is_first_process
from cascadezoo.errors import MissingResource, UnwritableOutput, WeightsNotFound
from cascadezoo.files import can_be_written
from cascadezoo.hub.sources import LocalSource, parse
from cascadezoo.outputs.kinds import KINDS, kinds_of
from cascadezoo.tiling.tiles import Tiles

if TYPE_CHECKING:
    _TextType = click.ParamType[str]
    _TextsType = click.ParamType[tuple[str, ...]]
    _PairType = click.ParamType[tuple[int, int]]
    _ThresholdType = click.ParamType[float | dict[str, float]]
    _TilesType = click.ParamType[Tiles]
    _Items = list[CompletionItem[str]]
else:  # generic in the newest click alone
    _TextType = _TextsType = _PairType = _ThresholdType = _TilesType = click.ParamType
    _Items = list

_STDOUT = Path("-")
_DEVICE = re.compile(r"(cpu|cuda|mps|xpu)(:\d+)?|\d+", re.ASCII)


class EntryName(_TextType):
    """An entry's name as ``registry.info`` takes it.

    Where several publishers have an entry of this name, one line on stderr says which is taken, and which are not.
    """

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name as it was given; raises UnknownName."""
        entry, *others = registry.namesakes(str(value))
        if others and ctx is not None and not ctx.resilient_parsing and is_first_process():
            told: set[str] = ctx.find_root().meta.setdefault(__name__, set())
            if value not in told:
                told.add(value)
                echo(
                    f"{value} is taken for {entry.name}; of that name there are also "
                    f"{' and '.join(other.name for other in others)}: give the whole name to choose",
                    err=True,
                )
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> _Items:
        """The full names that begin so; where none does, the publishers' own names for them."""
        names = [entry.name for entry in registry.all_known()]
        aliases = [alias for entry in registry.all_known() for alias in entry.aliases]
        fitting = [[name for name in some if name.startswith(incomplete)] for some in (names, aliases)]
        return [CompletionItem(name) for name in fitting[0] or fitting[1]]


class ModelName(EntryName):
    """As ``EntryName``, or a repository: ``hf-hub:org/repo[@revision]`` or ``local-dir:path``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name as it was given; raises UsageError (UnknownName), and WeightsNotFound where no such folder is."""
        source = parse(str(value))
        if isinstance(source, LocalSource) and not source.folder.is_dir():
            raise WeightsNotFound(f"{source}: no such folder")
        return str(value) if source else super().convert(value, param, ctx)


class Device(_TextType):
    """A device by the name that ``devices.usable`` takes, or the number of a GPU; whether it is there, torch knows."""

    name = "device"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if not _DEVICE.fullmatch(text):
            self.fail(f"{text!r} names no device: give cpu, cuda, cuda:N or mps", param, ctx)
        return f"cuda:{text}" if text.isdecimal() else text

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> _Items:
        return [CompletionItem(name) for name in ("cpu", "cuda", "mps") if name.startswith(incomplete)]


class Number(click.FloatRange):
    """A finite number in a range: nan lies in every one, for click, and infinity in one that is open above."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is no finite number", param, ctx)
        return number


class Shard(_PairType):
    """One part of several, such as 3/8."""

    name = "i/n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        index, _, count = str(value).partition("/")
        if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
            self.fail(f"{value!r} is not i/n with i from 1 to n, such as 3/8", param, ctx)
        return int(index), int(count)


class Words(_TextsType):
    """Several of ``known``, such as ``a,b``; ``kind``: what one of them is called."""

    name = "words"

    def __init__(self, known: tuple[str, ...], kind: str) -> None:
        self.known, self.kind = known, kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        words = tuple(word.strip() for word in str(value).split(","))
        if unknown := [word for word in words if word not in self.known]:
            self.fail(f"there is no {self.kind} {unknown[0]!r}: choose from {', '.join(self.known)}", param, ctx)
        return words

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> _Items:
        before, comma, begun = incomplete.rpartition(",")
        return [CompletionItem(f"{before}{comma}{word}") for word in self.known if word.startswith(begun)]


class Threshold(_ThresholdType):
    """A lowest score, or several with commas between them: of classes by their names, as in person=0.6, and of all
    others."""

    name = "threshold"
    others = 0.5  # unless given

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | dict[str, float]:
        """As ``Detector.predict`` takes it."""
        if isinstance(value, float | dict):
            return value
        scores = {"*": self.others}
        for part in str(value).split(","):
            name, _, score = part.rpartition("=")
            scores[name.strip() or "*"] = self._score(score, part, param, ctx)
        return scores["*"] if len(scores) == 1 else scores

    def _score(self, text: str, part: str, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            score = float(text)
        except ValueError:
            self.fail(f"{part!r} is no score: give one from 0 to 1, or one for a class, as in person=0.6", param, ctx)
        if not 0 <= score <= 1:
            self.fail(f"{part!r} is not from 0 to 1", param, ctx)
        return score


def threshold_text(threshold: float | dict[str, float]) -> str:
    """A threshold as it is typed."""
    if isinstance(threshold, float):
        return f"{threshold:g}"
    return ",".join(f"{score:g}" if name == "*" else f"{name}={score:g}" for name, score in threshold.items())


class TilesOfImages(_TilesType):
    """Tiles by their size and, after a comma, what neighbours share, both in pixels, such as 1024,256."""

    name = "tiles"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Tiles:
        """The tiles; raises UsageError."""
        if isinstance(value, Tiles):
            return value
        size, comma, overlap = str(value).partition(",")
        if not (size.isdecimal() and (overlap.isdecimal() or not comma)):
            self.fail(f"{value!r} is no size in pixels, with an overlap or without: give 1024, or 1024,256", param, ctx)
        return Tiles(int(size), int(overlap) if comma else None)


class SavedKinds(_TextsType):
    """Kinds of results with commas between them."""

    name = "kinds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Each kind once; raises UsageError."""
        return kinds_of(value) if isinstance(value, str) else tuple(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> _Items:
        """The kinds that begin like what follows the last comma."""
        before, comma, begun = incomplete.rpartition(",")
        return [CompletionItem(before + comma + kind) for kind in KINDS if kind.startswith(begun)]


class _File(click.Path):
    """A path, with ``~`` for the home folder even where the shell leaves it, as in ``--weights=~/x``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        return Path(os.fsdecode(super().convert(os.path.expanduser(value), param, ctx)))


class InputFile(_File):
    """A file that has to be there."""

    missing: type[MissingResource] = MissingResource

    def __init__(self) -> None:
        super().__init__(path_type=Path, dir_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path; raises MissingResource."""
        path = super().convert(value, param, ctx)
        if not path.exists():
            raise self.missing(f"{path} does not exist")
        return path


class ReportFile(InputFile):
    """A report that has to be there, or a run folder for the report in it."""

    def __init__(self) -> None:
        _File.__init__(self, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path of the file; raises MissingResource."""
        path = super().convert(value, param, ctx)
        if not path.is_dir():
            return path
        if not (path / "report.json").is_file():
            raise MissingResource(f"{path} holds no report.json: give a report, or the folder of a run")
        return path / "report.json"


class WeightsFile(InputFile):
    """A file of weights that has to be there."""

    missing = WeightsNotFound

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path; raises WeightsNotFound, and of a folder says which file to give."""
        if (folder := Path(os.path.expanduser(value))).is_dir():
            from cascadezoo.converters.mistaken import about_folder

            self.fail(f"{folder}: {about_folder(folder)}", param, ctx)
        return super().convert(value, param, ctx)


class InputFolder(_File):
    """A folder that has to be there."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, file_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path; raises MissingResource."""
        path = super().convert(value, param, ctx)
        if not path.exists():
            raise MissingResource(f"{path} does not exist: give a folder")
        return path


class InputPath(_File):
    """A file or a folder that has to be there."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path; raises MissingResource."""
        path = super().convert(value, param, ctx)
        if not path.exists():
            raise MissingResource(f"{path} does not exist: give a file or a folder")
        return path


class OutputFile(_File):
    """A file to write, in a folder that is there, or a device; ``-`` is stdout."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, allow_dash=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path; raises UnwritableOutput, before any work is done for it."""
        path = super().convert(value, param, ctx)
        if path != _STDOUT and not can_be_written(path):
            raise UnwritableOutput(
                f"{path} cannot be written: give a file in a folder that is there and can be written to"
            )
        return path


class OutputOfExport(OutputFile):
    """A file to write, or a folder that is there and may be replaced, as the format has it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path; raises UnwritableOutput."""
        path = Path(os.path.expanduser(value))
        if path == _STDOUT:
            self.fail("what is exported is a file or a folder: name it", param, ctx)
        if path.is_dir() and os.access(path.absolute().parent, os.W_OK):
            return path
        return super().convert(value, param, ctx)


class OutputFolder(_File):
    """A folder to write into; it is made where it is missing."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, file_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path; raises UnwritableOutput."""
        path = super().convert(value, param, ctx)
        if path.is_symlink() and not path.exists():
            path = Path(os.path.realpath(path))  # mkdir makes no folder through a link
        there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            raise UnwritableOutput(f"{path} cannot be written to: {there} is no folder, or not yours to write in")
        return path


class OutputOfPredict(OutputFolder):
    """A folder to write into, or a file of JSON lines (``.jsonl``)."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path; raises UnwritableOutput."""
        if str(value).lower().endswith(".jsonl"):
            return OutputFile().convert(value, param, ctx)
        return super().convert(value, param, ctx)
