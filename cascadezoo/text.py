"""Text that may come from a file, a server or a stranger's name, made safe to show on a terminal or in a page.

Control characters can clear a screen, forge a line or recolour what stands there; bidirectional controls can turn a
name round; characters that nobody sees can make two names look alike.  All of them are shown as escapes: ``\\x1b``,
``\\u202e``.
"""

import json
import logging
import re

_LINES = "\n\t"
# C0, DEL and C1; soft hyphen; marks and controls of direction; invisible spaces and operators; line and paragraph
# separators; halves of surrogate pairs; tags.  The joiners U+200C and U+200D stay: scripts and emoji need them.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)


def printable(text: object, *, lines: bool = False) -> str:
    """``str(text)`` on one line, with everything in it that could act on a terminal shown as an escape.

    ``lines``: line breaks and tabs stay, for text that has lines of its own.  Printable text comes back as it is.
    """
    return _UNSEEN.sub(lambda found: found[0] if lines and found[0] in _LINES else _escape(found[0]), str(text))


def printable_json(text: str) -> str:
    """A JSON text of the same value in which the same characters are written as JSON escapes."""
    return _UNSEEN.sub(lambda found: found[0] if found[0] in _LINES else json.dumps(found[0])[1:-1], text)


def print_safely(record: logging.LogRecord) -> bool:
    """A filter of loggers: the message becomes printable, and is let through."""
    record.msg, record.args = printable(record.getMessage()), ()
    return True


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
