"""``torch.compile`` and ``torch.export``: the same detections, and few graphs for many sizes.

Backends that run the graph as it was traced, except for one slow test: what is tested is the tracing.
"""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from cascadezoo.modeling.preprocess import Batch
from cascadezoo.spec.model import ModelSpec

from tiny import lively, tiny


class Graphs:
    """A backend that counts what it is given."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]):
        self.count += 1
        return graph.forward


@pytest.fixture
def graphs():
    torch.compiler.reset()
    yield Graphs()
    torch.compiler.reset()


def images(*sizes: tuple[int, int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(3, *size, generator=generator) for size in sizes]


def assert_same(ours: list[dict[str, Tensor]], theirs: list[dict[str, Tensor]]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        assert len(one["boxes"]) > 5
        torch.testing.assert_close(one["boxes"], other["boxes"], atol=1e-3, rtol=0)
        torch.testing.assert_close(one["scores"], other["scores"], atol=1e-5, rtol=0)
        assert torch.equal(one["labels"], other["labels"])


def sized(architecture: str, publisher: str = "mmdet") -> ModelSpec:
    """A tiny network of images whose coarsest level has several cells a side, as at the published sizes: torch makes
    special cases of sides of 1."""
    spec = tiny(architecture, publisher)
    sides = spec.preprocess.model_copy(update={"min_size": 160, "max_size": 240})
    return spec.model_copy(update={"preprocess": sides})


SMALL = sized("faster_r50_fpn", "detectron")


def test_P9_torch_compile_of_a_model_detects_the_same(graphs: Graphs) -> None:
    model = lively(SMALL)
    compiled = torch.compile(model, backend=graphs, dynamic=True)
    with torch.no_grad():
        for size in ((150, 200), (200, 150), (180, 190)):
            (image,) = images(size)
            assert_same(compiled([image]), model([image]))
    assert graphs.count == 2  # what is tensors alone: extract and find, there are no masks; once for all sizes


def test_P9_a_compiled_model_detects_the_same_by_every_way(graphs: Graphs) -> None:
    model = lively(SMALL)
    (image,) = images((150, 200))
    with torch.no_grad():
        plain = model([image])
    model.compile(backend=graphs, dynamic=True)
    with torch.no_grad():
        assert_same(model([image]), plain)
    assert graphs.count == 2
    found = model.predict(image)
    torch.testing.assert_close(found.boxes, plain[0]["boxes"], atol=1e-3, rtol=0)
    assert not found.boxes.is_inference()
    assert graphs.count == 2


def test_P9_copies_of_a_compiled_model_are_whole_and_not_compiled(graphs: Graphs) -> None:
    model = lively(SMALL)
    keys = list(model.state_dict())
    model.compile(backend=graphs)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert list(twin.state_dict()) == keys
        assert len(twin.predict(images((60, 90))[0])) > 5
    assert graphs.count == 0


@pytest.mark.slow
def test_P9_gradients_of_a_compiled_model_are_the_same(graphs: Graphs) -> None:
    model = lively(SMALL)
    (image,) = images((150, 200))
    weight = model.backbone.layer2[0].conv1.weight

    def gradient() -> Tensor:
        model([image])[0]["scores"].sum().backward()
        found, weight.grad = weight.grad, None
        return found

    plain = gradient()
    model.compile(backend="aot_eager")
    torch.testing.assert_close(gradient(), plain, atol=1e-6, rtol=1e-3)


def test_P9_training_of_a_compiled_model_learns_the_same(graphs: Graphs) -> None:
    model = lively(SMALL)
    taken = images((60, 90))
    targets = [{"boxes": torch.tensor([[10.0, 10.0, 50.0, 40.0]]), "labels": torch.tensor([1])}]
    model.train()
    torch.manual_seed(0)
    plain = model(taken, targets)
    for way in (torch.compile(model, backend=graphs), model):
        torch.manual_seed(0)
        losses = way(taken, targets)
        assert losses.keys() == plain.keys()
        for name, loss in losses.items():
            torch.testing.assert_close(loss, plain[name])
        model.compile(backend=graphs)
    assert graphs.count == 1  # model.compile(): the backbone and neck


class Infer(nn.Module):
    """What is exported."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch):
        return self.model.infer(batch)


