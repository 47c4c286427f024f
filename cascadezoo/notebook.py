"""What notebooks show of an object, as HTML and PNG, and pictures shown to whoever sits at the machine.

Names come from files and servers: whatever is shown is escaped, and what acts without being seen is spelt out.
"""

import base64
import io
import sys
from collections.abc import Iterable, Sequence
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cascadezoo.errors import MissingResource
from cascadezoo.text import printable

if TYPE_CHECKING:
    from PIL import Image

_SIDE = 1024  # pixels that a picture's longer side has at most in a page, which keeps it for ever
_ROWS = 20  # of a table


def card(title: str, lines: Iterable[tuple[str, str]]) -> str:
    """HTML: a title above lines of label and text, those without a text left out; texts that are http(s) addresses are
    links."""
    left, wrapped = "text-align: left; vertical-align: top", "overflow-wrap: anywhere"
    rows = "".join(
        f'<tr><th style="{left}">{shown(label)}</th><td style="{left}; {wrapped}">{_linked(text)}</td></tr>'
        for label, text in lines
        if text
    )
    return _page(title, f"<table>{rows}</table>")


def table(
    title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], picture: "Image.Image | str | None" = None
) -> str:
    """HTML: a title, a picture or why there is none, and a table, of which the first rows are shown and the rest
    counted."""
    body = f"<p>{shown(picture)}</p>" if isinstance(picture, str) else ""
    if picture is not None and not isinstance(picture, str):
        data = base64.b64encode(_encoded(picture, "JPEG", quality=90)).decode()
        body = f'<img src="data:image/jpeg;base64,{data}" alt="{shown(title)}" style="max-width: 100%">'
    if rows:
        lines = [f"<tr>{''.join(f'<th>{shown(head)}</th>' for head in heads)}</tr>"]
        lines += [f"<tr>{''.join(f'<td>{shown(cell)}</td>' for cell in row)}</tr>" for row in rows[:_ROWS]]
        body += f"<table>{''.join(lines)}</table>"
    if len(rows) > _ROWS:
        body += f"<p>… and {len(rows) - _ROWS} more</p>"
    return _page(title, body)


def png(picture: "Image.Image") -> bytes:
    """A PNG file of a picture, made smaller where it is large."""
    return _encoded(picture, "PNG")


def show(picture: "Image.Image") -> None:
    """In a notebook below the cell, elsewhere in the system's program for pictures.

    Raises MissingResource where there is none, as on a server.
    """
    if _in_notebook():
        data = {"image/png": png(picture), "text/plain": repr(picture)}
        import_module("IPython.display").display(data, raw=True)
        return
    from PIL import ImageShow

    if not ImageShow.show(picture):
        raise MissingResource("this machine has no program that shows pictures: save it, as by plot().save('a.png')")


def shown(text: object) -> str:
    """A text for HTML, in an element or in quotes."""
    return escape(printable(text))


def _page(title: str, body: str) -> str:
    return f"<div><p><strong>{shown(title)}</strong></p>{body}</div>"


def _linked(text: str) -> str:
    if not text.startswith(("https://", "http://")):
        return shown(text)
    return f'<a href="{shown(text)}" rel="noreferrer">{shown(text)}</a>'


def _encoded(picture: "Image.Image", kind: str, **options: Any) -> bytes:
    small = picture.copy()
    small.thumbnail((_SIDE, _SIDE))
    file = io.BytesIO()
    small.save(file, kind, **options)
    return file.getvalue()


def _in_notebook() -> bool:
    """Whether this runs in a kernel of IPython, whose front end shows pictures; its terminal shows none."""
    ipython = sys.modules.get("IPython")  # whoever runs in it has imported it
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None
