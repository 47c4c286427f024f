"""Every publisher's key map, over all its architectures: total, one to one, and invertible to the last bit."""

from collections.abc import Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cascadezoo.checkpoints.conversion import convert_in_memory, to_publisher
from cascadezoo.converters import CONVERTERS
from cascadezoo.converters.keymap import KeyMap
from cascadezoo.errors import TensorMismatch
from cascadezoo.modeling.build import canonical_shapes
from cascadezoo.providers import SPECS

from tiny import tiny

NETWORKS = [(publisher, name) for publisher in CONVERTERS for name in SPECS[publisher]]
few = settings(derandomize=True, deadline=None, max_examples=40)


def key_map(publisher: str, architecture: str) -> KeyMap:
    return CONVERTERS[publisher].key_map(architecture)


def numbered(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Tensors of these shapes in which every number is another one, so that none can pass for its neighbour."""
    tensors, start = {}, 0
    for name, shape in shapes.items():
        count = torch.Size(shape).numel()
        tensors[name] = torch.arange(start, start + count, dtype=torch.float64).to(torch.float32).reshape(shape)
        start += count
    return tensors


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


@pytest.mark.parametrize(("publisher", "architecture"), NETWORKS, ids="-".join)
def test_there_and_back_is_the_same_tensor(publisher: str, architecture: str) -> None:
    expected = canonical_shapes(tiny(architecture, publisher))
    tensors, table = numbered(expected), key_map(publisher, architecture)
    state = table.invert(tensors)
    fit = table.fit(shapes_of(state), expected)
    assert fit.problems == 0, fit.describe()
    assert sorted(fit.pairs.values()) == sorted(expected)  # onto, and no name twice
    assert fit.pairs.keys() | fit.ignored.keys() == state.keys()
    assert all(torch.equal(table.apply(name, state[key]), tensors[name]) for key, name in fit.pairs.items())


@few
@given(st.data())
def test_what_is_missing_or_extra_is_named(data: st.DataObject) -> None:
    """Of the publisher's tensors some go, some come, some change their shape: exactly those are named."""
    publisher, architecture = data.draw(st.sampled_from(NETWORKS))
    expected = canonical_shapes(tiny(architecture, publisher))
    table = key_map(publisher, architecture)
    state = shapes_of(table.invert({name: torch.empty(shape, device="meta") for name, shape in expected.items()}))
    needed = sorted(table.fit(state, expected).pairs)
    gone = data.draw(st.sets(st.sampled_from(needed), max_size=4))
    bent = data.draw(st.sets(st.sampled_from(sorted(set(needed) - gone)), max_size=4))
    extra = data.draw(st.sets(st.text("abc._0", min_size=1, max_size=8).map("stranger.".__add__), max_size=4))
    found = {key: (*shape, 7) if key in bent else shape for key, shape in state.items() if key not in gone}
    fit = table.fit(found | dict.fromkeys(extra, (1,)), expected)
    assert set(fit.missing) == gone
    assert set(fit.unexpected) == extra
    assert {key for key, *_ in fit.misshapen} == bent
    assert fit.contested == ()
    assert fit.problems == len(gone) + len(extra) + len(bent)


@pytest.mark.parametrize(
    "entry", ["cascade_mask_r50_fpn_1x.mmdet", "cascade_mask_r50_fpn_1x.paddle", "cascade_mask_internimage_l_fpn_1x"]
)
def test_files_there_and_back_and_every_lost_tensor_named(entry: str, tmp_path, monkeypatch) -> None:
    """The same through the public functions: written as the publisher does, then converted."""
    publisher = entry.rpartition(".")[2] if entry.count(".") else "internimage"
    architecture = entry.rpartition(".")[0].removesuffix("_1x") or entry.removesuffix("_1x")
    for name in SPECS[publisher]:
        monkeypatch.setitem(SPECS[publisher], name, tiny(name, publisher))
    tensors = numbered(canonical_shapes(SPECS[publisher][architecture]))
    state = to_publisher(tensors, entry)
    path = tmp_path / "file.pth"
    torch.save({"state_dict": state}, path)
    back, _ = convert_in_memory(path, publisher, entry)
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)
    for lost in sorted(key for key in state if not key.endswith("num_batches_tracked"))[::7]:
        torch.save({"state_dict": {key: tensor for key, tensor in state.items() if key != lost}}, path)
        with pytest.raises(TensorMismatch) as caught:
            convert_in_memory(path, publisher, entry)
        assert f"1 missing: {lost}" in str(caught.value)
    torch.save({"state_dict": {**state, "backbone.stranger.weight": torch.zeros(1)}}, path)
    with pytest.raises(TensorMismatch, match=r"1 unexpected: backbone\.stranger\.weight"):
        convert_in_memory(path, publisher, entry)
