"""Canonical weights to a repository on the Hugging Face Hub: card, config and weights in one commit."""

from contextlib import ExitStack, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from cascadezoo import registry
from cascadezoo.errors import NotAllowed, Offline, UsageError, WeightsNotFound
from cascadezoo.hub import offline
from cascadezoo.hub.cache import embedded_file, weights_path
from cascadezoo.hub.client import client, plain_errors, shown_endpoint
from cascadezoo.hub.progress import are_wanted, steps_hidden
from cascadezoo.hub.sources import is_repository
from cascadezoo.manifest import ZooEntry
from cascadezoo.paths import expanded
from cascadezoo.publishing.licensing import WeightsLicense, require_identifier
from cascadezoo.spec.record import Record
from cascadezoo.version import __version__

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from torch import nn

    from cascadezoo.publishing.package import Package


class Publication(Record):
    """What was published, or would be."""

    entry: str = Field(description="the entry's full name")
    repo: str = Field(description="organisation/repository")
    url: str = Field(description="the repository's page")
    revision: str | None = Field(description="the branch; None: main")
    private: bool = Field(description="whether the repository is private")
    dry_run: bool = Field(description="nothing was uploaded")
    license: WeightsLicense = Field(description="the licence of the weights")
    figures: Literal["published", "measured"] | None = Field(description="where the card's accuracy comes from")
    files: dict[str, int] = Field(description="name in the repository -> bytes")
    card: str = Field(description="the text of README.md")
    commit: str | None = Field(default=None, description="the branch's last commit; None after a dry run")
    changed: bool = Field(default=False, description="whether that commit is a new one")

    def to_json(self) -> str:
        return self.model_dump_json(indent=2)


def publish(
    name: "str | nn.Module",
    repo: str,
    *,
    weights: str | Path | None = None,
    private: bool = False,
    dry_run: bool = False,
    license: str | None = None,
    report: str | Path | None = None,
    picture: str | Path | None = None,
    revision: str | None = None,
) -> Publication:
    """Publish an entry's canonical weights as the Hub repository ``repo``, with a card and a config, in one commit.

    Args:
        name: the entry; or a model, whose own weights, categories and numbers are published.
        repo: ``organisation/repository``; created if it is not there.
        weights: the canonical file; default: the entry's in the cache.  It is uploaded as it is.
        private: create a private repository; one that exists must be private already.
        dry_run: touch no network, and say what would be uploaded.
        license: the weights' licence (SPDX), where their publisher states none.
        report: a report of ``cascadezoo verify``, whose figures the card then shows; published beside it.
        picture: an image: what the weights find on it is drawn and shown on the card; published as ``picture.jpg``.
        revision: the branch to commit to, created if it is not there; default: main.

    Raises:
        UsageError: no such entry, a model of no entry, a malformed name, LicenseUnstated, or a licence that is not the
            publisher's.
        WeightsNotFound: no canonical weights.
        FileError: the weights are corrupt, or belong to another entry; ``picture`` is no image (UnreadableImage).
        Offline, NotAllowed, RepoNotFound, DownloadFailed: the Hub refuses or cannot be reached.
    """
    if not is_repository(repo):
        raise UsageError(f"{repo!r} names no repository: write organisation/repository")
    require_identifier(license)
    with ExitStack() as stack:
        if isinstance(name, str):
            entry = registry.info(name)
            path = expanded(weights) if weights else _cached(entry)
        else:
            entry, path = _saved(name, weights, Path(stack.enter_context(TemporaryDirectory())))
        from cascadezoo.publishing.package import pack  # and torch, now that there is something to publish

        shown, image = (expanded(each) if each else None for each in (report, picture))
        package = pack(entry, repo, revision or "main", path, license=license, report=shown, image=image)
        return _published(package, entry, repo, revision=revision, private=private, dry_run=dry_run)


def _published(
    package: "Package", entry: ZooEntry, repo: str, *, revision: str | None, private: bool, dry_run: bool
) -> Publication:
    planned = Publication(
        entry=entry.name,
        repo=repo,
        url=f"{shown_endpoint()}/{repo}",
        revision=revision,
        private=private,
        dry_run=dry_run,
        license=package.card.license,
        figures=package.card.figures.basis if package.card.figures else None,
        files=package.sizes(),
        card=package.card.text(),
    )
    if dry_run:
        return planned
    before, commit = _upload(package, planned)
    return planned.model_copy(update={"commit": commit, "changed": commit != before})


def _saved(model: object, weights: object, folder: Path) -> tuple[ZooEntry, Path]:
    """The entry of a model, and its weights as a file in ``folder``."""
    from cascadezoo.saving import bare, save  # torch, which is there where a model is

    detector = bare(model)
    if weights is not None:
        raise UsageError("a model brings its own weights: leave weights=FILE out")
    if detector.origin.entry is None:
        raise UsageError(
            "the model is of no entry of the zoo, whose card it would have: save it as a folder (cascadezoo.save) and "
            "upload that"
        )
    return registry.info(detector.origin.entry), save(detector, folder / "model.safetensors")


def _cached(entry: ZooEntry) -> Path:
    path = embedded_file(entry) if entry.availability == "embedded" else weights_path(entry)
    if not path.is_file():
        raise WeightsNotFound(
            f"no weights of {entry.name} in the cache ({path}): fetch them with `cascadezoo download {entry.name}`, "
            "or give --weights FILE"
        )
    return path


def _upload(package: "Package", planned: Publication) -> tuple[str | None, str]:
    """The commit that was the branch's last, if it was there, and the one that is now."""
    from huggingface_hub import CommitOperationAdd, get_token
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if forbidding := offline.switch():
        raise Offline(f"{planned.repo} cannot be published while {forbidding} forbids the network: unset it")
    if get_token() is None:
        raise NotAllowed(
            f"to publish {planned.repo}, log in with `hf auth login` or set HF_TOKEN: there is no token yet"
        )
    api = client()
    bars = nullcontext() if are_wanted() else disable_progress_bars()
    with steps_hidden(), plain_errors(f"hf-hub:{planned.repo}"), bars:
        _ready(api, planned)
        before = api.model_info(planned.repo, revision=planned.revision).sha
        commit = api.create_commit(
            planned.repo,
            operations=[CommitOperationAdd(name, content) for name, content in package.files().items()],
            commit_message=f"Publish {planned.entry} with cascadezoo {__version__}",
            revision=planned.revision,
        )
    return before, commit.oid


def _ready(api: "HfApi", planned: Publication) -> None:
    """Create the repository and its branch where needed; UsageError where a public one was to be private."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        there = api.model_info(planned.repo)
    except RepositoryNotFoundError:
        api.create_repo(planned.repo, private=planned.private or None, exist_ok=True)
    else:
        if planned.private and not there.private:
            raise UsageError(
                f"{planned.repo} exists and is public: make it private on the Hub first, or leave --private out"
            )
    if planned.revision:
        api.create_branch(planned.repo, branch=planned.revision, exist_ok=True)
