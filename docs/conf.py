"""The documentation as a site: ``make docs``.  Its source is the repository, so that links work as they do there."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from sphinx.application import Sphinx

import cascadezoo
from cascadezoo.benchmarks.reports.zoo_page import zoo_page

project = "cascadezoo"
author = copyright = "The cascadezoo developers"
version = release = cascadezoo.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
include_patterns = [
    "docs/*.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "zoo_manifest/README.md",
]  # fmt: skip
exclude_patterns = [".*", "build", "dist", "tests"]
root_doc = "docs/index"

myst_heading_anchors = 3  # as GitHub makes them
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
napoleon_use_ivar = True
napoleon_use_rtype = False
add_module_names = False
highlight_language = "text"

html_theme = "furo"
html_title = f"cascadezoo {release}"
html_extra_path = ["site"]  # the front door, at the root of the site
html_theme_options = {"navigation_with_keys": True}
ZOO = "zoo_page.html"  # beside docs/zoo.html
pygments_style, pygments_dark_style = "friendly", "monokai"
copybutton_prompt_text = "$ "


def describe_fields(_app: Sphinx, what: str, _name: str, thing: Any, _options: Any, lines: list[str]) -> None:
    """The fields of a record, which say of themselves what they are."""
    if what == "class" and issubclass(thing, BaseModel):
        fields = thing.model_fields.items()
        lines += ["", *(f":param {name}: {_described(field)}" for name, field in fields if not field.exclude), ""]


def _described(field: FieldInfo) -> str:
    default = "" if field.is_required() or field.default in (None, ()) else f" (default: ``{field.default}``)"
    return f"{field.description or ''}{default}"


def without_signature(_app: Sphinx, what: str, _name: str, thing: Any, *_: Any) -> tuple[str, None] | None:
    """None for a record, whose fields are described one by one."""
    return ("", None) if what == "class" and issubclass(thing, BaseModel) else None


def link_zoo(_app: Sphinx, name: str, source: list[str]) -> None:
    """The page that docs/zoo.md tells of is part of the site alone."""
    if name == "docs/zoo":
        title, text = source[0].split("\n", 1)
        source[0] = f'{title}\n\n<p><a href="{ZOO}"><strong>Open the page</strong></a></p>\n{text}'


def write_zoo(app: Sphinx, error: Exception | None) -> None:
    """The page itself."""
    if error is None:
        (Path(app.outdir) / "docs" / ZOO).write_text(zoo_page({}), "utf-8")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", link_zoo)
    app.connect("build-finished", write_zoo)
    app.connect("autodoc-process-docstring", describe_fields)
    app.connect("autodoc-process-signature", without_signature)
