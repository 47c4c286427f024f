"""The code blocks of the pages, and what a page says of them in comments that only its source shows.

A comment stands on the lines before its block:

``<!-- not run: REASON -->``
    nothing here can run it; ``test_blocks.py`` has the reasons that count.
``<!-- needs: MODULE, MODULE -->``
    it runs where these modules can be found (``make test-extras``).
``<!-- runs on -->``
    a command that does not end by itself: the blocks after it run beside it.
``<!-- before``, lines of Python, ``-->``
    what the block takes for granted, such as an image in memory.
"""

import re
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
RUN = ("bash", "console", "python")

_BLOCK = re.compile(
    r"(?P<comments>(?:^ *<!--(?:(?!-->).)*-->\s*\n)*)"
    r"^(?P<indent> *)(?P<fence>```+)(?P<language>[^\n`]*)\n(?P<code>.*?)^(?P=indent)(?P=fence) *$",
    re.MULTILINE | re.DOTALL,
)
_COMMENT = re.compile(r"<!--\s*(not run|needs|runs on|before)\b:?(.*?)-->", re.DOTALL)


class Block(NamedTuple):
    """Code of a page that a reader may run."""

    page: str  # relative to the repository
    line: int  # of its first line of code, from 1
    language: str
    code: str
    before: str = ""
    not_run: str = ""
    needs: tuple[str, ...] = ()
    runs_on: bool = False

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_possible_here(self) -> bool:
        return not self.not_run and all(map(find_spec, self.needs))


def pages() -> list[str]:
    """Every page, relative to the repository."""
    paths = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
    return [str(path.relative_to(ROOT)) for path in paths]


def blocks_of(page: str) -> list[Block]:
    """The blocks of a page in its order: commands and Python; those of other languages (``text``) are not run."""
    text = (ROOT / page).read_text("utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        language = match["language"].strip()
        if language not in RUN:
            continue
        said = {kind: words.strip("\n") for kind, words in _COMMENT.findall(match["comments"])}
        found.append(
            Block(
                page,
                text.count("\n", 0, match.start("code")) + 1,
                "python" if language == "python" else "bash",
                dedent(_commands(match["code"]) if language == "console" else match["code"]),
                before=dedent(said.get("before", "")),
                not_run=said.get("not run", "").strip(),
                needs=tuple(name.strip() for name in said["needs"].split(",")) if "needs" in said else (),
                runs_on="runs on" in said,
            )
        )
    return found


def unnamed(page: str) -> list[str]:
    """The blocks that do not say which language they are in."""
    text = (ROOT / page).read_text("utf-8")
    found = [match for match in _BLOCK.finditer(text) if not match["language"].strip()]
    return [f"{page}:{text.count(chr(10), 0, match.start('code'))}" for match in found]


def _commands(code: str) -> str:
    """What is typed of a terminal's session: the lines after a ``$``."""
    return "".join(f"{line[2:]}\n" for line in dedent(code).splitlines() if line.startswith("$ "))
