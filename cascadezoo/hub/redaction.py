"""Addresses and messages without their secrets: where a url becomes text, it goes through here.

A secret is what stands before the @ of an address, its query and its fragment (signatures, tokens), and whatever the
environment names as one: Hugging Face's token, and passwords in the addresses of proxies, a mirror and a Hub.
"""

import logging
import os
import re
from collections.abc import Iterator
from urllib.parse import quote, unquote

_URL = re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s'\"<>]+")
_USER = re.compile(r"^([^/?#]*://)?[^/?#]*@")  # as far as the last @ before the path
_QUERY = re.compile(r"(?<=[^\s?])\?[^\s?'\"()<>]*=[^\s'\"()<>]*")  # of an address without its host, as clients quote it
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{20,}|(?<=Bearer )\S+|(?<=Basic )\S+")
_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_ADDRESSES = ("CASCADEZOO_MIRROR", "HF_ENDPOINT", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY")
_SHORT = 4  # characters: a shorter password, wherever it comes up, is left to the forms above


def redacted(url: str) -> str:
    """An address as text: without user and password, with "…" for its query and its fragment."""
    head, query, _ = _without_known(url).partition("?")
    head, fragment, _ = head.partition("#")
    plain = _USER.sub(lambda found: f"{found[1] or ''}…@", head)
    return plain + (f"{query or fragment}…" if query or fragment else "")


def without_secrets(text: str) -> str:
    """A message that may quote addresses, headers or passwords, without them."""
    text = _TOKEN.sub("…", _without_known(text))
    text = _URL.sub(lambda found: redacted(found[0]), text)
    return _QUERY.sub("?…", text)


def scrubbed(error: BaseException) -> BaseException:
    """``error`` itself, with no secret in its text, nor in that of whatever caused it: to be raised from."""
    waiting, seen = [error], set[int]()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        waiting += [each for each in (one.__cause__, one.__context__, *one.args) if isinstance(each, BaseException)]
        one.args = tuple(without_secrets(each) if isinstance(each, str) else each for each in one.args)
        if isinstance(one, OSError) and isinstance(one.strerror, str):
            one.strerror = without_secrets(one.strerror)
    return error


class Redacting(logging.Filter):
    """For loggers of libraries that quote addresses: their messages without secrets."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = without_secrets(record.getMessage()), ()
        return True


def _without_known(text: str) -> str:
    for secret in _secrets():
        text = text.replace(secret, "…")
    return text


def _secrets() -> Iterator[str]:
    """What the environment holds of secrets, as it is and as an address writes it, the longest first."""
    found = {os.environ.get(name, "") for name in _TOKENS}
    for name in _ADDRESSES:
        for address in (os.environ.get(name, ""), os.environ.get(name.lower(), "")):
            before = address.rpartition("@")[0]
            user, colon, password = (before.partition("://")[2] or before).partition(":")
            found |= {form(password if colon else user) for form in (str, quote, unquote)}
    yield from sorted((secret for secret in found if len(secret) >= _SHORT), key=len, reverse=True)
