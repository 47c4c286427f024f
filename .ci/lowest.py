"""The constraints of `make test-lowest`: each requirement of pyproject.toml and its test extra, at its lower bound.

A bound has to be a release that exists in full (4.10.0.84, not 4.10): what it names is what is installed.
"""

import re
import sys
import tomllib
from pathlib import Path

_BOUND = re.compile(r"(?P<name>[\w.-]+)\s*>=\s*(?P<version>[\w.]+)")


def main() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    for requirement in project["dependencies"] + project["optional-dependencies"]["test"]:
        if (bound := _BOUND.match(requirement)) is None:
            sys.exit(f"pyproject.toml: {requirement!r} has no lower bound, as in name>=VERSION")
        print(f"{bound['name']}=={bound['version']}")


if __name__ == "__main__":
    main()
