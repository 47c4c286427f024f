"""The design, made executable: sizes, no publisher's name in the network, docstrings; imports: test_contract.py."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("cascadezoo", "converters", "zoo_manifest", "benchmarks", "csrc", "tests")
SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
# swin and convnext are left out, which are names of networks first: nothing called publisher is asked for either
PUBLISHERS = re.compile(r"mmdet|paddle|detectron|internimage", re.IGNORECASE)
ALLOWED_NAMES = re.compile(r'(modeling|spec)[./]internimage|"internimage": InternImage|InternImage(Spec)?')  # a network

TORCHLESS = (
    "errors", "version", "files", "paths", "spec", "environment", "computed", "manifest", "registry", "providers",
    "coco", "formats", "cli/__init__", "cli/zoo", "cli/zoo_list",
)  # fmt: skip


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(path: Path) -> set[str]:
    """Every module that a file imports anywhere, absolute."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}: relative import"
            if node.module == "cascadezoo":
                found |= {f"cascadezoo.{alias.name}" for alias in node.names}
            found.add(node.module or "")
    return found


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    return parts[1] if parts[0] == "cascadezoo" else parts[0]


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", [p for p in SOURCES if room_of(p) in ("ops", "modeling")], ids=name)
def test_network_never_asks_who_published_it(path: Path) -> None:
    tree = ast.parse(path.read_text())
    docstrings = [
        node.body[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node)
    ]
    hidden = {line for node in docstrings for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if number not in hidden:
            assert not PUBLISHERS.search(ALLOWED_NAMES.sub("", line)), f"{name(path)}:{number}: {line.strip()}"
    for node in ast.walk(tree):
        called = getattr(node, "id", None) or getattr(node, "attr", None) or getattr(node, "arg", None)
        assert "publisher" not in str(called), f"{name(path)}:{getattr(node, 'lineno', 0)}: {called}"


@pytest.mark.parametrize("path", [p for p in SOURCES if room_of(p) != "tests"], ids=name)
def test_public_functions_say_what_they_do(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{name(path)}: {node.name} has no docstring"


SPEAKING = ("cascadezoo/cli", "benchmarks/measure", "tests")  # commands, whose output is for people


@pytest.mark.parametrize("path", [p for p in SOURCES if not name(p).startswith(SPEAKING)], ids=name)
def test_the_library_logs_under_one_name_and_never_prints(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        assert called not in ("print", "builtins.print"), f"{name(path)}:{node.lineno}: print"
        if called.rpartition(".")[2] == "getLogger":
            given = [ast.unparse(argument) for argument in node.args]
            assert given == ["'cascadezoo'"], f"{name(path)}:{node.lineno}: getLogger({', '.join(given)})"


def test_listing_needs_no_torch_in_its_source() -> None:
    for stem in TORCHLESS:
        base = ROOT / "cascadezoo" / stem
        for path in base.rglob("*.py") if base.is_dir() else [base.with_suffix(".py")]:
            assert not {m for m in imported(path) if m.split(".")[0] in ("torch", "torchvision")}, name(path)


def test_every_error_has_a_test() -> None:
    tree = ast.parse((ROOT / "cascadezoo/errors.py").read_text())
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    # the bases are met only through their kinds
    classes -= {"CascadezooError", "FileError"}
    tests = "".join(p.read_text() for p in (ROOT / "tests").rglob("test_*.py") if p != Path(__file__))
    assert not {c for c in classes if not re.search(rf"\b{c}\b", tests)}
