"""What the tests of ``cascadezoo predict`` share."""

import pytest

from fake_predict import FakeModel


@pytest.fixture
def calls(monkeypatch):
    """The calls of ``loading.load``, each answered with the fake."""
    calls = []

    def load(name, **options):
        calls.append((name, options))
        return FakeModel()

    monkeypatch.setattr("cascadezoo.loading.load", load)
    return calls


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path
