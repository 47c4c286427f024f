"""Where a model's weights came from, and on which terms: carried by the model, written into files made from it."""

from collections.abc import Mapping
from typing import Self

from pydantic import Field

from cascadezoo.spec.record import Record

_RANDOM = "random"


class Origin(Record):
    """The origin of a model's weights; what is not known is None.

    A model whose weights were set in another way (``load_state_dict``) can be given an origin of its own:
    ``model.origin = Origin(started_from="…", weights_license="…", attribution="…")``.
    """

    started_from: str = Field(
        description="In words: random, an entry as published, a file or a repository with its digest or commit, and "
        "what that was trained from in its turn."
    )
    from_scratch: bool = Field(
        default=False, description="The weights were random at first: nobody else's weights, and terms, are in them."
    )
    entry: str | None = Field(default=None, description="The entry whose network this is.")
    architecture: str | None = Field(default=None, description="The entry's architecture.")
    publisher: str | None = Field(default=None, description="The entry's publisher.")
    code_license: str | None = Field(default=None, description="The licence of the publisher's code.")
    weights_license: str | None = Field(default=None, description="The licence of the weights it started from.")
    attribution: str | None = Field(default=None, description="Whom that licence asks to be named.")
    source_url: str | None = Field(default=None, description="The publisher's file it started from.")
    source_sha256: str | None = Field(default=None, description="The SHA-256 of that file, in hexadecimal.")
    published_digest: str | None = Field(
        default=None, description="The content digest of the entry's published weights, where it started from these."
    )

    @classmethod
    def random(cls, **network: str) -> Self:
        """Of newly initialised weights; ``network``: entry, architecture and publisher, where there are any."""
        return cls(started_from=_RANDOM, from_scratch=True, **network)

    @classmethod
    def of_file(cls, words: str, metadata: Mapping[str, str], **network: str | None) -> Self:
        """Of weights read from a canonical file, described in ``words``, whose metadata keep the terms it came with."""
        before = metadata.get("started_from")
        kept = ("code_license", "weights_license", "attribution", "source_url", "source_sha256", "published_digest")
        return cls(
            started_from=words if before is None else f"{words}, which started from {before}",
            from_scratch=is_from_scratch(metadata),
            **network,
            **{key: metadata[key] for key in kept if key in metadata},
        )

    def metadata(self) -> dict[str, str]:
        """As the metadata of a canonical file; what is not known is left out."""
        values = self.model_dump(exclude={"entry", "from_scratch"}, exclude_none=True)
        if self.entry is not None:
            values["entries"] = self.entry
        if self.from_scratch:
            values["from_scratch"] = "yes"
        return values


def is_from_scratch(metadata: Mapping[str, str]) -> bool:
    """Whether a canonical file says that its weights were random at first."""
    return metadata.get("from_scratch") == "yes" or metadata.get("started_from") == _RANDOM
