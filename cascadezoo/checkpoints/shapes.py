"""The tensors that a network has, by name and shape, for any number of classes, without building it.

``zoo_manifest/tensors.tsv`` lists those of every network of the zoo, each tensor once with the networks that have it,
so that a file is looked at without torch.  ``python -m cascadezoo.checkpoints.shapes`` writes it anew.  A network that
is not listed is built on the meta device, where its tensors hold no numbers.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path

from cascadezoo.converters.keymap import Shapes
from cascadezoo.providers import SPECS
from cascadezoo.spec.model import ModelSpec

_FILE = "tensors.tsv"
# fields, besides the number of classes
_DECIDING = {"backbone", "neck", "rpn_convs", "box_head", "stages", "mask", "conventions"}
_SIDE = re.compile(r"(?:(\d*)C)?\+?(\d*)")  # "1024", "C", "C+1", "4C"


@lru_cache(maxsize=64)
def shapes_of(spec: ModelSpec) -> Shapes:
    """Canonical name -> shape of every tensor of a network."""
    listed = _listed().get(_digest(spec))
    if listed is None:
        from cascadezoo.modeling.build import canonical_shapes

        return canonical_shapes(spec)
    return {name: tuple(a * spec.num_classes + b for a, b in sides) for name, sides in listed.items()}


def _digest(spec: ModelSpec) -> str:
    return hashlib.sha256(spec.model_dump_json(include=_DECIDING).encode()).hexdigest()[:16]


_Sides = tuple[tuple[int, int], ...]  # (a, b) for a side of a C + b


@cache
def _listed() -> dict[str, dict[str, _Sides]]:
    """Digest of a spec -> name -> sides, as the file lists them."""
    lines = (resources.files("cascadezoo.zoo_manifest") / _FILE).read_text("utf-8").splitlines()
    digests = [line.split("\t")[1] for line in lines if line.startswith("#")]
    networks: dict[str, dict[str, _Sides]] = {digest: {} for digest in digests}
    for line in lines:
        if not line.startswith("#"):
            name, shape, members = line.split("\t")
            sides = tuple(_side(text) for text in shape.split(" ")) if shape else ()
            for index in _indices(members):
                networks[digests[index]][name] = sides
    return networks


def _side(text: str) -> tuple[int, int]:
    match = _SIDE.fullmatch(text)
    assert match is not None, text
    return (int(match[1] or 1) if "C" in text else 0), int(match[2] or 0)


def _indices(text: str) -> Iterator[int]:
    for part in text.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def table() -> str:
    """The text of the file, from the networks themselves."""
    from cascadezoo.modeling.build import canonical_shapes

    rows: dict[tuple[str, str], list[int]] = defaultdict(list)
    heads = []
    networks = [(p, name, SPECS[p][name]) for p in SPECS for name in sorted(SPECS[p])]
    for index, (publisher, name, spec) in enumerate(networks):
        heads.append(f"# {index}\t{_digest(spec)}\t{name}.{publisher}")
        one, two = (canonical_shapes(spec.with_classes(count)) for count in (1, 2))
        for tensor, shape in one.items():
            sides = " ".join(_text(side, more - side) for side, more in zip(shape, two[tensor], strict=True))
            rows[tensor, sides].append(index)
    lines = [f"{tensor}\t{sides}\t{_runs(members)}" for (tensor, sides), members in rows.items()]
    return "\n".join([*heads, *lines]) + "\n"


def _text(side: int, slope: int) -> str:
    """A side by its length for one class, and how much longer it is for each further one."""
    rest = side - slope
    factor = {0: "", 1: "C"}.get(slope, f"{slope}C")
    return factor + (f"+{rest}" if factor else str(rest)) if rest or not factor else factor


def _runs(members: list[int]) -> str:
    runs: list[list[int]] = []
    for member in members:
        if runs and runs[-1][-1] == member - 1:
            runs[-1].append(member)
        else:
            runs.append([member])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


if __name__ == "__main__":
    Path(str(resources.files("cascadezoo.zoo_manifest") / _FILE)).write_text(table(), "utf-8")