def batch(n: int, height: int, width: int) -> Batch:
    generator = torch.Generator().manual_seed(n)
    sizes = torch.tensor([[height - 3.0, width - 5.0]]).expand(n, 2).contiguous()
    return Batch(torch.randn(n, 3, height, width, generator=generator), sizes, torch.full((n, 2), 1.25), sizes / 1.25)


@pytest.mark.parametrize(
    ("architecture", "publisher"),
    [
        ("faster_r50_fpn", "detectron"),
        pytest.param("cascade_mask_r50_fpn", "mmdet", marks=pytest.mark.slow),
        pytest.param("cascade_mask_r50_dconv_c3c5_fpn", "mmdet", marks=pytest.mark.slow),
        pytest.param("cascade_mask_r50_vd_fpn", "paddle", marks=pytest.mark.slow),
        pytest.param("mask_r50_c4", "paddle", marks=pytest.mark.slow),
        pytest.param("cascade_mask_r50_fpn", "detectron", marks=pytest.mark.slow),
        pytest.param("cascade_mask_internimage_l_fpn", "internimage", marks=pytest.mark.slow),
        pytest.param("mask_convnext_t_fpn", "convnext", marks=pytest.mark.slow),
        pytest.param("mask_swin_t_fpn", "swin", marks=pytest.mark.slow),
    ],
)
def test_P9_an_exported_graph_takes_every_size(architecture: str, publisher: str) -> None:
    model = lively(tiny(architecture, publisher))
    n, h, w = Dim("batch", min=1, max=16), Dim("h", min=3, max=64), Dim("w", min=3, max=64)
    shapes = Batch({0: n, 2: 32 * h, 3: 32 * w}, {0: n}, {0: n}, {0: n})
    with torch.no_grad():
        program = torch.export.export(Infer(model), (batch(2, 160, 224),), dynamic_shapes=(shapes,)).module()
        # levels of fewer anchors than pre_nms_top_n, and of more; one image, and three
        for other in (batch(3, 128, 192), batch(1, 352, 224), batch(1, 96, 96), batch(2, 96, 352)):
            for ours, theirs in zip(program(other), model.infer(other), strict=True):
                if theirs is None:  # no masks
                    continue
                torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-4)


@pytest.mark.slow
def test_P9_masks_and_batches_need_few_graphs(graphs: Graphs) -> None:
    model = lively(sized("cascade_mask_r50_fpn"))
    compiled = torch.compile(model, backend=graphs, dynamic=True)
    with torch.no_grad():
        for taken in (images((150, 200)), images((150, 200), (152, 198))):  # one image; several
            assert_same(compiled(taken), model(taken))
        seen = graphs.count
        assert seen <= 6
        for size in ((200, 150), (180, 190), (160, 240), (300, 200)):
            for taken in (images(size), images(size, size)):
                assert_same(compiled(taken), model(taken))
    assert graphs.count == seen


@pytest.mark.slow
def test_P9_inductor_detects_the_same() -> None:
    torch.compiler.reset()
    model = lively(SMALL)
    taken = images((150, 200))
    with torch.no_grad():
        plain = model(taken)
        model.compile(dynamic=True)
        compiled = model(taken)
    (ours,), (theirs,) = compiled, plain
    assert torch.equal(ours["labels"], theirs["labels"])
    torch.testing.assert_close(ours["boxes"], theirs["boxes"], atol=1e-2, rtol=0)
    torch.testing.assert_close(ours["scores"], theirs["scores"], atol=1e-4, rtol=0)
