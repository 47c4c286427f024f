"""Key maps: a publisher's tensor names and ours as a literal two-column table with holes, read in both directions.

    ("roi_head.bbox_head.{k}.fc_cls.{p}", "box_heads.{k}.cls_score.{p}")

A hole stands for one dotted component, or part of one ({anything}: for a whole name); each table has a legend of its
letters.  Where rows would
overlap, or where the words themselves are translated, ``holes`` lists a hole's words, the publisher's against ours.  A
change of layout is a ``Transform`` by canonical name; a tensor that is left out matches a pattern with a reason, or is
``Derived`` from another.  Nothing is guessed: a tensor in the file that no row or more than one row claims is an error,
and so is a tensor of the network that no row fills.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING

from cascadezoo.errors import TensorMismatch

if TYPE_CHECKING:  # names and shapes are compared without torch
    from torch import Tensor

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
Places = Mapping[str, tuple[list[str], str | None]]

_HOLE = re.compile(r"\{(\w+)\}")
_FREE = {"anything": ".+"}  # what an unlisted hole takes, where it is more than a component
_SHOWN = 8  # names listed in a message before it only counts


def same(*words: str) -> dict[str, str]:
    """The words of a hole that are spelt alike on both sides."""
    return {word: word for word in words}


@dataclass(frozen=True)
class Transform:
    """A change of layout, publisher's to canonical, and its inverse.

    The inverse is exact except for what ``drops`` names, which inference never uses: there it writes zeros.
    ``source_shape``: the publisher's shape of a tensor of this canonical shape.
    """

    name: str
    forward: "Callable[[Tensor], Tensor]"
    inverse: "Callable[[Tensor], Tensor]"
    source_shape: Callable[[Shape], Shape] = lambda shape: shape
    drops: str | None = None


REVERSE_INPUT_CHANNELS = Transform("reverse_input_channels", lambda t: t.flip(1), lambda t: t.flip(1))  # BGR <-> RGB
TRANSPOSE = Transform(
    "transpose", lambda t: t.t().contiguous(), lambda t: t.t().contiguous(), lambda shape: (shape[1], shape[0])
)
FIRST_ROW_LAST = Transform("first_row_last", lambda t: t.roll(-1, 0), lambda t: t.roll(1, 0))


def without_first_rows(count: int, reason: str) -> Transform:
    """Leave the first rows out, for a reason; the inverse writes zeros there."""

    def inverse(tensor: "Tensor") -> "Tensor":
        import torch

        return torch.cat([tensor.new_zeros((count, *tensor.shape[1:])), tensor])

    return Transform(
        f"without_first_rows_{count}",
        lambda t: t[count:],
        inverse,
        lambda shape: (count + shape[0], *shape[1:]),
        drops=f"{'row 0' if count == 1 else f'rows 0 to {count - 1}'}: {reason}",
    )


@dataclass(frozen=True, kw_only=True)
class Derived:
    """A publisher's tensor whose values follow from the shape of another, so that ours has none.

    It is left out, once it was held against its formula, and written from the formula.

    ``ending``: of its key; ``beside``: of the other's in its place.  ``formula``: the other tensor -> its values.
    """

    ending: str
    beside: str
    formula: "Callable[[Tensor], Tensor]"
    reason: str


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How a publisher's tensors and a network's pair up.  Keys are the publisher's, except in ``pairs``' values."""

    pairs: Mapping[str, str]  # publisher's key -> canonical name; complete only when ``problems`` is 0
    ignored: Mapping[str, str]  # key -> reason
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    contested: tuple[str, ...]  # claimed twice
    misshapen: tuple[tuple[str, Shape, Shape], ...]  # key, its shape in the file, the shape that the network needs

    @property
    def problems(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.contested) + len(self.misshapen)

    def describe(self) -> str:
        """The problems as a phrase: each side listed, sorted and abbreviated."""
        shapes = [f"{key} is {found}, expected {expected}" for key, found, expected in self.misshapen]
        kinds = (
            ("missing", self.missing),
            ("unexpected", self.unexpected),
            ("claimed twice", self.contested),
            ("of another shape", shapes),
        )
        return "; ".join(f"{len(keys)} {kind}: {abbreviate(keys)}" for kind, keys in kinds if keys)


