"""The example notebooks, made of the plain scripts beside them and executed: ``python .ci/notebooks.py``.

A line ``# %%`` begins a cell of code, ``# %% [markdown]`` one of text, in comments.  What a cell gives is kept as it
would be anywhere: without times, and of pictures the smaller of their two forms.
"""

import re
import sys
import tempfile
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = ("first_steps.py", "fine_tune.py")
_MARK = re.compile(r"^# %%(?P<text> \[markdown\])?\n", re.MULTILINE)


def cells(script: str) -> list[tuple[str, str]]:
    """The kind of each cell, "code" or "markdown", and its source."""
    before, *parts = _MARK.split(script)
    assert not before.strip(), "a script begins with a cell"
    found = []
    for text, body in zip(parts[::2], parts[1::2], strict=True):
        source = body.strip("\n")
        if text:
            source = "\n".join(line.removeprefix("#").removeprefix(" ") for line in source.splitlines())
        found.append(("markdown" if text else "code", source))
    return found


def executed(script: str) -> str:
    """The notebook of a script as text, run in a folder of its own."""
    import nbformat
    from nbclient import NotebookClient

    book = nbformat.v4.new_notebook()
    for number, (kind, source) in enumerate(cells(script)):
        cell = (nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell)(source)
        cell["id"] = f"cell-{number}"
        book.cells.append(cell)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            book, timeout=600, kernel_name="python3", resources={"metadata": {"path": folder}}, record_timing=False
        ).execute()
        book = nbformat.reads(nbformat.writes(book).replace(f"{folder}/", ""), as_version=4)
    assert folder not in nbformat.writes(book), "a notebook names a folder of this machine"
    for cell in book.cells:
        for output in cell.get("outputs", ()):
            if "image/jpeg" in output.get("data", {}):
                output["data"].pop("image/png", None)
    book.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return str(nbformat.writes(book))


def main() -> None:
    """Write the notebooks."""
    for name in SCRIPTS:
        target = (EXAMPLES / name).with_suffix(".ipynb")
        target.write_text(executed((EXAMPLES / name).read_text()) + "\n")
        sys.stdout.write(f"{target.name}: {target.stat().st_size / 1000:.0f} kB\n")


if __name__ == "__main__":
    main()
