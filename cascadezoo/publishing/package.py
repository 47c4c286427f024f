"""The files of a published repository, checked as far as possible without the network."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from cascadezoo import registry
from cascadezoo.coco.categories import Categories, categories_of
from cascadezoo.converters.canonical import read_network
from cascadezoo.converters.safetensors_file import is_safetensors
from cascadezoo.errors import CorruptCheckpoint, UsageError, WrongEntry
from cascadezoo.files import file_sha256
from cascadezoo.hub.cache import embedded_file
from cascadezoo.hub.client import shown_endpoint
from cascadezoo.manifest import ZooEntry
from cascadezoo.publishing import figures
from cascadezoo.publishing.card import Card, Weights
from cascadezoo.publishing.licensing import license_of
from cascadezoo.publishing.picture import picture_of
from cascadezoo.repo_config import CategoryNames, RepoConfig
from cascadezoo.spec.model import ModelSpec
from cascadezoo.writing import CONFIG, WEIGHTS

CARD, REPORT, PICTURE = "README.md", "report.json", "picture.jpg"


@dataclass(frozen=True, kw_only=True)
class Package:
    """The files of a repository: card, config and picture, made here; the weights and the report, as they are."""

    card: Card
    weights: Path
    report: Path | None
    picture: bytes | None

    def files(self) -> dict[str, Path | bytes]:
        """Name in the repository -> the file, or what it holds."""
        texts = {CARD: self.card.text(), CONFIG: self.card.config.to_json()}
        files: dict[str, Path | bytes] = {name: text.encode() for name, text in texts.items()}
        files[WEIGHTS] = self.weights
        others: dict[str, Path | bytes | None] = {REPORT: self.report, PICTURE: self.picture}
        return {**files, **{name: content for name, content in others.items() if content is not None}}

    def sizes(self) -> dict[str, int]:
        """Name in the repository -> bytes."""
        return {
            name: len(content) if isinstance(content, bytes) else content.stat().st_size
            for name, content in self.files().items()
        }


def pack(
    entry: ZooEntry,
    repo: str,
    branch: str,
    path: Path,
    *,
    license: str | None,
    report: Path | None,
    image: Path | None = None,
) -> Package:
    """The canonical file at ``path`` with its card and its config, for a branch of the repository ``repo``.

    ``image``: what the card's picture is to show the weights' detections on.

    Raises UsageError (LicenseUnstated, a wrong licence, a report of other weights), and FileError where the weights
    are corrupt, or belong to another entry.
    """
    weights = _weights(entry, path)
    stated, attribution = _terms(entry, weights)
    shown = figures.published(entry) if weights.of_the_publisher or _embedded(entry, weights) else None
    if report is not None:
        url = f"{shown_endpoint()}/{repo}/blob/{quote(branch, safe='/')}/{REPORT}"
        shown = figures.measured(report, entry, weights.metadata["content_digest"], url)
    card = Card(
        repo=repo,
        entry=entry,
        config=_config(entry, weights),
        weights=weights,
        license=license_of(stated, license, entry.name),
        attribution=attribution,
        figures=shown,
        picture=PICTURE if image else None,
    )
    return Package(card=card, weights=path, report=report, picture=picture_of(entry, path, image) if image else None)


def _embedded(entry: ZooEntry, weights: Weights) -> bool:
    """Whether these are the weights inside this package, whose figures the manifest has."""
    return entry.availability == "embedded" and weights.sha256 == file_sha256(embedded_file(entry))


def _weights(entry: ZooEntry, path: Path) -> Weights:
    if path.is_file() and not is_safetensors(path):
        raise UsageError(
            f"{path} is not a canonical file: `cascadezoo convert --from {entry.publisher} {path}` makes one"
        )
    _, metadata = read_network(path, entry.publisher, entry.architecture)
    if missing := [key for key in ("publisher", "architecture", "content_digest") if key not in metadata]:
        raise CorruptCheckpoint(
            f"{path} gives no {missing[0]}, so it is no canonical file: convert the publisher's anew"
        )
    made_from = metadata.get("entries", entry.name).split(",")
    if entry.name not in made_from:
        raise WrongEntry(f"{path} holds the weights of {' or '.join(made_from)}: publish it under that name")
    return Weights(sha256=file_sha256(path), metadata=metadata)


def _terms(entry: ZooEntry, weights: Weights) -> tuple[str | None, str | None]:
    """Licence and attribution of the weights; None for the user's own, which were trained from scratch."""
    metadata = weights.metadata
    if weights.from_scratch and entry.availability != "embedded":
        return None, None
    if weights.of_the_publisher:  # the metadata joins the licences of all entries that the file may be: take this one's
        return entry.weights_license, entry.attribution
    return metadata.get("weights_license", entry.weights_license), metadata.get("attribution", entry.attribution)


def _config(entry: ZooEntry, weights: Weights) -> RepoConfig:
    own = weights.metadata.get("spec")
    spec = registry.spec_of(entry) if own is None else ModelSpec.model_validate_json(own)
    if "categories" in weights.metadata:
        categories = Categories.from_json(weights.metadata["categories"])
        spec = ModelSpec.model_validate({**spec.model_dump(), "num_classes": len(categories)})
    else:
        categories = categories_of(entry.data, spec.num_classes)
    return RepoConfig(
        entry=entry.name,
        publisher=entry.publisher,
        architecture=entry.architecture,
        content_digest=weights.metadata["content_digest"],
        categories=CategoryNames(names=tuple(categories), ids=categories.ids),
        spec=spec,
    )
