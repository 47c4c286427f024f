"""A model that detects from random numbers says so, once."""

import copy
import pickle
import warnings

import pytest
import torch

from cascadezoo.converters.canonical import write_canonical
from cascadezoo.detector import Detector
from cascadezoo.loading import build, load
from cascadezoo.providers import SPECS
from cascadezoo.spec.origin import Origin

from tiny import tiny

SAYS = "class layers of this model hold random numbers"
SPEC = tiny("cascade_r50_fpn")
ENTRY = "cascade_r50_fpn_1x.mmdet"


def image() -> torch.Tensor:
    return torch.rand(3, 40, 60)


def quiet(model: Detector) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(image())
        model([image()])


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(SPECS["mmdet"], "cascade_r50_fpn", SPEC)


@pytest.mark.parametrize("run", [lambda m: m.predict(image()), lambda m: m([image()]), lambda m: m.predict([])])
def test_R12_random_weights_warn_once(run, small) -> None:
    for model in (build(SPEC), load(ENTRY)):
        with pytest.warns(UserWarning, match=SAYS) as caught:
            run(model)
        assert len(caught) == 1
        quiet(model)


@pytest.mark.parametrize(
    "change",
    [
        torch.nn.Module.half,
        torch.nn.Module.double,
        copy.deepcopy,
        lambda model: pickle.loads(pickle.dumps(model)),
        lambda model: model.train().eval(),
        # somebody else's backbone leaves the heads as they are
        lambda model: model.load_state_dict(model.backbone.state_dict(prefix="backbone."), strict=False) and model,
    ],
)
def test_R12_nothing_but_weights_ends_the_warning(change) -> None:
    model = change(build(SPEC))
    model = model.float() if isinstance(model, Detector) else model
    with pytest.warns(UserWarning, match=SAYS):
        model.predict(image())


def by_state_dict(model: Detector, **options: bool) -> None:
    model.load_state_dict({name: tensor.clone() for name, tensor in model.state_dict().items()}, **options)


def by_training(model: Detector) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    targets = [{"boxes": torch.tensor([[5.0, 5.0, 30.0, 30.0]]), "labels": torch.tensor([1])}]
    sum(model.train()([image()], targets).values()).backward()
    optimizer.step()
    model.eval()


@pytest.mark.parametrize("change", [by_state_dict, lambda model: by_state_dict(model, assign=True), by_training])
def test_R12_weights_that_were_set_or_learned_do_not_warn(change) -> None:
    model = build(SPEC)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        change(model)
    quiet(model)


def test_R12_loaded_weights_do_not_warn_and_new_class_layers_do(small, tmp_path) -> None:
    path = tmp_path / "a.safetensors"
    tensors = {name: tensor.detach() for name, tensor in build(SPEC).state_dict().items()}
    write_canonical(path, tensors, Origin.random().metadata())
    quiet(load(ENTRY, weights=path))
    model = load(ENTRY, weights=path, num_classes=3)
    with pytest.warns(UserWarning, match=SAYS):
        model.predict(image())


def test_R12_detecting_in_a_training_loop_does_not_warn() -> None:
    model = build(SPEC)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.detect([model.resize(image())])
