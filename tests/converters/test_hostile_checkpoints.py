"""Checkpoints that would run code in the hands of Python's own unpickler."""

import pickle
import struct

import pytest
import torch
from attack_pickles import (
    ATTACKS,
    CONTAINERS,
    FLOATS,
    LEGACY_HEAD,
    called,
    integer,
    mapping,
    named,
    saved,
    sequence,
    stop,
    tensor,
    text,
    zip_checkpoint,
)

from cascadezoo.converters.pickle_values import Stub
from cascadezoo.errors import CorruptCheckpoint, UnsafeCheckpoint

both_containers = pytest.mark.parametrize("container", CONTAINERS)


@pytest.mark.parametrize("name", [name for name, (_, hook) in ATTACKS.items() if not hook.startswith("victim.")])
def test_the_attacks_are_real(ran, name):
    """The control: Python's own unpickler runs each of them, so that a silent tripwire means something."""
    fragment, _ = ATTACKS[name]
    try:
        pickle.loads(stop(fragment, 2 if name.endswith("python 2") else 4))
    except TypeError:
        assert name == "an admitted name as an argument"
    assert ran


def place(where: str, attack: bytes) -> bytes:
    good = {"good": tensor()}
    return {
        "root": lambda: attack,
        "state dict": lambda: mapping({"state_dict": attack, "meta": b"N"}),
        "value": lambda: mapping({"state_dict": mapping(good | {"bad": attack})}),
        "bare value": lambda: mapping(good | {"bad": attack}),
        "storage of a tensor": lambda: mapping(good | {"bad": tensor(data=attack)}),
        "offset of a tensor": lambda: mapping(good | {"bad": tensor(offset=attack)}),
        "size of a tensor": lambda: mapping(good | {"bad": tensor(shape=sequence(attack))}),
        "data of a parameter": lambda: mapping(
            good | {"bad": called("torch._utils._rebuild_parameter", attack, b"\x88", b"N")}
        ),
        "type of a storage": lambda: mapping(
            good | {"bad": tensor(sequence(text("storage"), attack, text("0"), text("cpu"), integer(4)) + b"Q")}
        ),
        "bytes of an array": lambda: mapping(
            good
            | {
                "bad": called("numpy._core.multiarray._reconstruct", named("numpy.ndarray"), sequence(b"K\x00"), b"N")
                + sequence(b"K\x01", sequence(b"K\x01"), called("numpy.dtype", text("f4")), b"\x89", attack)
                + b"b"
            }
        ),
        "meta": lambda: mapping({"meta": mapping({"x": attack}), "state_dict": mapping(good)}),
        "optimizer": lambda: mapping({"optimizer": sequence(attack), "state_dict": mapping(good)}),
        "attributes of the state dict": lambda: mapping(good)[:-1] + b"u" + mapping({"_metadata": attack}) + b"b",
        "a key": lambda: mapping({"other": b"}" + attack + b"Ns", "state_dict": mapping(good)}),
    }[where]()


PLACES = {
    **dict.fromkeys(("root", "state dict"), "refused"),
    **dict.fromkeys(("value", "bare value"), "unsafe"),
    **dict.fromkeys(("storage of a tensor", "offset of a tensor", "size of a tensor"), "unsafe"),
    **dict.fromkeys(("data of a parameter", "bytes of an array"), "unsafe"),
    "type of a storage": "unsafe",
    **dict.fromkeys(("meta", "optimizer", "attributes of the state dict", "a key"), "harmless"),
}


@both_containers
@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_runs(read, ran, container, attack):
    fragment, name = ATTACKS[attack]
    for where, outcome in PLACES.items():
        data = CONTAINERS[container](place(where, fragment))
        if outcome == "refused":
            with pytest.raises(UnsafeCheckpoint, match=r"checkpoint\.pth") as caught:
                read(data)
            assert name in str(caught.value)
        else:
            checkpoint = read(data)
            assert checkpoint.tensors["good"].tolist() == [1, 2, 3, 4], where
            assert checkpoint.unsafe == ({"bad": name} if outcome == "unsafe" else {}), where
            assert list(checkpoint.tensors) == ["good"]
            assert name in checkpoint.refused
            if where == "meta":
                assert checkpoint.meta == {"x": Stub(name)}
        assert not ran, where


def test_attack_in_the_other_pickles_of_a_legacy_file(read, ran):
    attack = stop(ATTACKS["os.system by REDUCE"][0])
    good = stop(mapping({"good": tensor()}))
    keys = pickle.dumps(["0"], 2)
    runs = struct.pack("<q", 4) + FLOATS
    head = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    for data in (
        LEGACY_HEAD + good + attack + runs,
        head + attack + good + keys + runs,
        head + pickle.dumps(1001, 2) + attack + good + keys + runs,
    ):
        with pytest.raises(CorruptCheckpoint):
            read(data)
    assert not ran


def test_a_state_dict_of_nothing_but_stubs(read):
    with pytest.raises(UnsafeCheckpoint, match=r"victim\.Class"):
        read(zip_checkpoint(mapping({"model": called("victim.Class")})))


def test_whole_pickled_model(read):
    with pytest.raises(UnsafeCheckpoint, match=r"torch\.nn\.modules\.linear\.Linear"):
        read(saved(torch.nn.Linear(2, 2), "zip"))
