"""``config.json`` of a saved or published model: the network, its categories, and which weights they belong to."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from cascadezoo.coco.categories import Categories
from cascadezoo.errors import UnusableRepo
from cascadezoo.files import parse_json
from cascadezoo.spec.model import ModelSpec
from cascadezoo.spec.record import Record
from cascadezoo.version import __version__

_LIMIT = 1 << 20  # bytes; a config has about 10,000


class CategoryNames(Record):
    """Names and data-set ids by label 0..C-1, as ``coco.Categories`` holds them."""

    names: tuple[str, ...]
    ids: tuple[Annotated[int, Field(ge=-(2**63), lt=2**63)], ...]


class RepoConfig(Record):
    """The network of a repository or folder, and which weights belong to it.

    ``entry``, ``publisher`` and ``architecture`` are null for a network that no entry has.
    """

    library: Literal["cascadezoo"] = Field(default="cascadezoo", description="the library that reads the repository")
    version: str = Field(default=__version__, description="the version of cascadezoo that wrote it")
    entry: str | None = Field(description="the entry's full name, as in the manifest")
    publisher: str | None = Field(description="the publisher, as in the manifest")
    architecture: str | None = Field(description="the architecture, as in the manifest")
    content_digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="content digest of the weights beside it")
    categories: CategoryNames = Field(description="the data set's categories, by label")
    spec: ModelSpec = Field(description="the network; it holds even where this version's manifest differs")

    @property
    def names(self) -> Categories:
        """The categories, by label."""
        return Categories(self.categories.names, self.categories.ids)

    def to_json(self) -> str:
        """Text of the file; infinities are strings, so that it is JSON to everyone."""
        return json.dumps(json.loads(self.model_dump_json(), parse_constant=str), indent=2, ensure_ascii=False) + "\n"

    @model_validator(mode="after")
    def _one_category_a_class(self) -> Self:
        for values in (self.categories.names, self.categories.ids):
            if len(set(values)) != self.spec.num_classes or len(values) != self.spec.num_classes:
                raise ValueError(f"{len(values)} categories for {self.spec.num_classes} classes, or one of them twice")
        return self


def read_config(path: Path, origin: str) -> RepoConfig:
    """The config in a file that came from ``origin``.

    Raises UnusableRepo, which names the field that is wrong or that only a newer cascadezoo knows.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_LIMIT + 1)
        fields = parse_json(text) if len(text) <= _LIMIT else None
    except ValueError as error:
        raise UnusableRepo(f"{origin}: config.json is not JSON ({error}): publish it again") from error
    if not isinstance(fields, dict) or fields.get("library") != "cascadezoo":
        raise UnusableRepo(
            f"{origin}: config.json is not one of cascadezoo's: `cascadezoo publish` makes such repositories"
        )
    try:
        return RepoConfig.model_validate(fields)
    except ValidationError as error:
        raise UnusableRepo(f"{origin}: {_first_problem(error, fields)}") from error


def _first_problem(error: ValidationError, fields: dict[str, Any]) -> str:
    """Unknown fields come first: where a newer version wrote the file, they explain the rest."""
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    where = ".".join(str(part) for part in problems[0]["loc"]) or "config.json"
    if problems[0]["type"] == "extra_forbidden":
        return (
            f"config.json has a field {where} that cascadezoo {__version__} does not know; "
            f"{fields.get('version')} wrote it: install that version or a newer one"
        )
    return f"config.json: {where}: {problems[0]['msg'].removeprefix('Value error, ')}"
