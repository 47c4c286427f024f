"""What the tests of ``cascadezoo predict`` share."""

import sys

import pytest

from fake_predict import FakeModel


@pytest.fixture(autouse=True)
def no_model_of_another_test(monkeypatch):
    """A process keeps its latest model by what was asked for, which stand-ins for ``load`` are no part of."""
    if module := sys.modules.get("cascadezoo.predictor"):
        monkeypatch.setattr(module, "_latest", None)


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
