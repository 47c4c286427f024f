"""Pages from the templates beside this file: one file each that loads nothing, with every text from anyone escaped.

A page's policy (Content-Security-Policy) lets a browser run the page's own script, known by its digest, and no other,
and load nothing from anywhere.
"""

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cascadezoo.text import printable

_ROOM, _FOLDER = "cascadezoo.benchmarks.reports", "templates"


def page(template: str, *, styles: tuple[str, ...], scripts: tuple[str, ...] = (), **values: Any) -> str:
    """The HTML of a template.

    Args:
        template: its file.
        styles, scripts: files whose text goes into the page, in this order.
        values: what the template names; texts among them are escaped, whatever they hold.
    """
    script = "".join(map(_text, scripts))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    own = {"style": Markup("".join(map(_text, styles))), "script": Markup(script), "policy": policy}
    return _environment().get_template(template).render(**own, **values) + "\n"


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader(_ROOM, _FOLDER),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _shown(value: object) -> object:
    """Text without what steers a terminal or the direction of writing; markup of our own as it is."""
    return value if isinstance(value, Markup) else printable(value)


def _text(name: str) -> str:
    return files(_ROOM).joinpath(_FOLDER, name).read_text("utf-8")
