"""The Hugging Face Hub's own client, with its environment read at call time and its errors in our words."""

import io
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from json import JSONDecodeError
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascadezoo.errors import (
    CascadezooError,
    DownloadFailed,
    NotAllowed,
    Offline,
    RepoNotFound,
    UnwritableOutput,
    UsageError,
)
from cascadezoo.hub.answers import checked
from cascadezoo.hub.causes import OF_HTTPX, certificates_fault
from cascadezoo.hub.redaction import redacted, scrubbed, without_secrets
from cascadezoo.hub.transport import Progress
from cascadezoo.paths import in_home
from cascadezoo.version import __version__

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils.tqdm import tqdm

# what the client raises where an answer lacks a field, or has one of another type
_NO_HUB = (JSONDecodeError, AssertionError, AttributeError, LookupError, TypeError, RecursionError, OverflowError)
_LOGIN = "log in with `hf auth login`, or set HF_TOKEN"


def endpoint() -> str:
    """``$HF_ENDPOINT``, else the public Hub."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def shown_endpoint() -> str:
    """``endpoint()`` for messages and pages: without a user's name and password."""
    return redacted(endpoint())


def cache_folder() -> Path:
    """Where the client keeps files: ``$HF_HUB_CACHE``, else ``hub`` in ``$HF_HOME`` or the user's XDG cache folder."""
    if own := os.environ.get("HF_HUB_CACHE"):
        return _expanded(own)
    if home := os.environ.get("HF_HOME"):
        return _expanded(home) / "hub"
    return _expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface" / "hub"


def client() -> "HfApi":
    """The client for ``endpoint()``, with the token of ``$HF_TOKEN`` or of `hf auth login`, if there is one."""
    from huggingface_hub import HfApi

    return HfApi(endpoint=endpoint(), library_name="cascadezoo", library_version=__version__)


def unseen_bar(progress: Progress | None) -> "type[tqdm]":
    """A bar for the client that shows nothing and reports the bytes of a snapshot to ``progress``."""
    from huggingface_hub.utils.tqdm import tqdm

    class Bar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._of_bytes = kwargs.get("name") == "huggingface_hub.snapshot_download"
            super().__init__(*args, **{**kwargs, "disable": False, "file": io.StringIO()})  # type: ignore[no-untyped-call]

        def display(self, *args: Any, **kwargs: Any) -> None:
            if self._of_bytes and self.total and progress is not None:
                progress(int(self.n), int(self.total))

        def close(self) -> None:
            self._of_bytes = False  # it comes with the garbage, when nobody listens any more
            super().close()

    return Bar


@contextmanager
def plain_errors(subject: str) -> Iterator[None]:
    """What the client raises in here becomes one sentence on ``subject``, and no answer reaches it that no Hub gives.

    Raises RepoNotFound, NotAllowed, DownloadFailed, UnsafeRedirect, Offline, UnwritableOutput where the client's cache
    cannot be written, and UsageError for what the Hub calls a bad request.
    """
    from huggingface_hub.errors import (  # type: ignore[attr-defined]  # httpx's error, whichever httpx the client uses
        HfHubHTTPError,
        HFValidationError,
        HTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    try:
        with checked():
            yield
    except CascadezooError:
        raise
    except HFValidationError as error:
        raise UsageError(f"{subject}: the Hub allows no such name: {_line(error)}") from scrubbed(error)
    except (HTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise _translated(error, subject) from scrubbed(error)
    except RuntimeError as error:  # so the client wraps a failed upload
        if isinstance(cause := error.__cause__, HTTPError):
            message = _answer(cause) if isinstance(cause, HfHubHTTPError) else _line(cause)
            raise DownloadFailed(f"{subject}: the upload broke off ({message}): run it again") from scrubbed(error)
        raise
    except ImportError as error:  # of a proxy of the kind SOCKS, which the client speaks with a package of its own
        raise DownloadFailed(f"{subject}: {_line(error)}") from scrubbed(error)
    except OSError as error:
        if isinstance(error, ssl.SSLError | FileNotFoundError) and (fault := certificates_fault(OF_HTTPX)):
            raise DownloadFailed(f"{subject} cannot be asked for: {fault}") from scrubbed(error)
        if error.errno is None:  # the client's own: not all bytes came, or no way to tell
            raise DownloadFailed(f"{subject}: {_line(error)}") from scrubbed(error)
        raise UnwritableOutput(
            f"{subject}: {error.filename or cache_folder()} cannot be written ({error.strerror or error}): set HF_HOME "
            "to a folder of your own"
        ) from scrubbed(error)
    except _NO_HUB as error:
        raise DownloadFailed(
            f"{subject}: {shown_endpoint()} does not answer as a Hub ({type(error).__name__}): check HF_ENDPOINT"
        ) from scrubbed(error)
    except ValueError as error:  # a card or an object that the Hub refuses
        raise UsageError(f"{subject}: the Hub refuses it: {_line(error)}") from scrubbed(error)


def _translated(error: BaseException, subject: str) -> CascadezooError:
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    match error:
        case LocalEntryNotFoundError(__cause__=None) | OfflineModeIsEnabled():
            return Offline(
                f"{subject} is not in the Hugging Face cache ({cache_folder()}), and the network is switched off: "
                "load it once with the network on"
            )
        case LocalEntryNotFoundError(__cause__=BaseException() as cause):
            return _translated(cause, subject)
        case GatedRepoError():
            return NotAllowed(f"{subject} is gated: accept its terms on {shown_endpoint()}, then {_LOGIN}")
        case RepositoryNotFoundError():
            return RepoNotFound(
                f"{subject}: {shown_endpoint()} has no such repository, or not for you: check the name, or {_LOGIN}"
            )
        case RevisionNotFoundError():
            return RepoNotFound(f"{subject}: the repository has no such branch, tag or commit")
        case RemoteEntryNotFoundError():
            return RepoNotFound(f"{subject}: the repository has no such file ({_line(error)})")
        case HfHubHTTPError() if error.response.status_code in (401, 403):
            return NotAllowed(f"{subject}: the Hub refuses ({_answer(error)}): {_LOGIN} with a token that may do this")
        case HfHubHTTPError() if error.response.status_code in (400, 409, 422):
            return UsageError(f"{subject}: the Hub refuses it: {_answer(error)}")
        case HfHubHTTPError():
            return DownloadFailed(f"{subject}: {shown_endpoint()} answers {_answer(error)}: try again later")
        case _:
            return DownloadFailed(
                f"{subject}: {shown_endpoint()} cannot be reached ({type(error).__name__}: {_line(error)}): "
                "check the network, HTTPS_PROXY and HF_ENDPOINT"
            )


def _answer(error: "HfHubHTTPError") -> str:
    response = error.response
    return f"{response.status_code} {_line(error.server_message or response.reason_phrase)}"


def _line(message: object) -> str:
    """The first line of a message."""
    return next((line.strip() for line in without_secrets(str(message)).splitlines() if line.strip()), "without a word")


def _expanded(path: str) -> Path:
    return in_home(os.path.expandvars(path), "HF_HOME")
