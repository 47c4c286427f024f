"""The runner of blocks notices what is wrong with a page."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from documentation.blocks import blocks_of

PAGE = """
<!-- before
there = 3
-->
```python
print("there are", there + 1)
```

<!-- not run: a GPU -->
```bash
exit 9
```

- in a list

  ```console
  $ echo $((40 + 2))
  42
  ```

```text
neither commands nor Python
```
"""


def test_a_page_is_a_session(tmp_path: Path, run: Callable[..., Any]) -> None:
    (tmp_path / "page.md").write_text(PAGE + "\n```python\nprint(there)\n```\n")
    assert [block.line for block in blocks_of(f"{tmp_path}/page.md")] == [6, 11, 17, 26]
    done = run("page", f"{tmp_path}/page.md", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert [line for line in done.stdout.splitlines() if not line.startswith("---")] == ["there are 4", "42", "3"]


@pytest.mark.parametrize(
    ("language", "code", "said"),
    [
        ("python", "good = 1\nbad = nothing", 'page.md", line 31, in <module>'),
        ("python", "import sys\nsys.exit(3)", "---"),
        ("bash", "false\ntrue", "page.md:30: exit code 1"),
        ("bash", "cascadezoo info nothing | cat", "page.md:30: exit code 2"),
        ("bash", "pip install a-package-that-nobody-names", "page.md:30: exit code 1"),
        ("bash", "make no-such-target", "page.md:30: exit code 2"),
    ],
)
def test_a_block_that_fails_ends_it(
    tmp_path: Path, run: Callable[..., Any], language: str, code: str, said: str
) -> None:
    blank = "\n" * (28 - PAGE.count("\n"))
    (tmp_path / "page.md").write_text(f"{PAGE}{blank}```{language}\n{code}\n```\n\n```bash\necho later\n```\n")
    done = run("page", f"{tmp_path}/page.md", cwd=tmp_path)
    assert done.returncode != 0
    assert said in done.stdout
    assert "later" not in done.stdout
