"""Whether every address of the manifest still leads to its file.

Each host gets one request at a time, with a pause between: a few hundred small requests, and nothing is downloaded.
"""

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal
from urllib.parse import urlsplit

import requests

from cascadezoo.errors import DownloadFailed, Offline, UnsafeRedirect
from cascadezoo.hub import offline
from cascadezoo.hub.causes import NO_ANSWER, certificates_fault, in_words
from cascadezoo.hub.pace import PacedSession
from cascadezoo.hub.redaction import redacted
from cascadezoo.hub.transport import Step, request, session
from cascadezoo.manifest import ZooEntry

State = Literal["ok", "moved", "changed", "dead", "unreachable", "skipped"]

HOSTS_AT_ONCE = 8
PAUSE = 0.2  # seconds between two requests to one host
TIMEOUT = (10.0, 20.0)  # seconds to connect, and without a byte
_PERMANENT = frozenset({301, 308})  # a file has moved; with 302, 303 and 307, GitHub, S3 and the Hub serve every file
_KNOWN = {
    "moved": "known to have moved",
    "wrong_link": "known to lead to another model",
    "never_published": "known to lead to another model",
}
_NO_VERDICT = {  # as 5xx: of this network, this moment or this country, and not of the file
    401: ", which wants a login",
    402: "",
    407: ": the proxy wants a name and a password",
    408: "",
    421: "",
    425: "",
    429: "",
    451: "",
}
_OLD_CONFIG = "config as printed, known to have moved"
_MAY_BE_PAGES = ("config", "corrected config", _OLD_CONFIG, "log")  # linked by some as a page that shows them
_OPENING = 512  # bytes, by which a page is told from a file


@dataclass(frozen=True)
class Use:
    """What an entry uses an address for.

    Attributes:
        entry: the entry's full name.
        what: a phrase such as "checkpoint" or "log".
        needed: the entry cannot be downloaded or verified without it.
        size: of the file in bytes, where the manifest gives it.
        sha256_prefix: the first 8 digits of the file's SHA-256, where the manifest gives them.
    """

    entry: str
    what: str
    needed: bool = False
    size: int | None = None
    sha256_prefix: str | None = None


@dataclass(frozen=True)
class LinkVerdict:
    """The result of trying one address.

    Attributes:
        url: the address, as the manifest has it.
        state: ok, moved, changed, dead, unreachable, or skipped.
        uses: what the entries use it for.
        detail: the reason, as a phrase.
        status: the HTTP status of the last answer.
        final_url: where permanent redirects lead, for a moved file.
        redirects: every address on the way.
        size: of the file in bytes, as the server gives it.
        etag: as the server gives it.
    """

    url: str
    state: State
    uses: tuple[Use, ...]
    detail: str
    status: int | None = None
    final_url: str | None = None
    redirects: tuple[str, ...] = ()
    size: int | None = None
    etag: str | None = None

    @property
    def is_loss(self) -> bool:
        """Whether an entry has lost a file that it needs."""
        return self.state in ("dead", "changed") and any(use.needed for use in self.uses)


def uses(entries: Iterable[ZooEntry]) -> dict[str, tuple[Use, ...]]:
    """Address -> what it is used for, in the manifest's order."""
    uses_of: dict[str, tuple[Use, ...]] = {}
    for entry in entries:
        for url, use in _uses(entry):
            uses_of[url] = (*uses_of.get(url, ()), use)
    return uses_of


def audit(
    entries: Iterable[ZooEntry], report: Callable[[LinkVerdict], None] = lambda verdict: None
) -> list[LinkVerdict]:
    """A verdict on every address of these entries, in the manifest's order; ``report`` is called with each as it comes.

    The publishers themselves are asked: ``CASCADEZOO_MIRROR`` plays no part.  Raises Offline.
    """
    if forbidding := offline.switch():
        raise Offline(f"links are tried over the network, which {forbidding} forbids: unset it")
    wanted = uses(entries)
    by_host: dict[str, list[str]] = {}
    for url in wanted:
        by_host.setdefault(urlsplit(url).netloc, []).append(url)
    verdicts: dict[str, LinkVerdict] = {}
    stop = threading.Event()

    def ask(urls: list[str]) -> None:
        with session() as http:
            for number, url in enumerate(urls):
                if stop.wait(PAUSE if number else 0):
                    return
                verdicts[url] = _try(http, url, wanted[url])
                report(verdicts[url])

    with ThreadPoolExecutor(HOSTS_AT_ONCE) as pool:
        try:
            for finished in as_completed([pool.submit(ask, urls) for urls in by_host.values()]):
                finished.result()
        finally:
            stop.set()  # after Ctrl-C the hosts' threads end with the request they are in
    return [verdicts[url] for url in wanted]


