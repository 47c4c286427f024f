"""What is this file?  The one place that says so, for ``inspect``, ``convert`` and ``load`` alike.

A file is read, its wrapper's prefix taken off, its layout recognised by where the tensors lie, the number of classes
learnt from their shapes, and the entries by every clue that the file and its name give.  Each finding keeps its
evidence.  An entry that the caller names is held against all of it: the shapes have to fit, and a clue that points to
another network is an error, unless the caller insists.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cascadezoo import registry
from cascadezoo.checkpoints.shapes import shapes_of
from cascadezoo.coco.categories import OF_DATA, Categories
from cascadezoo.converters import CONVERTERS, own
from cascadezoo.converters.checkpoint import Checkpoint, read_checkpoint
from cascadezoo.converters.converter import Description, Layout
from cascadezoo.converters.identify import (
    NETWORK,
    Clue,
    Identity,
    best_fits,
    clues,
    contradiction,
    identify,
    is_published,
    refuse_wrong_link,
    states_md5,
)
from cascadezoo.converters.keymap import Fit, KeyMap, Shape, Shapes
from cascadezoo.converters.mistaken import about_part, about_state
from cascadezoo.converters.naming import Names, unwrapped
from cascadezoo.errors import (
    AmbiguousEntry,
    CorruptCheckpoint,
    UnsafeCheckpoint,
    UnsupportedEntry,
    UsageError,
    WrongEntry,
    WrongPublisher,
)
from cascadezoo.files import file_md5, file_sha256
from cascadezoo.manifest import ELSEWHERE, ZooEntry
from cascadezoo.providers import SPECS
from cascadezoo.spec.model import ModelSpec

_log = logging.getLogger("cascadezoo")

LAYOUTS: Mapping[str, Layout] = {**CONVERTERS, own.LAYOUT.publisher: own.LAYOUT}
_MAX_CLASSES = 100_000
_SAMPLE = 500  # names that tell whose a file comes closest to


class Examination:
    """A checkpoint and everything that it says about itself; nothing is decided, and nothing raises.

    Attributes:
        path: the file.
        sha256: of the file.
        checkpoint: what it holds.
        names: its tensors' names, and the prefix that was before them.
        layout: whose names these are; None where they are nobody's.
        refusals: publisher -> why the file is not in its layout.
        described: what its metadata state.
    """

    def __init__(self, path: Path, checkpoint: Checkpoint, sha256: str) -> None:
        self.path = path
        self.checkpoint = checkpoint
        self.sha256 = sha256
        shapes = {key: record.shape for key, record in checkpoint.records.items()}
        self.names: Names = unwrapped(shapes, checkpoint.unsafe)
        meta = _without_versions(checkpoint.meta) if self._is_published() else checkpoint.meta
        found = {name: layout.refusal(self.names.keys, meta) for name, layout in LAYOUTS.items()}
        self.refusals: dict[str, str] = {name: reason for name, reason in found.items() if reason is not None}
        self.layout: Layout | None = next((LAYOUTS[name] for name in found if found[name] is None), None)
        self.described: Description = self.layout.describe(checkpoint.meta) if self.layout else Description()

    def _is_published(self) -> bool:
        """Whether it is, by its hash, a file of the zoo's, whatever it says of itself."""
        return any(is_published(entry, self.sha256) for entry in registry.all_known())

    @property
    def metadata(self) -> Mapping[str, str]:
        """What a file of ours says of itself; empty for any other."""
        meta = self.checkpoint.meta
        return meta if self.checkpoint.container == "safetensors" and self.layout is own.LAYOUT else {}

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Shape by name without the prefix, of every tensor."""
        records = self.checkpoint.records
        return {name: records[key].shape for name, key in self.names.keys.items() if key in records}

    @property
    def publishers(self) -> tuple[str, ...]:
        """Those whose networks the tensors may be: a publisher's own names tell, ours do not."""
        if self.layout is None:
            return ()
        return tuple(SPECS) if self.layout is own.LAYOUT else (self.layout.publisher,)

    @property
    def entries(self) -> list[ZooEntry]:
        """The entries of these publishers that this version has networks for."""
        return [entry for publisher in self.publishers for entry in supported_entries(publisher)]

    @cached_property
    def candidates(self) -> list[ZooEntry]:
        """The entries that the file may be where the caller names none.

        Networks on another data set than COCO have the tensors of COCO's, once the classes are as many: the file has to
        tell of them, by its metadata, its hash, its name or its classes.
        """
        told = [entry for hint in (*self.hints, self._by_classes()) if hint.origin != NETWORK for entry in hint.entries]
        return [entry for entry in self.entries if entry.data not in ELSEWHERE or entry in told]

    def _by_classes(self) -> Clue:
        """The entries on another data set than COCO whose classes the file names."""
        named = self.described.classes
        alike = [e for e in self.entries if e.data in ELSEWHERE and named == tuple(OF_DATA[e.data])]
        return Clue("the list of classes in the file", tuple(alike))

    @cached_property
    def md5(self) -> str | None:
        """Of the file, where its publisher names files by it; else None."""
        named = self.layout is not own.LAYOUT and states_md5(self.entries)
        return file_md5(self.path) if named else None

    @cached_property
    def hints(self) -> tuple[Clue, ...]:
        """The clues, strongest first."""
        if self.layout is None:
            return ()
        if self.layout is own.LAYOUT:
            return (self._stated(), *clues(self.path, self.sha256, Description(), self.entries, {}))
        specs = SPECS[self.layout.publisher]
        return clues(self.path, self.sha256, self.described, self.entries, specs, self.md5)

    def _stated(self) -> Clue:
        """What a file of our own says of itself."""
        meta = self.metadata
        network = meta.get("publisher"), meta.get("architecture")
        alike = tuple(entry for entry in self.entries if (entry.publisher, entry.architecture) == network)
        named = meta.get("entries", "").split(",")
        told = tuple(entry for entry in alike if entry.name in named)
        return Clue("the metadata in the file", told or alike, f"{network[1]} of {network[0]}")

    def num_classes(self, publisher: str, architecture: str) -> int | None:
        """The number of classes, as most biases have it whose length depends on it; None where none tells."""
        if self.layout is None:
            return None
        key_map, spec = self.layout.key_map(architecture), SPECS[publisher][architecture]
        one, two = (shapes_of(spec.with_classes(count)) for count in (1, 2))
        votes: Counter[int] = Counter()
        for name in (name for name in one if name.endswith(".bias") and one[name] != two[name]):
            (first,), (second,) = (key_map.source_shape(name, shapes[name]) for shapes in (one, two))
            for key in key_map.source_keys(name):
                count, rest = divmod(sum(self.shapes.get(key, ())) - first, second - first)
                if rest == 0 and 0 <= count < _MAX_CLASSES:
                    votes[count + 1] += 1
        return votes.most_common(1)[0][0] if votes else None

    def spec(self, publisher: str, architecture: str) -> ModelSpec:
        """An architecture's network with the file's own number of classes."""
        spec = SPECS[publisher][architecture]
        return spec.with_classes(self.num_classes(publisher, architecture) or spec.num_classes)

    def expected(self, publisher: str, entries: Iterable[ZooEntry]) -> dict[str, Shapes]:
        """Architecture -> canonical shapes for the file's number of classes, of a publisher's networks."""
        names = dict.fromkeys(entry.architecture for entry in entries if entry.publisher == publisher)
        return {name: shapes_of(self.spec(publisher, name)) for name in names}

    def closest(self) -> Iterator[tuple[str, str, Fit]]:
        """The networks that the tensors come closest to: publisher, architecture, and what keeps them apart."""
        if self.layout is None:
            return
        expected = {name: self.expected(name, self.candidates) for name in self.publishers}
        fits = {name: best_fits(self.layout, self.shapes, expected[name]) for name in expected}
        fewest = min(fit.problems for best in fits.values() for fit in best.values())
        for publisher, best in fits.items():
            yield from ((publisher, name, fit) for name, fit in best.items() if fit.problems == fewest)

    def identify(self, source: str | None = None, entry: str | None = None, insist: bool = False) -> "Identified":
        """The entries that the file may be.

        Args:
            source: the publisher whose file it is said to be.
            entry: the entry that it is said to be.
            insist: take it as that entry even where its clues point to another network.

        Raises:
            UsageError: no such entry or publisher; AmbiguousEntry where nothing decides between networks.
            WrongPublisher, WrongEntry, TensorMismatch: the file is something else.
            UnsupportedEntry: its tensors are those of an entry, and its network computes other scores.
        """
        taken = None if entry is None else given(entry, source)
        if part := about_part(self.path):
            raise CorruptCheckpoint(f"{self.path} is no whole checkpoint: {part}")
        layout = self._layout(taken.publisher if taken else source)
        self._refuse_unsafe(layout)
        publisher = taken.publisher if taken else source or self._publisher(layout)
        entries = [candidate for candidate in self.candidates if candidate.publisher == publisher]
        hints = [
            Clue(hint.origin, tuple(e for e in hint.entries if e.publisher == publisher))
            for hint in (*self.hints, self._by_classes())
        ]
        if taken is not None:
            hints = [Clue("the entry given", (taken,))]
            if not insist:
                refuse_wrong_link(self.path, taken, self.hints, entries)
            entries = [*(one for one in entries if one != taken), taken]
        stated = self.metadata.get("architecture")
        if taken and not insist and stated not in (None, taken.architecture):  # says more than tensors that do not fit
            self._refuse_contradiction(taken)
        expected = self.expected(publisher, entries)
        identity = identify(self.path, self.shapes, layout, entries, expected, hints)
        if not insist:
            self._refuse_contradiction(taken or identity.entries[0])
            self._refuse_other_scores(layout, publisher, identity.architecture)
        return Identified(self, layout, publisher, identity)

    def _warn_of_another_schedule(self, taken: ZooEntry) -> None:
        clue = next((hint for hint in self.hints if hint.entries), None)
        if clue is not None and not self.metadata and taken not in clue.entries:
            named = " or ".join(entry.name for entry in clue.entries)
            _log.warning("%s: %s is %s, of %s: taken as %s, which computes the same", self.path, clue.origin, clue.says,
                         named, taken.name)  # fmt: skip

    def _layout(self, publisher: str | None) -> Layout:
        """The file's layout, which has to be the publisher's or, for state dicts of our models, our own."""
        layout = self.layout
        if layout is None:
            raise WrongPublisher(f"{self.path} {self._nobodys(publisher)}")
        if layout is own.LAYOUT or publisher in (None, layout.publisher):
            return layout
        reason = self.refusals.get(str(publisher), f"{publisher} has no format but ours")
        raise WrongPublisher(
            f"{self.path} cannot be converted from {publisher}: {reason}; it is a file of {layout.publisher}, with "
            f"tensors under {layout.hallmark}: name its entry, or pass --from {layout.publisher}"
        )

    def _refuse_other_scores(self, layout: Layout, publisher: str, architecture: str) -> None:
        count = self.num_classes(publisher, architecture)
        if count is not None and count in layout.scored_otherwise:
            raise UnsupportedEntry(
                f"{self.path} has {count} classes: {layout.scored_otherwise[count]}; one of your own that takes a "
                "softmax is read with --entry and --insist"
            )

    def _refuse_unsafe(self, layout: Layout) -> None:
        """A tensor that is read and that only foreign code could build; names are alike in all networks of a layout."""
        key_map = layout.key_map(self.entries[0].architecture)
        for name, key in self.names.keys.items():
            is_read = key_map.derivation(name) is not None or not key_map.ignored_because(name)
            if is_read and key in self.checkpoint.unsafe:
                raise UnsafeCheckpoint(
                    f"{self.path}: {key} could only be read by running {self.checkpoint.unsafe[key]}, which is never "
                    "done: ask for a file that holds plain tensors"
                )

    def _nobodys(self, publisher: str | None) -> str:
        """Why a file is in no layout: the refusal of the publisher given, or of the one whose names come closest."""
        keys = list(self.names.keys)
        if state := about_state(keys):
            return f"holds no network: {state}"
        if publisher not in CONVERTERS:
            claims = {
                name: sum(bool(layout.key_map(next(iter(SPECS[name]))).claims(key)) for key in keys[:_SAMPLE])
                for name, layout in CONVERTERS.items()
            }
            publisher = max(claims, key=lambda name: claims[name]) if any(claims.values()) else None
        if publisher is not None:
            return f"cannot be converted from {publisher}: {self.refusals[publisher]}"
        reasons = "; ".join(f"{name}: {self.refusals[name]}" for name in CONVERTERS)
        return f"is no detector that can be read, by its names such as {', '.join(keys[:3])} ({reasons})"

    def _publisher(self, layout: Layout) -> str:
        """Whose network it is where no entry was given: in our own layout clues and shapes have to tell."""
        if layout is not own.LAYOUT:
            return layout.publisher
        pointed = next(({entry.publisher for entry in hint.entries} for hint in self.hints if hint.entries), set())
        if len(pointed) == 1:
            return pointed.pop()
        closest = list(self.closest())
        fitting = [(publisher, name) for publisher, name, fit in closest if fit.problems == 0]
        if len({publisher for publisher, _ in fitting}) > 1:
            names = ", ".join(e.name for e in self.entries if (e.publisher, e.architecture) in fitting)
            raise AmbiguousEntry(
                f"{self.path}: its tensors fit networks of several publishers, which compute differently, and it does "
                f"not say which: pass --entry with one of {names}"
            )
        return closest[0][0]

    def _refuse_contradiction(self, taken: ZooEntry) -> None:
        """Raise WrongEntry where the file says that it is another network than the entry that it is taken for."""
        if is_published(taken, self.sha256):
            return
        clue = contradiction(taken, self.hints, self.entries)
        differences = self.described.differences(SPECS[taken.publisher][taken.architecture])
        if differences:
            reason = f"the configuration in the file says {'; '.join(differences)}"
        elif clue is not None:
            reason = f"{clue.origin} is {clue.says}"
        else:
            self._warn_of_another_schedule(taken)
            return
        fitting = {(publisher, name) for publisher, name, fit in self.closest() if fit.problems == 0}
        pointed = [e.name for e in (clue.entries if clue else ()) if (e.publisher, e.architecture) in fitting]
        advice = f"it looks like {' or '.join(pointed)}" if pointed else "name the entry that it is"
        raise WrongEntry(
            f"{self.path} is not {taken.name} by its own clues: {reason}; {advice}, or insist (--insist, insist=True)"
        )


