"""docs/cli.md names every environment variable that the package reads or sets, and no other of its own."""

import re

from documentation.blocks import ROOT

SECTION = (ROOT / "docs/cli.md").read_text("utf-8").split("## Environment variables\n")[1].split("\n## ")[0]
NAMED = {name for row in re.findall(r"^\| (`.+?) \|", SECTION, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
SOURCES = [path.read_text("utf-8") for folder in ("cascadezoo", "converters") for path in (ROOT / folder).rglob("*.py")]
TOUCHING = [text for text in SOURCES if re.search(r"\benviron\b|\bis_on\(", text)]
NO_VARIABLES = {"INFERENCE_NUM_THREADS", "INFERENCE_PRECISION_HINT", "PERFORMANCE_HINT"}  # OpenVINO's properties


def used() -> set[str]:
    """Names given to ``os.environ``, and texts of such a form in the modules that touch it: tables of names."""
    direct = r'environ(?:\.get\(|\.setdefault\(|\[|\.pop\()\s*"(\w+)"'
    table = r'"([A-Z][A-Z0-9]*(?:_[A-Z0-9]*)+)"'
    return {name for text in TOUCHING for kind in (direct, table) for name in re.findall(kind, text)} - NO_VARIABLES


def test_every_variable_is_in_the_table() -> None:
    assert used() - NAMED == set()


def test_every_variable_of_the_table_is_used() -> None:
    assert NAMED - used() == set()


def test_the_table_holds_what_is_known() -> None:
    """A broken pattern above would find nothing, and both tests would pass."""
    assert {"CASCADEZOO_HOME", "CXX", "HF_TOKEN", "MALLOC_TOP_PAD_", "RANK", "SSL_CERT_FILE"} <= used()
