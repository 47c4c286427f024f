"""An adapter without its program says what to install."""

import sys
from importlib import import_module

import pytest

from cascadezoo.errors import MissingResource


@pytest.mark.parametrize("program", ["sahi", "fiftyone"])
def test_what_is_missing_is_named(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == program]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, program, None)
    monkeypatch.delitem(sys.modules, f"cascadezoo.integrations.{program}", raising=False)
    with pytest.raises(MissingResource, match=f"pip install {program}$"):
        import_module(f"cascadezoo.integrations.{program}")
