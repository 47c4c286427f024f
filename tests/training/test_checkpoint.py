"""A run's state on disk."""

import pickle
import resource

import pytest
import torch

from cascadezoo.errors import CorruptCheckpoint, UnwritableOutput, UsageError
from cascadezoo.training.checkpoint import State, latest, save

IDENTITY = {"seed": "0", "processes": "1"}
ORIGIN = {"started_from": "random", "from_scratch": True, "entry": None}


def state(step: int) -> State:
    weight = torch.full((3,), float(step))
    momentum = {"state": {0: {"momentum_buffer": weight * 2}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    return State(step, IDENTITY, ORIGIN, {"weight": weight}, momentum, {"scale": 65536.0}, None)


def test_comes_back_as_it_was(tmp_path):
    save(tmp_path, state(7), keep=2)
    found = latest(tmp_path, IDENTITY)
    assert (found.step, found.scaler, found.ema) == (7, {"scale": 65536.0}, None)
    assert found.origin == ORIGIN
    assert torch.equal(found.model["weight"], torch.full((3,), 7.0))
    assert torch.equal(found.optimizer["state"][0]["momentum_buffer"], torch.full((3,), 14.0))


def test_the_last_few_are_kept(tmp_path):
    for step in (9, 10, 100):
        save(tmp_path, state(step), keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-00000010.pt", "checkpoint-00000100.pt"]
    assert latest(tmp_path, IDENTITY).step == 100


def test_none_before_the_first(tmp_path):
    assert latest(tmp_path, IDENTITY) is None


def test_a_run_goes_on_only_as_it_began(tmp_path):
    save(tmp_path, state(1), keep=1)
    with pytest.raises(UsageError, match="begun with processes 1, now it is 2"):
        latest(tmp_path, {**IDENTITY, "processes": "2"})


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut short"])
def test_damaged_files_are_named(tmp_path, content):
    (tmp_path / "checkpoint-00000003.pt").write_bytes(content)
    with pytest.raises(CorruptCheckpoint, match=r"checkpoint-00000003\.pt is no checkpoint of a run"):
        latest(tmp_path, IDENTITY)


def test_a_cut_file_is_named(tmp_path):
    path = save(tmp_path, state(3), keep=1)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CorruptCheckpoint):
        latest(tmp_path, IDENTITY)


class Hostile:
    def __reduce__(self):
        return (print, ("a checkpoint was run",))


def test_nothing_is_run(tmp_path, capsys):
    torch.save({**state(3)._asdict(), "model": Hostile()}, tmp_path / "checkpoint-00000003.pt")
    with pytest.raises(CorruptCheckpoint):
        latest(tmp_path, IDENTITY)
    (tmp_path / "checkpoint-00000004.pt").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(CorruptCheckpoint):
        latest(tmp_path, IDENTITY)
    assert capsys.readouterr().out == ""


def test_a_full_disk_is_one_sentence(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))  # what torch's writer meets, it says in its own way
    try:
        with pytest.raises(UnwritableOutput, match=r"checkpoint-00000005\.pt cannot be written: File too large"):
            save(tmp_path, state(5)._replace(model={"weight": torch.zeros(1 << 20)}), keep=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not any(tmp_path.iterdir())


def test_an_interrupted_write_leaves_the_one_before(tmp_path, monkeypatch):
    save(tmp_path, state(1), keep=1)

    def broken(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(UnwritableOutput, match="No space left"):
        save(tmp_path, state(2), keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000001.pt"]
