"""Names: which entries there are, which one a name means, and which network it needs.

A name is full (``cascade_r50_fpn_1x.mmdet``), bare (``cascade_r50_fpn_1x``: the first publisher that has it, in the
order of ``manifest.PUBLISHERS``) or an alias: the stem of a publisher's config or weights file.  Publishers share
some stems, so that ``.publisher`` may follow an alias too; two entries of one publisher share a configuration's where
they were trained by it from different weights.  Nothing here imports torch.

The zoo is what is judged on COCO, and the entry inside the package.  An entry on another data set is found wherever a
name is taken, and left out of whatever goes through all entries: lists, totals, pages, `verify --all`.
"""

from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from cascadezoo.errors import UnknownName, UnsupportedEntry, UsageError
from cascadezoo.manifest import ELSEWHERE, FAMILIES, PUBLISHERS, ZooEntry, load_elsewhere, load_manifest

if TYPE_CHECKING:
    from cascadezoo.spec.model import ModelSpec

_WEIGHTS = (".safetensors", ".pth", ".pt", ".pkl", ".pdparams", ".bin", ".ckpt")  # how files of weights are named
_ANY = "model_final"  # the name that many programs give to whatever they have trained
_CONFIGURATIONS = (".py", ".yaml", ".yml")


def entries(data: str | None = None) -> tuple[ZooEntry, ...]:
    """Every entry of the zoo, in the order of the publishers and of their tables; or those on ``data``, one of
    ``manifest.ELSEWHERE``."""
    if data is not None:
        return load_elsewhere()[data]
    return tuple(entry for published in load_manifest().values() for entry in published)


def all_known() -> tuple[ZooEntry, ...]:
    """The zoo's entries, then those on other data sets: all that a name may mean."""
    return (*entries(), *(entry for data in ELSEWHERE for entry in entries(data)))


def list_models(
    pattern: str | None = None,
    publisher: str | None = None,
    family: str | None = None,
    masks: bool | None = None,
    available: bool | None = None,
    data: str | None = None,
) -> list[str]:
    """Full names of the entries that fit every condition given.

    ``pattern`` is a shell pattern (``*x101*``) for the whole name, with or without its publisher.  ``family`` is one of
    faster, mask, cascade, cascade_mask.  ``masks``: with masks, or boxes only.  ``available``: whether weights
    exist, at a link known to be right or since corrected, or in this package.  ``data``: those on another data set than
    COCO, such as nuimages, in place of the zoo's.  Raises UsageError for a publisher, family or data set that does not
    exist.
    """
    if publisher is not None and publisher not in PUBLISHERS:
        raise UsageError(f"no publisher is called {publisher!r}; choose one of {', '.join(PUBLISHERS)}")
    if family is not None and family not in FAMILIES:
        raise UsageError(f"no family is called {family!r}; choose one of {', '.join(FAMILIES)}")
    if data is not None and data not in ELSEWHERE:
        raise UsageError(
            f"no entries are on {data!r}: choose {' or '.join(ELSEWHERE)}, or leave it out for those on COCO"
        )
    return [
        entry.name
        for entry in entries(data)
        if (pattern is None or fnmatchcase(entry.name, pattern) or fnmatchcase(entry.bare_name, pattern))
        and (publisher is None or entry.publisher == publisher)
        and (family is None or entry.family == family)
        and (masks is None or entry.has_masks == masks)
        and (available is None or entry.has_weights == available)
    ]


def info(name: str) -> ZooEntry:
    """The entry of a full name, a bare name or an alias; raises UnknownName, with names that are close."""
    return namesakes(name)[0]


def namesakes(name: str) -> tuple[ZooEntry, ...]:
    """Every entry of this name: the one that ``info`` takes, then the others, in the order of the publishers; raises
    UnknownName."""
    if found := _entries_of(name):
        return found
    stem, _, _ = name.rpartition(".")
    if name.endswith(_CONFIGURATIONS) and (meant := _entries_of(PurePosixPath(name).stem)):
        raise UnknownName(f"no entry is called {name!r}: the entry of this configuration is {meant[0].name}")
    close = get_close_matches(name, _known_names(), n=3, cutoff=0.7)
    if name.lower().endswith(_WEIGHTS) or stem == _ANY or name == _ANY or ("/" in name and ":" not in name):
        raise UnknownName(
            f"no entry is called {name!r}, which looks like a file of weights: give the name of its entry, and the "
            "file as weights (on the command line with --weights)"
        )
    hint = f"did you mean {' or '.join(close)}?" if close else "`cascadezoo list` shows all entries"
    raise UnknownName(f"no entry is called {name!r}: {hint}")


def spec_of(entry: ZooEntry) -> "ModelSpec":
    """The network of an entry; raises UnsupportedEntry where this version has none for it yet."""
    from cascadezoo.providers import SPECS  # networks are read only when asked for: listing stays quick

    spec = SPECS.get(entry.publisher, {}).get(entry.architecture)
    if spec is None:
        raise UnsupportedEntry(
            f"{entry.name} is listed, but this version of cascadezoo has no network for it yet: "
            f"choose an entry of {' or '.join(SPECS)}"
        )
    return spec


def _entries_of(name: str) -> tuple[ZooEntry, ...]:
    stem, _, publisher = name.rpartition(".")
    if publisher in PUBLISHERS:
        return _index()[publisher].get(stem, ())
    # an alias may hold a dot of its own, as in bbox_mAP-0.404
    return tuple(entry for index in _index().values() for entry in index.get(name, ()))


@cache
def _index() -> dict[str, dict[str, tuple[ZooEntry, ...]]]:
    """By publisher and name, the entries that it means, in the order of the publisher's tables."""
    index: dict[str, dict[str, tuple[ZooEntry, ...]]] = {publisher: {} for publisher in PUBLISHERS}
    for entry in all_known():
        names = index[entry.publisher]
        for name in (*entry.aliases, entry.bare_name):
            names[name] = (*names.get(name, ()), entry)
    return index


def _known_names() -> list[str]:
    full = [entry.name for entry in all_known()]
    return list(dict.fromkeys([*full, *(name for index in _index().values() for name in index)]))
