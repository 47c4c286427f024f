"""Files of a data set that may come from anyone: bounded, as text, JSON, YAML or XML; and the images beside them."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.parsers import expat

from cascadezoo.errors import BadAnnotations, MissingResource
from cascadezoo.files import parse_json

IMAGES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})

_MOST_TEXT = 2**26  # bytes of a label file, beyond any
_MOST_JSON = 2**29  # LabelMe's may hold the image itself
_MOST_YAML = 2**20
_DEEPEST = 64  # elements of XML inside each other


def bytes_of(path: Path, most: int = _MOST_TEXT) -> bytes:
    """A file of at most ``most`` bytes.  Raises MissingResource and BadAnnotations."""
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except FileNotFoundError as error:
        raise MissingResource(f"there is no file {path}") from error
    except OSError as error:
        raise MissingResource(f"{path} cannot be read: {error.strerror or error}") from error
    if len(data) > most:
        raise BadAnnotations(f"{path} has more than {most:,} bytes, which no such file has: is it another file?")
    return data


def lines_of(path: Path) -> list[str]:
    """The lines of a text in UTF-8, with a byte order mark or without; line ``i + 1`` of the file is item ``i``.

    Raises MissingResource and BadAnnotations.
    """
    data = bytes_of(path)
    try:
        return data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadAnnotations(f"{path}:{line}: it is no text in UTF-8: save it in that encoding") from error


def names_of(path: Path) -> list[str]:
    """The names of categories in a text file, one a line.  Raises MissingResource and BadAnnotations."""
    names = [line.strip() for line in lines_of(path)]
    while names and not names[-1]:
        names.pop()
    return require_names(names, path)


def require_names(names: Iterable[Any], source: Path) -> list[str]:
    """The names where they are texts, not empty, and each comes once.  Raises BadAnnotations."""
    checked: list[str] = []
    for place, name in enumerate(names):
        if not isinstance(name, str | int) or isinstance(name, bool) or not str(name).strip():
            raise BadAnnotations(f"{source}: the name of class {place} is no text: give every class a name")
        if str(name) in checked:
            raise BadAnnotations(f"{source}: two classes have the name {name!r}: give each a name of its own")
        checked.append(str(name))
    if not checked:
        raise BadAnnotations(f"{source} names no classes: give it a name for each")
    return checked


def json_of(path: Path) -> Any:
    """The value in a JSON file.  Raises MissingResource and BadAnnotations."""
    try:
        return parse_json(bytes_of(path, _MOST_JSON))
    except ValueError as error:
        raise BadAnnotations(f"{path} is no JSON: {error}") from error


def yaml_of(path: Path) -> dict[Any, Any]:
    """The mapping in a YAML file, in which nothing is run.  Raises MissingResource and BadAnnotations."""
    import yaml  # slow, and for this format alone

    data = bytes_of(path, _MOST_YAML)
    try:
        value = yaml.safe_load(data)
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f":{error.problem_mark.line + 1}"
        raise BadAnnotations(f"{path}{line}: it is no YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, RecursionError, UnicodeError) as error:
        raise BadAnnotations(f"{path} is no YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(value, dict):
        raise BadAnnotations(f"{path} holds no mapping of keys to values")
    return value


class Node:
    """An element of XML: its text, its elements, and its line in the file."""

    def __init__(self, tag: str, line: int) -> None:
        self.tag, self.line, self.text = tag, line, ""
        self.children: list[Node] = []

    def all(self, tag: str) -> "list[Node]":
        """Its own elements of that name."""
        return [child for child in self.children if child.tag == tag]

    def first(self, tag: str) -> "Node | None":
        """The first of them."""
        return next(iter(self.all(tag)), None)


def xml_of(path: Path) -> Node:
    """The root of an XML file.  What declares a document type, and with it entities, is refused.

    Raises MissingResource and BadAnnotations.
    """
    data = bytes_of(path)
    parser = expat.ParserCreate()
    top = Node("", 0)
    open_nodes = [top]

    def begin(tag: str, _: dict[str, str]) -> None:
        if len(open_nodes) > _DEEPEST:
            raise BadAnnotations(f"{path}:{parser.CurrentLineNumber}: its elements are nested too deeply")
        node = Node(tag, parser.CurrentLineNumber)
        open_nodes[-1].children.append(node)
        open_nodes.append(node)

    def end(_: str) -> None:
        open_nodes.pop()

    def text(part: str) -> None:
        open_nodes[-1].text += part

    def refuse(*_: object) -> None:
        raise BadAnnotations(
            f"{path}:{parser.CurrentLineNumber}: it declares a document type, which may do harm and which no VOC file "
            "needs: take the declaration out"
        )

    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = begin, end, text
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise BadAnnotations(f"{path}:{error.lineno}: it is no XML: {expat.ErrorString(error.code)}") from error
    except (ValueError, LookupError) as error:  # an encoding that Python does not know
        raise BadAnnotations(f"{path} is no XML: {error}") from error
    return top.children[0]


def files_in(folder: Path, suffixes: Iterable[str]) -> dict[str, list[Path]]:
    """The files in a folder and those below it that end so, in any case: their paths by name without suffix.

    Names are relative to the folder, with ``/`` between their parts.  Raises MissingResource.
    """
    if not folder.is_dir():
        raise MissingResource(f"there is no folder {folder}")
    wanted = frozenset(suffixes)
    found: dict[str, list[Path]] = {}
    for parent, _, names in os.walk(folder, followlinks=True):
        for name in names:
            path = Path(parent, name)
            if path.suffix.lower() in wanted and not name.startswith("."):
                found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), []).append(path)
    return {stem: sorted(found[stem]) for stem in sorted(found)}


def images_in(folder: Path) -> dict[str, Path]:
    """The images in a folder and those below it, by name without suffix.

    Raises MissingResource, and BadAnnotations where two are the same except for the suffix: they share their labels.
    """
    found = files_in(folder, IMAGES)
    for one, *others in found.values():
        if others:
            raise BadAnnotations(f"{one} and {others[0].name} would have the same labels: rename or remove one")
    return {stem: paths[0] for stem, paths in found.items()}
