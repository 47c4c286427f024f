"""The categories of a data set: COCO's own, and those of other data sets that entries of the zoo are on."""

import json
import reprlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, overload

from cascadezoo.errors import FileError, UnknownName, UsageError
from cascadezoo.files import parse_json
from cascadezoo.text import printable

_MAX_ID = 2**63  # an int64 everywhere that ids go
_SHOWN = 80  # names in a message, and characters of each


class Categories(Sequence[str]):
    """The names of a data set's categories by label 0..C-1, each with the id it has in that data set.

    ``names`` and ``ids`` are both unique; without ``ids`` they are 1..C.  Immutable and hashable.
    Raises ``UsageError`` when a name or an id is of the wrong type or comes twice, or the lengths differ.
    """

    __slots__ = ("_ids", "_label_of", "_names")
    _label_of: dict[str | int, int]  # by name and by id, of which there may be tens of thousands
    _ids: tuple[int, ...]
    _names: tuple[str, ...]

    def __init__(self, names: Iterable[str], ids: Iterable[int] | None = None) -> None:
        if isinstance(names, str):
            raise UsageError(f"categories are a list of names, not the single text {names!r}")
        self._names = tuple(names)
        self._ids = tuple(range(1, len(self._names) + 1) if ids is None else ids)
        if wrong := [name for name in self._names if not isinstance(name, str)]:
            raise UsageError(f"a category's name is a text, not {_brief(wrong[0])}")
        if wrong_ids := [i for i in self._ids if not isinstance(i, int) or isinstance(i, bool)]:
            raise UsageError(f"a category's id is a whole number, not {_brief(wrong_ids[0])}")
        if too_long := [i for i in self._ids if not -_MAX_ID <= i < _MAX_ID]:
            raise UsageError(f"a category's id has at most 64 bits, not {too_long[0].bit_length()}")
        if len(self._names) != len(self._ids):
            raise UsageError(f"{len(self._names)} category names but {len(self._ids)} ids: give one id a name")
        for kind, values in (("name", self._names), ("id", self._ids)):
            if twice := sorted(str(value) for value, times in Counter(values).items() if times > 1):
                raise UsageError(
                    f"category {kind} given twice: {', '.join(value[:_SHOWN] for value in twice[:_SHOWN])}"
                )
        self._label_of = {name: label for label, name in enumerate(self._names)}
        self._label_of.update((own, label) for label, own in enumerate(self._ids))

    @classmethod
    def numbered(cls, count: int) -> "Categories":
        """``count`` categories of no known data set: "class 0", "class 1", …"""
        return cls(f"class {label}" for label in range(count))

    @classmethod
    def from_coco(cls, categories: Iterable[Mapping[str, Any]]) -> "Categories":
        """From the ``categories`` list of a COCO annotation file, labelled by ascending id as is the custom.

        Raises ``FileError`` when an item lacks ``id`` or ``name``, or these are not unique.
        """
        try:
            pairs = sorted((item["id"], item["name"]) for item in categories)
            return cls((name for _, name in pairs), (i for i, _ in pairs))
        except (KeyError, TypeError, UsageError, RecursionError) as error:
            raise FileError(f"not a COCO list of categories, each with a unique id and name: {error}") from error

    @classmethod
    def from_json(cls, text: str) -> "Categories":
        """Read back what ``to_json`` wrote; raises ``FileError`` for any other text."""
        try:
            fields = parse_json(text)
            names, ids = fields["names"], fields["ids"]
            if not isinstance(names, list) or not isinstance(ids, list):
                raise TypeError("both are lists")
            return cls(names, ids)
        except (ValueError, KeyError, TypeError, UsageError) as error:
            raise FileError(f"not a JSON record of categories (names and ids): {error}") from error

    def to_json(self) -> str:
        """One line of JSON, the same bytes for the same categories."""
        return json.dumps({"ids": self._ids, "names": self._names}, separators=(",", ":"), ensure_ascii=False)

    def to_coco(self) -> list[dict[str, Any]]:
        """The ``categories`` list of a COCO annotation file."""
        return [{"id": i, "name": name} for i, name in zip(self._ids, self._names, strict=True)]

    @property
    def ids(self) -> tuple[int, ...]:
        """The data set's id of each label."""
        return self._ids

    def label_of(self, name: str) -> int:
        """The label of a name; raises UnknownName, with the nearest names."""
        if name in self:
            return self._label_of[name]
        close = get_close_matches(name, self._names)
        hint = f"did you mean {' or '.join(close)}?" if close else f"the categories are {self._listed()}"
        raise UnknownName(f"no category is called {name[:_SHOWN]!r}: {hint}")

    def label_of_id(self, number: int) -> int | None:
        """The label of an id of the data set; None where it has no such id."""
        return self._label_of.get(number)

    def not_in(self, others: "Categories") -> list[str]:
        """The names of those that ``others`` does not have under the same id."""
        known = set(zip(others.ids, others, strict=True))
        return [name for i, name in zip(self._ids, self._names, strict=True) if (i, name) not in known]

    @overload
    def __getitem__(self, label: int) -> str: ...
    @overload
    def __getitem__(self, label: slice) -> tuple[str, ...]: ...
    def __getitem__(self, label: int | slice) -> str | tuple[str, ...]:
        return self._names[label]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._label_of

    def __len__(self) -> int:
        return len(self._names)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Categories) and (self._names, self._ids) == (other._names, other._ids)

    def __hash__(self) -> int:
        return hash((self._names, self._ids))

    def __repr__(self) -> str:
        return printable(f"Categories({len(self)}: {self._listed(3)})")

    def _listed(self, most: int = 20) -> str:
        return ", ".join(self._names[:most]) + (", …" if len(self) > most else "")


def _brief(value: object) -> str:
    """The value for a message, whatever its length or depth."""
    is_long = isinstance(value, int) and not -_MAX_ID <= value < _MAX_ID  # Python prints no more than 4300 digits
    return "so long a number" if is_long else reprlib.repr(value)


# fmt: off
_NAMES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
    "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone",
    "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear",
    "hair drier", "toothbrush",
)
# fmt: on
_UNUSED_IDS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}  # named by COCO, but never annotated in its detection task

COCO = Categories(_NAMES, (i for i in range(1, 91) if i not in _UNUSED_IDS))
"""The 80 categories of COCO's detection task in their usual order, with the ids of its annotation files."""

# open-mmlab/mmdetection3d 1.4.0, tools/dataset_converters/nuimage_converter.py, whose annotation files count from 0
# fmt: off
_NUIMAGES = (
    "car", "truck", "trailer", "bus", "construction_vehicle", "bicycle", "motorcycle", "pedestrian", "traffic_cone",
    "barrier",
)
# fmt: on

OF_DATA: Mapping[str, Categories] = {"coco": COCO, "nuimages": Categories(_NUIMAGES, range(len(_NUIMAGES)))}
"""Data set, as the manifest names it, to its categories in the order of the labels of the entries on it."""


def categories_of(data: str, count: int) -> Categories:
    """Categories for ``count`` labels of a network on ``data``: the data set's own where it has as many, else "class
    0", "class 1", …"""
    known = OF_DATA.get(data)
    return known if known is not None and len(known) == count else Categories.numbered(count)
