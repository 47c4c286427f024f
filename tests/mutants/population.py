"""Every mutant of a file: what cosmic-ray's operators make of it, without those that prove nothing.

Left out by rule (``RULES``, printed in the report): a mutant counts only where a test of what the code does could
notice it.
"""

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

RULES = (
    "annotations, type aliases, imports, decorators, `if TYPE_CHECKING`, and `*` and `/` in signatures are not mutated",
    "an operator is replaced by one of its own family (arithmetic, bitwise, order, identity): the others mostly raise a"
    " TypeError as soon as their line runs",
    "a unary plus is not put in: +x is x, and -x to x is a mutant already",
    "mutants that do not compile, or that parse to the same tree as the original or an earlier mutant, do not count",
)

_FAMILIES = (
    {"Add", "Sub", "Mul", "Div", "FloorDiv", "Mod", "Pow"},
    {"BitOr", "BitAnd", "BitXor", "RShift", "LShift"},
    {"Eq", "NotEq", "Lt", "LtE", "Gt", "GtE"},
    {"Is", "IsNot"},
)

Position = tuple[int, int]  # line from 1, column from 0


@dataclass(frozen=True)
class Mutant:
    """One change of one file.

    Attributes:
        file: path from the root of the repository.
        line: the first line that differs, from 1.
        operator: cosmic-ray's name of the kind of change.
        before: the lines that differ as they are, in one, single-spaced.
        after: the same lines, mutated.
        source: the whole mutated file.
        key: names this mutant as long as the file stays as it is.
    """

    file: str
    line: int
    operator: str
    before: str
    after: str
    source: str
    key: str


def tool() -> str:
    """What makes the mutants, with its version."""
    return f"cosmic-ray {version('cosmic-ray')}"


def mutants_of(file: str, source: str) -> Iterator[Mutant]:
    """The mutants of a file's source, statement by statement as they stand at its top level."""
    lines = source.splitlines(keepends=True)
    for statement in ast.parse(source).body:
        decorators = getattr(statement, "decorator_list", [])
        first = min(node.lineno for node in (statement, *decorators)) - 1
        last = statement.end_lineno or first + 1
        for operator, mutated in _mutants_of_statement("".join(lines[first:last])):
            yield _mutant(file, source, "".join((*lines[:first], mutated, *lines[last:])), operator)


def _mutants_of_statement(code: str) -> Iterator[tuple[str, str]]:
    """Operator and mutated code, operator by operator; a statement alone parses faster than its file."""
    from cosmic_ray import plugins
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code

    original = ast.parse(code)
    seen, spared = {ast.dump(original)}, list(_spared(original))
    nodes = list(ast_nodes(get_ast(code)))
    for name in filter(_proves_something, plugins.operator_names()):
        if plugins.get_operator(name).arguments():  # replaces named variables: for experiments, not for sets of tests
            continue
        operator = plugins.get_operator(name)()
        positions = [(node, start) for node in nodes for start, _ in operator.mutation_positions(node)]
        for occurrence, (node, start) in enumerate(positions):
            marker = node.type == "operator" and node.parent.type in ("parameters", "lambdef")  # * or / in a signature
            if marker or any(a <= start < b for a, b in spared):
                continue
            mutated = mutate_code(code, operator, occurrence)
            tree = _parsed(mutated)
            if tree is not None and tree not in seen:
                seen.add(tree)
                yield name.split("/")[1], mutated


def _proves_something(name: str) -> bool:
    kind, *words = name.split("/")[1].split("_")
    if kind in ("ReplaceBinaryOperator", "ReplaceComparisonOperator"):
        return any(set(words) <= family for family in _FAMILIES)
    return kind != "RemoveDecorator" and words[-1:] != ["UAdd"]


def _spared(tree: ast.AST) -> Iterator[tuple[Position, Position]]:
    """Where nothing is mutated: from one position to another."""
    for node in ast.walk(tree):
        spared: list[Any] = []
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            spared = [node.returns, *node.decorator_list]
        elif isinstance(node, ast.ClassDef):
            spared = list(node.decorator_list)
        elif isinstance(node, ast.arg):
            spared = [node.annotation]
        elif isinstance(node, ast.AnnAssign):
            spared = [node if "TypeAlias" in ast.dump(node.annotation) else node.annotation]
        elif isinstance(node, ast.Import | ast.ImportFrom) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        ):
            spared = [node]
        yield from (((n.lineno, n.col_offset), (n.end_lineno, n.end_col_offset)) for n in spared if n is not None)


def _parsed(source: str) -> str | None:
    """The tree of a source as text; None where it does not compile."""
    try:
        tree = ast.parse(source)
        compile(tree, "mutant", "exec")
    except (SyntaxError, ValueError):
        return None
    return ast.dump(tree)


def _mutant(file: str, source: str, mutated: str, operator: str) -> Mutant:
    old, new = source.splitlines(), mutated.splitlines()
    while old[-1] == new[-1]:
        old.pop()
        new.pop()
    first = next(i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b)
    before, after = (" ".join(" ".join(lines[first:]).split()) for lines in (old, new))
    key = hashlib.sha256("\0".join((file, source, mutated)).encode()).hexdigest()[:16]
    return Mutant(file, first + 1, operator, before, after, mutated, key)