def abbreviate(names: Iterable[str]) -> str:
    """The first few of the sorted names, and how many more there are."""
    ordered = sorted(names)
    more = len(ordered) - _SHOWN
    return ", ".join(ordered[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


@dataclass(frozen=True, kw_only=True)
class KeyMap:
    """``rows``: (publisher's pattern, canonical pattern), with the same holes on both sides.

    ``former``: rows of names that the publisher's code wrote before: read, never written.
    ``holes``: words of a hole, publisher's -> canonical, one to one; a hole not listed takes anything but a dot.
    ``ignored``: (shell pattern, reason) of tensors that inference never uses.
    ``transforms``: canonical name -> change of layout.
    ``counters``: (ending of a publisher's key, ending of an ignored key beside it), written back as an int64 zero.
    ``derived``: the publisher's tensors that others determine.
    """

    rows: tuple[tuple[str, str], ...]
    former: tuple[tuple[str, str], ...] = ()
    holes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    ignored: tuple[tuple[str, str], ...] = ()
    transforms: Mapping[str, Transform] = field(default_factory=dict)
    counters: tuple[tuple[str, str], ...] = ()
    derived: tuple[Derived, ...] = ()

    def __post_init__(self) -> None:
        for name, words in self.holes.items():
            if len(set(words.values())) != len(words):
                raise ValueError(f"hole {name!r} gives two words one meaning")
        for source, canonical in (*self.rows, *self.former):
            if set(_HOLE.findall(source)) != set(_HOLE.findall(canonical)):
                raise ValueError(f"{source!r} and {canonical!r} differ in their holes")

    @property
    def digest(self) -> str:
        """sha256 over everything that decides a conversion."""
        table = {
            "rows": (*self.rows, *self.former),
            "holes": {name: sorted(words.items()) for name, words in self.holes.items()},
            "ignored": [*(pattern for pattern, _ in self.ignored), *(f"*{rule.ending}" for rule in self.derived)],
            "transforms": {name: transform.name for name, transform in self.transforms.items()},
        }
        return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()

    def claims(self, key: str) -> list[str]:
        """The canonical names that the rows give a publisher's key: one, unless something is wrong."""
        return list(_translate(key, self._forward))

    def ignored_because(self, key: str) -> str | None:
        """Why a publisher's key is left out, None where it is not."""
        because = next((reason for pattern, reason in self.ignored if fnmatchcase(key, pattern)), None)
        rule = self.derivation(key)
        return because if rule is None else rule.reason

    def derivation(self, key: str) -> Derived | None:
        """How a publisher's key follows from another's, None where it does not."""
        return next((rule for rule in self.derived if key.endswith(rule.ending)), None)

    def departures(self, tensors: "Mapping[str, Tensor]") -> list[str]:
        """The derived ones among a publisher's tensors whose values are not those of their formulas, or whose other
        tensor is not there."""
        rules = {key: rule for key in tensors if (rule := self.derivation(key))}
        return [key for key, rule in rules.items() if not _follows(key, rule, tensors)]

    def partly_ignored_because(self, name: str) -> str | None:
        """Which part of a canonical name's source is left out, and why; None where all of it is used."""
        return self.transforms[name].drops if name in self.transforms else None

    def zeros(self, names: Iterable[str]) -> dict[str, str]:
        """What ``invert`` writes as zeros because conversion drops it: publisher's key -> which part, and why."""
        keys = [(key, name) for name in names for key in self.source_keys(name)]
        parts = {key: part for key, name in keys if (part := self.partly_ignored_because(name))}
        return parts | {counter: "a counter" for key, _ in keys for counter in self._counters_beside(key)}

    def source_keys(self, name: str) -> list[str]:
        """The publisher's keys of a canonical name."""
        return list(_translate(name, self._backward))

    def places(self, keys: Iterable[str]) -> Places:
        """Publisher's key -> the canonical names that rows give it, and why it is left out."""
        return {key: (self.claims(key), self.ignored_because(key)) for key in keys}

    def fit(self, found: Shapes, expected: Shapes, places: Places | None = None) -> Fit:
        """Pair the publisher's tensors with the network's; never raises.

        ``places``: those of the keys found, where they are known already.
        """
        if places is None:
            places = self.places(found)
        pairs: dict[str, str] = {}
        ignored: dict[str, str] = {}
        unexpected: list[str] = []
        contested: list[str] = []
        misshapen: list[tuple[str, Shape, Shape]] = []
        owner: dict[str, str] = {}
        for key, shape in found.items():
            names, reason = places[key]
            name = names[0] if names else None
            if len(names) + (reason is not None) > 1:
                contested.append(key)
            elif reason is not None:
                ignored[key] = reason
            elif name is None or name not in expected:
                unexpected.append(key)
            elif name in owner:
                contested += [owner[name], key]
            else:
                owner[name], pairs[key] = key, name
                wanted = self.source_shape(name, expected[name])
                if shape != wanted:
                    misshapen.append((key, shape, wanted))
        missing = [" or ".join(self.source_keys(name)) or name for name in expected if name not in owner]
        return Fit(
            pairs=pairs,
            ignored=ignored,
            missing=tuple(sorted(missing)),
            unexpected=tuple(sorted(unexpected)),
            contested=tuple(sorted(set(contested))),
            misshapen=tuple(sorted(misshapen)),
        )

    def apply(self, name: str, tensor: "Tensor") -> "Tensor":
        """A publisher's tensor in the canonical layout of ``name``; a view where nothing changes."""
        return self.transforms[name].forward(tensor) if name in self.transforms else tensor

    def invert(self, tensors: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
        """Canonical tensors as the publisher's state dict; what conversion drops of them is zero, see ``zeros``, or
        derived anew.

        Raises TensorMismatch for a name that no row, or more than one, leads to.
        """
        import torch

        keys = {name: self.source_keys(name) for name in tensors}
        stray = [name for name, found in keys.items() if len(found) != 1]
        if stray:
            raise TensorMismatch(f"{len(stray)} tensors have no place in the publisher's layout: {abbreviate(stray)}")
        state = {}
        for name, tensor in tensors.items():
            (key,) = keys[name]
            state[key] = self.transforms[name].inverse(tensor) if name in self.transforms else tensor
            state |= {counter: torch.zeros((), dtype=torch.int64) for counter in self._counters_beside(key)}
            for rule in self.derived:
                if key.endswith(rule.beside):
                    state[key.removesuffix(rule.beside) + rule.ending] = rule.formula(state[key])
        return state

    def _counters_beside(self, key: str) -> list[str]:
        return [key.removesuffix(ending) + counter for ending, counter in self.counters if key.endswith(ending)]

    def source_shape(self, name: str, shape: Shape) -> Shape:
        """The publisher's shape of the tensor of a canonical name and shape."""
        if name not in self.transforms:
            return shape
        return self.transforms[name].source_shape(shape)

    @cached_property
    def _forward(self) -> "list[_Rule]":
        return [_Rule.compile(source, canonical, self.holes) for source, canonical in (*self.rows, *self.former)]

    @cached_property
    def _backward(self) -> "list[_Rule]":
        holes = {name: {ours: theirs for theirs, ours in words.items()} for name, words in self.holes.items()}
        return [_Rule.compile(canonical, source, holes) for source, canonical in self.rows]


def _follows(key: str, rule: Derived, tensors: "Mapping[str, Tensor]") -> bool:
    other = key.removesuffix(rule.ending) + rule.beside
    if other not in tensors:
        return False
    expected, found = rule.formula(tensors[other]), tensors[key]
    return found.shape == expected.shape and bool((found == expected).all())


@dataclass(frozen=True)
class _Rule:
    """One row in one direction."""

    pattern: re.Pattern[str]
    target: str
    holes: Mapping[str, Mapping[str, str]]

    @classmethod
    def compile(cls, pattern: str, target: str, holes: Mapping[str, Mapping[str, str]]) -> "_Rule":
        seen: set[str] = set()
        parts = []
        for i, part in enumerate(_HOLE.split(pattern)):  # literal, hole, literal, hole, ..., literal
            if i % 2 == 0:
                parts.append(re.escape(part))
            elif part in seen:
                parts.append(f"(?P={part})")
            else:
                seen.add(part)
                words = "|".join(re.escape(word) for word in holes[part]) if part in holes else _FREE.get(part, "[^.]+")
                parts.append(f"(?P<{part}>{words})")
        return cls(re.compile("".join(parts)), target, holes)


def _translate(key: str, rules: Iterable[_Rule]) -> Iterator[str]:
    for rule in rules:
        match = rule.pattern.fullmatch(key)
        if match:
            words = {name: rule.holes.get(name, {}).get(word, word) for name, word in match.groupdict().items()}
            yield rule.target.format_map(words)
