"""Why no answer came, in few words: requests and urllib3 wrap errors several times, in three ways."""

import os
import ssl
from collections.abc import Iterator, Sequence
from http.client import IncompleteRead
from pathlib import Path

import requests
from urllib3.exceptions import HTTPError, LocationValueError, ReadTimeoutError

from cascadezoo.hub.pace import TooSlow
from cascadezoo.hub.redaction import without_secrets

NO_ANSWER = (requests.RequestException, HTTPError, OSError, ValueError)
"""What asking a server raises: requests' own errors, and what it lets through of the layers below."""

OF_REQUESTS = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
OF_HTTPX = ("SSL_CERT_FILE",)  # with which the Hub's client asks


def innermost(error: BaseException) -> BaseException:
    """What an error comes from."""
    *_, last = _chain(error)
    return last


def certificates_fault(variables: Sequence[str] = OF_REQUESTS) -> str | None:
    """What is wrong with the certificates that the first of these variables names, as a sentence; None: nothing."""
    name = next((name for name in variables if os.environ.get(name)), None)
    if name is None:
        return None
    path = Path(os.environ[name])
    if path.is_dir():
        return None
    try:
        ssl.create_default_context(cafile=str(path))
    except FileNotFoundError:
        fault = "is not there"
    except OSError as error:  # ssl.SSLError is one
        fault = "holds no certificates" if isinstance(error, ssl.SSLError) else f"cannot be read: {error.strerror}"
    else:
        return None
    return f"{name} names {path}, which {fault}: correct or unset it"


def in_words(error: BaseException, patience: float) -> str:
    """The cause in few words; ``patience``: seconds that a byte was waited for."""
    cause, chain = innermost(error), tuple(_chain(error))
    proxy = "the proxy: " if any(type(each).__name__ == "ProxyError" for each in chain) else ""
    return proxy + _words(cause, patience)


def _words(cause: BaseException, patience: float) -> str:
    if isinstance(cause, ssl.SSLCertVerificationError):
        return cause.verify_message
    if isinstance(cause, TooSlow):
        return str(cause)
    if isinstance(cause, TimeoutError | ReadTimeoutError):
        return f"nothing came for {patience:g} s"
    if isinstance(cause, IncompleteRead):
        return "the connection ended before the file did"
    if "Missing dependencies for SOCKS" in str(cause):
        return "a proxy of the kind SOCKS needs PySocks: pip install pysocks"
    if isinstance(cause, requests.exceptions.InvalidURL | LocationValueError):  # the address itself was read before
        return f"the address of the proxy cannot be read ({without_secrets(str(cause))}): correct HTTPS_PROXY"
    if isinstance(cause, OSError) and cause.strerror:
        return without_secrets(cause.strerror).lower()
    return without_secrets(str(cause)) or type(cause).__name__


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and what lies inside it, to the innermost."""
    seen = set[int]()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        yield current
        seen.add(id(current))
        inner = (getattr(current, "reason", None), current.__cause__, *current.args)
        current = next((each for each in inner if isinstance(each, BaseException)), None)
