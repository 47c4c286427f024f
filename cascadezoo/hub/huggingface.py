"""Models from the Hugging Face Hub, or from a folder laid out as a repository there.

``config.json`` and ``model.safetensors`` are all that is ever read of a repository.
"""

import logging
import re
from dataclasses import dataclass
from pathlib import Path

from cascadezoo.converters.canonical import read_canonical
from cascadezoo.converters.safetensors_file import open_safetensors
from cascadezoo.errors import CorruptCheckpoint, DownloadFailed, RepoNotFound, UnusableRepo, UsageError, WeightsNotFound
from cascadezoo.hub import memo
from cascadezoo.hub.answers import is_commit
from cascadezoo.hub.client import cache_folder, client, plain_errors, unseen_bar
from cascadezoo.hub.offline import is_offline
from cascadezoo.hub.redaction import redacted
from cascadezoo.hub.sources import HubSource, LocalSource, Source
from cascadezoo.hub.transport import Progress
from cascadezoo.manifest import ZooEntry
from cascadezoo.modeling.build import canonical_shapes
from cascadezoo.repo_config import RepoConfig, read_config
from cascadezoo.writing import CONFIG, WEIGHTS

_ORGANISATION = re.compile(r"[\w.-]+", re.ASCII)

_log = logging.getLogger("cascadezoo")


@dataclass(frozen=True)
class Repo:
    """A repository's files on this machine: the weights hold the content digest that they and the config state.

    ``commit`` is absent for a folder.
    """

    source: Source
    config: RepoConfig
    weights: Path
    commit: str | None


def fetch_repo(source: Source, progress: Progress | None = None) -> Repo:
    """The files of a repository: from the Hub into Hugging Face's own cache, or where they lie.

    When the network is switched off, or the Hub does not answer, the cache's copy of that revision serves.  A copy that
    is damaged is fetched once more.

    Raises:
        RepoNotFound, NotAllowed, DownloadFailed, Offline: the repository cannot be had.
        WeightsNotFound: no such folder.
        UnusableRepo: a file is missing, or config.json is malformed, of a newer version, or of other weights.
        CorruptCheckpoint: the weights are no safetensors file, or do not hold their content digest.
    """
    try:
        return _opened(source, progress)
    except CorruptCheckpoint as error:
        if isinstance(source, LocalSource) or is_offline():
            raise
        _log.warning("%s; fetching it once more", error)
        return _opened(source, progress, afresh=True)


def canonical_from_hub(entry: ZooEntry, organisation: str, progress: Progress | None = None) -> Repo | None:
    """The repository ``organisation/<entry name>``; None where there is none.

    Raises as ``fetch_repo`` does for anything else, UsageError where ``organisation`` is no name of one, and
    UnusableRepo where the repository holds another entry.
    """
    if not _ORGANISATION.fullmatch(organisation):
        raise UsageError(
            f"CASCADEZOO_HUB={redacted(organisation)} names no organisation of the Hub: write its bare name"
        )
    source = HubSource(f"{organisation}/{entry.name}")
    try:
        repo = fetch_repo(source, progress)
    except RepoNotFound:
        return None
    if repo.config.entry != entry.name:
        raise UnusableRepo(f"{source} holds {repo.config.entry}: publish {entry.name} there, or unset CASCADEZOO_HUB")
    return repo


def _opened(source: Source, progress: Progress | None, *, afresh: bool = False) -> Repo:
    if isinstance(source, LocalSource):
        folder, commit = source.folder, None
        if not folder.is_dir():
            raise WeightsNotFound(f"{source}: no such folder")
    else:
        folder = _snapshot(source, progress, afresh)
        commit = folder.name
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise UnusableRepo(
                f"{source} has no {name}: `cascadezoo publish` makes repositories with all that is needed"
            )
    config = read_config(folder / CONFIG, str(source))
    _require_same(config, folder / WEIGHTS, source)
    return Repo(source, config, folder / WEIGHTS, commit)


def _snapshot(source: HubSource, progress: Progress | None, afresh: bool) -> Path:
    from huggingface_hub import snapshot_download

    api = client()
    with plain_errors(str(source)):
        folder = snapshot_download(
            source.repo,
            revision=source.revision,
            allow_patterns=[CONFIG, WEIGHTS],
            cache_dir=cache_folder(),
            endpoint=api.endpoint,
            library_name=api.library_name,
            library_version=api.library_version,
            local_files_only=is_offline(),
            force_download=afresh,
            tqdm_class=unseen_bar(progress),
        )
    if not is_commit(Path(folder).name):  # a note in the cache that another program wrote
        raise DownloadFailed(f"{source}: the Hugging Face cache leads to {folder}, which is no commit: remove it there")
    return Path(folder)


def _require_same(config: RepoConfig, weights: Path, source: Source) -> None:
    """Raise UnusableRepo where the weights were made for another network, or have another content, than config says,
    and CorruptCheckpoint where they have another than they say.

    Names and shapes come first, so that no network is built, and no tensor read, that they do not fit."""
    wanted = canonical_shapes(config.spec)
    there = {name: record.shape for name, record in open_safetensors(weights).records.items()}
    if wanted != there:
        wrong = sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))
        one = wrong[0]
        raise UnusableRepo(
            f"{source}: {WEIGHTS} does not fit the network of {CONFIG}: {len(wrong)} tensors differ, the first is "
            f"{one}, {_shape(wanted.get(one))} in the network and {_shape(there.get(one))} in the file"
        )
    _, metadata = read_canonical(weights, verify=memo.require_digest)
    for field in ("publisher", "architecture", "content_digest"):
        if (stated := metadata.get(field)) != (wanted := getattr(config, field)):
            raise UnusableRepo(
                f"{source}: {CONFIG} says {field} {wanted}, {WEIGHTS} says {stated}: they were not published together"
            )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "nowhere" if shape is None else str(list(shape))