def _uses(entry: ZooEntry) -> Iterator[tuple[str, Use]]:
    source, right = entry.source, entry.download_url
    checkpoints = () if entry.availability == "embedded" else (source.checkpoint_url, entry.corrected_url)
    for url in dict.fromkeys(checkpoints):
        if url is not None:
            what = "corrected checkpoint" if url == entry.corrected_url else "checkpoint"
            if url == right:
                prefix = source.sha256 or source.sha256_prefix
                yield url, Use(entry.name, what, True, source.size, prefix and prefix[:8])
            else:
                yield url, Use(entry.name, f"{what} as printed, {_KNOWN[entry.availability]}")
    if source.md5_url is not None:
        yield source.md5_url, Use(entry.name, "md5", True)
    others = {
        "corrected config": entry.corrected_config_url,
        _OLD_CONFIG if entry.corrected_config_url else "config": source.config_url,
        "log": source.log_url,
        "boxes": source.boxes_url,
        "masks": source.masks_url,
    }
    for what, url in others.items():
        if url is not None:
            yield url, Use(entry.name, what)


def _try(http: PacedSession, url: str, wanted: tuple[Use, ...]) -> LinkVerdict:
    if not urlsplit(url).netloc:
        return LinkVerdict(url, "skipped", wanted, "a path beside the publisher's page: no address of its own")
    try:
        answer, steps = _ask(http, url)
        state, detail = _judge(url, answer, steps, wanted)
        if state == "ok" and _is_page(http, url, answer, wanted):
            state, detail = "changed", "a web page in place of the file"
    except (UnsafeRedirect, DownloadFailed) as error:  # of where it leads
        return LinkVerdict(url, "dead", wanted, str(error).removeprefix(f"{redacted(url)} "))
    except NO_ANSWER as error:
        return LinkVerdict(url, "unreachable", wanted, certificates_fault() or in_words(error, TIMEOUT[1]))
    return LinkVerdict(
        url,
        state,
        wanted,
        detail,
        answer.status_code,
        _moved_to(url, steps) if state == "moved" else None,
        tuple(_trail(url, steps)[1:]),
        _size(answer),
        answer.headers.get("ETag"),
    )


def _ask(http: PacedSession, url: str) -> tuple[requests.Response, tuple[Step, ...]]:
    """The answer to HEAD, or, from a server that refuses it, to GET for one byte; the body is left unread."""
    answer, steps = request(http, "HEAD", url, timeout=TIMEOUT)
    if not answer.ok:
        answer.close()
        answer, steps = request(http, "GET", url, {"Range": "bytes=0-0"}, TIMEOUT)
    answer.close()
    return answer, steps


def _judge(url: str, answer: requests.Response, steps: tuple[Step, ...], wanted: tuple[Use, ...]) -> tuple[State, str]:
    status = f"{answer.status_code} {answer.reason}"
    trail = _trail(url, steps)
    if answer.status_code >= 500 or answer.status_code in _NO_VERDICT:
        return "unreachable", status + _NO_VERDICT.get(answer.status_code, "")
    if answer.status_code not in (200, 206):
        return "dead", status
    for use in wanted:
        if use.size and (size := _size(answer)) and size != use.size:
            return "changed", f"{size} bytes, the manifest says {use.size}"
        if (named := _prefix(trail)) and use.sha256_prefix and named != use.sha256_prefix:
            return "changed", f"the file there is named for sha256 {named}, the manifest says {use.sha256_prefix}"
    if (now := _moved_to(url, steps)) != url:
        return "moved", f"now {now}"
    return "ok", status


def _is_page(http: PacedSession, url: str, answer: requests.Response, wanted: tuple[Use, ...]) -> bool:
    """Whether a web page is served where a file should be, as by a host that has closed or wants a login.

    A server that calls its answer text of any kind is asked for the first bytes, since some call every file so.
    """
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    is_text = kind.startswith("text/") or kind.endswith(("xml", "json", "html"))
    if not is_text or all(use.what in _MAY_BE_PAGES for use in wanted):
        return False
    start, _ = request(http, "GET", url, {"Range": f"bytes=0-{_OPENING - 1}"}, TIMEOUT)
    try:
        opening = start.raw.read(_OPENING, decode_content=True).lstrip(b"\xef\xbb\xbf \t\r\n")
    finally:
        start.close()
    return bool(opening.startswith(b"<"))


def _trail(url: str, steps: tuple[Step, ...]) -> list[str]:
    """The addresses from the one asked to the one that answered, without the signatures that storage hosts add."""
    return [url, *(redacted(step.url) for step in steps[1:])]


def _moved_to(url: str, steps: tuple[Step, ...]) -> str:
    """Where the permanent redirects lead, until the first that is not."""
    for step, target in pairwise(steps):
        if step.status not in _PERMANENT:
            break
        url = redacted(target.url)
    return url


def _prefix(trail: list[str]) -> str | None:
    """The hash in the name of the last file on the way that has one."""
    named = [found[1] for url in trail if (found := re.search(r"-([0-9a-f]{8})\.pth$", urlsplit(url).path))]
    return named[-1] if named else None


def _size(answer: requests.Response) -> int | None:
    """Bytes of the whole file; None where the server does not say, or packs it for the journey."""
    if "Content-Encoding" in answer.headers:
        return None
    whole = re.fullmatch(r"bytes [0-9]+-[0-9]+/([0-9]+)", answer.headers.get("Content-Range", ""))
    length = whole[1] if whole else answer.headers.get("Content-Length", "")
    return int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None