@dataclass(frozen=True)
class Identified:
    """What a file was found to be.

    Attributes:
        examination: the file and its clues.
        layout: whose names its tensors have.
        publisher: the entries' publisher.
        identity: the entries, and how their tensors pair up.
    """

    examination: Examination
    layout: Layout
    publisher: str
    identity: Identity

    @property
    def is_ours(self) -> bool:
        """Whether the tensors have canonical names, in whatever container."""
        return self.layout is own.LAYOUT

    @property
    def key_map(self) -> KeyMap:
        """The file's names against canonical ones."""
        return self.layout.key_map(self.identity.architecture)

    @property
    def pairs(self) -> dict[str, str]:
        """Key in the file -> canonical name."""
        keys = self.examination.names.keys
        return {keys[name]: canonical for name, canonical in self.identity.fit.pairs.items()}

    @property
    def spec(self) -> ModelSpec:
        """The network, with the file's number of classes."""
        return self.examination.spec(self.publisher, self.identity.architecture)

    @property
    def categories(self) -> Categories | None:
        """The file's own categories; None where it has as many classes as the entry and names none of its own."""
        names, count = self.examination.described.classes, self.spec.num_classes
        if self.names_fit and names is not None:
            usual = OF_DATA.get(self.identity.entries[0].data)
            return None if usual is not None and names == tuple(usual) else Categories(names)
        published = SPECS[self.publisher][self.identity.architecture].num_classes
        return None if count == published else Categories.numbered(count)

    @property
    def names_fit(self) -> bool:
        """Whether the file names as many classes as its tensors have, or none."""
        names = self.examination.described.classes
        return names is None or len(names) == self.spec.num_classes


def examine(path: str | Path) -> Examination:
    """Read a weights file of any kind, and what it says about itself; raises as ``read_checkpoint`` does."""
    path = Path(path)
    checkpoint = read_checkpoint(path)
    return Examination(path, checkpoint, file_sha256(path))


def _without_versions(meta: object) -> object:
    """Metadata except for the versions of programs: mmdetection 2.0 called itself 1.0 until it was released
    (open-mmlab/mmdetection#4268), and files of then are among the published ones."""
    if not isinstance(meta, dict):
        return meta
    return {name: value for name, value in meta.items() if not str(name).endswith("_version")}


def supported_entries(publisher: str) -> list[ZooEntry]:
    """The publisher's entries that this version has a network for."""
    return [e for e in registry.all_known() if e.publisher == publisher and e.architecture in SPECS[publisher]]


def given(name: str, source: str | None) -> ZooEntry:
    """The entry that the caller names; raises UsageError where there is none, or it is not ``source``'s."""
    entry = registry.info(name)
    if source is not None and entry.publisher != source:
        raise UsageError(f"{entry.name} is an entry of {entry.publisher}, but the file is to be read as {source}'s")
    registry.spec_of(entry)  # raises for an entry without a network
    return entry
