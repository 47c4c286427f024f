"""The items of a JSON file's lists, one at a time: a file of half a gigabyte never lies in memory as a whole."""

import codecs
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cascadezoo.errors import BadAnnotations, MissingResource

_CHUNK = 2**20  # bytes read at a time
_LONGEST = 2**26  # characters of one item: beyond any annotation

_decode = json.JSONDecoder().raw_decode
_space = re.compile(r"[ \t\n\r]*").match


class NotAList:
    """In place of the items of a key whose value is no list."""


class Begin:
    """Before the items of a list, which may be none."""


class JsonLists:
    """The lists of the object that a JSON file holds.

    Attributes:
        digest: SHA-256 of the file in hexadecimal, once all items were read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.digest = ""
        self._text, self._at, self._before = "", 0, 0
        self._is_all = False

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Key and item of each list in the file's order, a ``Begin`` before them; ``NotAList`` for another value.

        Raises MissingResource for a file that cannot be read, and BadAnnotations for one that is no JSON object.
        """
        self._text, self._at, self._before, self._is_all = "", 0, 0, False
        sha256 = hashlib.sha256()
        try:
            with self.path.open("rb") as self._file:
                self._sha256 = sha256
                head = self._file.read(4)
                self._file.seek(0)
                self._utf = codecs.getincrementaldecoder(json.detect_encoding(head))()
                yield from self._members()
        except FileNotFoundError as error:
            raise MissingResource(f"no such annotation file: {self.path}") from error
        except OSError as error:
            raise MissingResource(f"{self.path} cannot be read: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise self._no_json("it is no text in a UTF encoding") from error
        self.digest = sha256.hexdigest()

    def _members(self) -> Iterator[tuple[str, Any]]:
        first = self._next()
        if first == "[":
            raise self._bad("is no COCO instances file: it holds a list")
        if first != "{":
            raise self._no_json("an object begins with {")
        self._at += 1
        if self._next() == "}":
            self._at += 1
        else:
            while True:
                key = self._value(":")
                if not isinstance(key, str):
                    raise self._no_json("an object's key is a text")
                self._at += 1
                if self._next() == "[":
                    yield key, Begin()
                    for item in self._items():
                        yield key, item
                else:
                    self._value(",}")
                    yield key, NotAList()
                if self._step(",}") == "}":
                    break
        if self._next():
            raise self._no_json("something follows its end")

    def _items(self) -> Iterator[Any]:
        self._at += 1
        if self._next() == "]":
            self._at += 1
            return
        while True:
            yield self._value(",]")
            if self._step(",]") == "]":
                return

    def _next(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            self._at = _space(self._text, self._at).end()  # type: ignore[union-attr]  # it matches nothing, too
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def _step(self, ends: str) -> str:
        """Over one of ``ends``."""
        found = self._next()
        if not found or found not in ends:
            raise self._no_json(f"{' or '.join(ends)} is missing")
        self._at += 1
        return found

    def _value(self, ends: str) -> Any:
        """The value that comes next, and one of ``ends`` after it."""
        self._next()
        while True:
            try:
                value, end = _decode(self._text, self._at)
                after = _space(self._text, end).end()  # type: ignore[union-attr]
                problem = "" if self._text[after : after + 1] in ends else f"{' or '.join(ends)} is missing"
                problem = problem if after < len(self._text) else "it ends early"
            except json.JSONDecodeError as error:
                problem = error.msg
            except RecursionError as error:
                raise self._no_json("it is nested too deeply") from error
            except ValueError as error:  # Python reads no whole number of so many digits
                raise self._no_json("it holds a number of too many digits") from error
            if not problem:
                self._at = after
                return value
            # what looks wrong may only be cut off by the end of the buffer
            if len(self._text) - self._at > _LONGEST or not self._more():
                raise self._no_json(problem)

    def _more(self) -> bool:
        """Read on, at least as much as is left; whether there was anything."""
        if self._is_all:
            return False
        rest = self._text[self._at :]
        data = self._file.read(max(_CHUNK, len(rest)))
        self._sha256.update(data)
        self._is_all = not data
        self._before += self._at
        self._text, self._at = rest + self._utf.decode(data, final=self._is_all), 0
        return bool(data)

    def _no_json(self, problem: str) -> BadAnnotations:
        at = self._before + self._at
        return self._bad(f"is no JSON: {problem}, in what begins at character {at}; is the file whole?")

    def _bad(self, what: str) -> BadAnnotations:
        return BadAnnotations(f"{self.path} {what}")
