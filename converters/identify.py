"""Which entries of the zoo may a checkpoint be?

Clues are asked in order: the entry given; else the published sha256, the configuration in the file's metadata, the weak
md5, the file's name.
Each narrows the entries that are left, unless it contradicts an earlier one.  Tensor shapes have the last word: they
must fit, and where clues leave several networks, decide between them.  Schedules (1x, 20e, 3x) never show in tensors:
entries of one network are reported together.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cascadezoo.converters.converter import Description, Layout
from cascadezoo.converters.keymap import Fit, Shapes
from cascadezoo.errors import AmbiguousEntry, TensorMismatch, WrongEntry
from cascadezoo.manifest import ZooEntry
from cascadezoo.spec.model import ModelSpec

NETWORK = "the configuration in the file"  # the origin of the clue that tells no entry, but networks alike


@dataclass(frozen=True)
class Identity:
    """``entries`` share ``architecture``; ``found_by`` says which clues led to them."""

    architecture: str
    entries: tuple[ZooEntry, ...]
    found_by: str
    fit: Fit


@dataclass(frozen=True)
class Clue:
    """Where a hint comes from, the entries that it points to (none: it says nothing), and its own words."""

    origin: str
    entries: tuple[ZooEntry, ...]
    says: str = ""


def clues(
    path: Path,
    sha256: str,
    described: Description,
    entries: Sequence[ZooEntry],
    specs: Mapping[str, ModelSpec],
    md5: str | None = None,
) -> tuple[Clue, ...]:
    """The clues of a file, strongest first; ``md5`` where an entry states digits of it (``states_md5``)."""
    alike = [
        entry
        for entry in entries
        if (described.backbone or described.pixels) and not described.differences(specs[entry.architecture])
    ]
    published = [entry for entry in entries if is_published(entry, sha256)]
    return (
        Clue("the published sha256", tuple(published), sha256),
        Clue(NETWORK, tuple(alike), described.network),
        Clue("the configuration's name", named(described.stems, entries), ", ".join(dict.fromkeys(described.stems))),
        Clue("the weak md5 in a published name", tuple(e for e in entries if has_digits(e, md5)), md5 or ""),
        Clue("the file name", named([path.stem], entries), path.name),
        *_in_caffe_style([("the configuration's name", stem) for stem in described.stems], entries),
        *_in_caffe_style([("the file name", path.name)], entries),
    )


_CAFFE = re.compile(r"(?<![a-z])caffe(?![a-z0-9])", re.IGNORECASE)  # caffe2 is where weights of either style are from


def _in_caffe_style(names: Iterable[tuple[str, str]], entries: Sequence[ZooEntry]) -> Iterator[Clue]:
    """Names that say "caffe" point to the networks of that style, and to those that have no sibling of it."""
    plain = {e.architecture.replace("_caffe", "") for e in entries if "_caffe_" in e.architecture}
    for origin, name in names:
        if plain and _CAFFE.search(name):
            yield Clue(f'"caffe" in {origin}', tuple(e for e in entries if e.architecture not in plain), name)


def states_md5(entries: Iterable[ZooEntry]) -> bool:
    """Whether a file's md5 may tell which of the entries it is."""
    return any(entry.source.md5_prefix for entry in entries)


def has_digits(entry: ZooEntry, md5: str | None) -> bool:
    """Whether a file's md5 begins with the digits in the name of the entry's file: which another's may, too."""
    return bool(md5 and entry.source.md5_prefix and md5.startswith(entry.source.md5_prefix))


def contradiction(given: ZooEntry, hints: Iterable[Clue], entries: Sequence[ZooEntry]) -> Clue | None:
    """The strongest clue that points to other networks than the given entry's, unless a stronger one points to it."""
    left = list(entries)
    for hint in hints:
        both = [entry for entry in left if entry in hint.entries]
        if both and not any(_same_network(entry, given) for entry in both):
            return hint
        left = both or left
    return None


def _same_network(one: ZooEntry, other: ZooEntry) -> bool:
    return (one.publisher, one.architecture) == (other.publisher, other.architecture)


def named(stems: Iterable[str], entries: Sequence[ZooEntry]) -> tuple[ZooEntry, ...]:
    """Entries that have a stem's longest known label: a name, an alias, an architecture or their configuration's name.

    Several entries may share a configuration.  Aliases hold the stems of published files, except for those behind wrong
    links and those that many files share.  A label counts when it is the stem or its beginning, up to anything but a
    letter or digit.
    """
    best = 0
    chosen: tuple[ZooEntry, ...] = ()
    labels = {label for entry in entries for label in _labels(entry)}
    for stem in dict.fromkeys(stems):
        for label in labels:
            if len(label) > best and stem.startswith(label) and not stem[len(label) :][:1].isalnum():
                best, chosen = len(label), tuple(entry for entry in entries if label in _labels(entry))
    return chosen


