"""What the site holds; `make docs` builds it and fails on any warning."""

import re

import cascadezoo

from documentation.blocks import ROOT

API = (ROOT / "docs/api.md").read_text()


def test_every_public_name_is_in_the_reference() -> None:
    public = set(cascadezoo.__all__) - {"__version__"}
    assert public == set(re.findall(r"^\.\. auto(?:class|function):: cascadezoo\.(\w+)$", API, re.MULTILINE))


def test_every_page_is_in_the_table_of_contents() -> None:
    trees = re.findall(r"```{toctree}\n(.*?)```", (ROOT / "docs/index.md").read_text(), re.DOTALL)
    listed = [name for tree in trees for name in tree.splitlines() if name and not name.startswith(":")]
    pages = [path.stem for path in (ROOT / "docs").glob("*.md") if path.stem != "index"]
    names = [re.sub(r"^.*<(.*)>$", r"\1", line) for line in listed]
    assert sorted(name for name in names if not name.startswith("/")) == sorted(pages)