def refuse_wrong_link(path: Path, given: ZooEntry, hints: Iterable[Clue], entries: Iterable[ZooEntry]) -> None:
    """Raise WrongEntry for the file behind the wrong link of the entry given: where shapes agree, only clues tell."""
    owner = next((entry for entry in entries if entry.download_url == given.source.checkpoint_url), given)
    clue = next((hint for hint in hints if (owner in hint.entries) != (given in hint.entries)), None)
    if clue is not None and owner in clue.entries:
        raise WrongEntry(
            f"{path} is {owner.name}, as {clue.origin} has it: the published table links that file for {given.name} by "
            f"mistake; {_whereabouts([given])}"
        )


def identify(
    path: Path,
    found: Shapes,
    converter: Layout,
    entries: Sequence[ZooEntry],
    expected: Mapping[str, Shapes],
    hints: Sequence[Clue],
) -> Identity:
    """The entries that the clues and the tensors agree on.

    ``found``: shapes by the publisher's key; ``expected``: architecture -> canonical shapes.  Raises TensorMismatch
    where the tensors fit none of the entries left, AmbiguousEntry where they fit networks that compute differently.
    """
    left, origins = list(entries), []
    for hint in hints:
        both = [entry for entry in left if entry in hint.entries]
        if both and len(both) < len(left):
            left = both
            origins.append(hint.origin)
    fits = _fits(converter, found, {name: expected[name] for name in _architectures(left)})
    fitting = [name for name, fit in fits.items() if fit.problems == 0]
    if not fitting:
        raise TensorMismatch(_misfit(path, found, converter, entries, expected, fits, origins))
    chosen = [entry for entry in left if entry.architecture in fitting]
    if len(fitting) > 1:
        raise AmbiguousEntry(
            f"{path}: its tensors fit {' and '.join(fitting)}, which compute differently, and neither its "
            f"configuration nor its name says which: pass --entry with one of {_names(chosen)}"
        )
    found_by = " and ".join(origins) or "the shapes of its tensors"
    return Identity(fitting[0], tuple(chosen), found_by, fits[fitting[0]])


def best_fits(converter: Layout, found: Shapes, expected: Mapping[str, Shapes]) -> dict[str, Fit]:
    """The architectures that a checkpoint's tensors come closest to, all those with as few problems."""
    fits = _fits(converter, found, expected)
    fewest = min(fit.problems for fit in fits.values())
    return {name: fit for name, fit in fits.items() if fit.problems == fewest}


def _fits(converter: Layout, found: Shapes, expected: Mapping[str, Shapes]) -> dict[str, Fit]:
    """How the tensors pair up with each architecture's; names are looked up once in a key map that many share."""
    maps = {name: converter.key_map(name) for name in expected}
    distinct = {id(key_map): key_map for key_map in maps.values()}
    places = {number: key_map.places(found) for number, key_map in distinct.items()}
    return {name: key_map.fit(found, expected[name], places[id(key_map)]) for name, key_map in maps.items()}


def is_published(entry: ZooEntry, sha256: str) -> bool:
    """Whether the file is the very one that the publisher gives the hash of."""
    prefix = entry.source.sha256 or entry.source.sha256_prefix
    return prefix is not None and sha256.startswith(prefix)


def _misfit(
    path: Path,
    found: Shapes,
    converter: Layout,
    entries: Sequence[ZooEntry],
    expected: Mapping[str, Shapes],
    tried: Mapping[str, Fit],
    origins: Sequence[str],
) -> str:
    best = best_fits(converter, found, expected)
    nearest = [entry for entry in entries if entry.architecture in best]
    fit = next(iter(best.values()))
    if not origins:
        fault = f"its tensors fit no {converter.publisher} entry"
        return f"{path}: {fault}; the closest are {_names(nearest)}: {fit.describe()}"
    name, wrong = min(tried.items(), key=lambda item: item[1].problems)
    advice = f"they {'are closest to' if fit.problems else 'fit'} {_names(nearest)}"
    slip = None if fit.problems else converter.confused(name, next(iter(best)))
    if slip is not None:
        meant = [entry for entry in entries if entry.architecture == name]
        advice = f"it looks like {next(iter(best))} ({slip}); {_whereabouts(meant)}"
    return (
        f"{path}: its tensors are not those of {name}, as {' and '.join(origins)} would have it "
        f"({wrong.describe()}): {advice}"
    )


def _whereabouts(entries: Sequence[ZooEntry]) -> str:
    links = [entry.download_url for entry in entries if entry.download_url is not None]
    return f"{_names(entries)} {f'lies at {links[0]}' if links else 'was never published'}"


def _labels(entry: ZooEntry) -> Collection[str]:
    config = PurePosixPath(entry.source.config_url or "")
    labels = {entry.name, entry.bare_name, entry.architecture, *entry.aliases}
    return labels | {config.stem} if config.suffix else labels  # without one it is a folder


def _architectures(entries: Iterable[ZooEntry]) -> list[str]:
    return list(dict.fromkeys(entry.architecture for entry in entries))


def _names(entries: Iterable[ZooEntry]) -> str:
    return ", ".join(entry.name for entry in entries)
