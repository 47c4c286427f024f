"""The graph that is exported: names, axes, and pixels that it prepares itself; the document beside it."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.export import ExportedProgram

import cascadezoo
from cascadezoo.detector import Detector
from cascadezoo.errors import UsageError
from cascadezoo.exporting import metadata
from cascadezoo.exporting.checking import Arrays, Infer, check
from cascadezoo.exporting.formats import Options, dynamic_axes
from cascadezoo.exporting.graph import Graph, fixed_size, program
from cascadezoo.modeling.preprocess import ResizedImage

from tiny import lively, tiny


def test_inputs_and_outputs_are_named(mask_model: Detector, box_model: Detector) -> None:
    assert Graph(mask_model).inputs == ("pixels", "sizes", "scales", "original_sizes")
    assert Graph(mask_model, preprocess=True).inputs == ("images", "sizes", "scales", "original_sizes")
    assert Graph(mask_model).outputs == ("boxes", "scores", "labels", "counts", "masks")
    assert Graph(box_model).outputs == ("boxes", "scores", "labels", "counts")


@pytest.mark.parametrize("publisher", ["mmdet", "detectron"])
def test_a_graph_that_prepares_pixels_finds_the_same(publisher: str) -> None:
    model = lively(tiny("cascade_mask_r50_fpn", publisher))
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    found = []
    for preprocess in (False, True):
        graph = Graph(model, preprocess)
        inputs = graph.arguments([model.resize(image)])
        with torch.no_grad():
            found.append(dict(zip(graph.outputs, graph(*inputs.values()), strict=True)))
    kind = torch.float32 if publisher == "detectron" else torch.uint8  # Detectron resizes in floating point
    assert inputs["images"].dtype == kind
    assert int(found[0]["counts"]) > 3
    for name in found[0]:
        torch.testing.assert_close(found[0][name], found[1][name], atol=1e-4, rtol=1e-5)


def test_the_document_is_what_a_runner_needs(mask_model: Detector) -> None:
    graph = Graph(mask_model)
    about = json.loads(metadata.text(metadata.document(mask_model, graph, Options(dynamic=("batch",)))))
    assert about["categories"][0] == {"id": 1, "name": "class 0"}
    assert about["preprocess"]["min_size"] == 64
    assert about["preprocess"]["interpolation"] == "linear"
    assert about["preprocess"]["in_graph"] is False
    assert (about["paste"], about["extent"], about["mask_side"]) == ("bilinear", 0, 28)
    assert about["dynamic"] == ["batch"]
    assert len(about["content_digest"]) == 64
    assert about["conventions"]["selection"]["score_thresh"] == about["score_threshold"] == 0.05


@pytest.mark.parametrize(("architecture", "publisher"), [("mask_r50_c4", "paddle"), ("mask_r50_fpn", "detectron")])
def test_the_side_of_a_mask_is_that_of_the_output(architecture: str, publisher: str) -> None:
    model = lively(tiny(architecture, publisher))
    image = np.zeros((64, 64, 3), np.uint8)
    graph = Graph(model)
    with torch.no_grad():
        masks = graph(*graph.arguments([model.resize(image)]).values())[-1]
    about = metadata.document(model, graph, Options())
    assert [about["mask_side"]] * 2 == list(masks.shape[2:])


def with_square(architecture: str, side: int) -> Detector:
    spec = tiny(architecture, "detectron2")
    return lively(spec.model_copy(update={"preprocess": spec.preprocess.model_copy(update={"max_size": side})}))


SQUARES = [("cascade_mask_vitdet_b", 96, 96), ("cascade_mask_vitdet_b", 90, 90), ("cascade_mask_swin_b", 90, 96)]


@pytest.mark.parametrize("size", [(70, 90), (90, 90), (40, 90)])
@pytest.mark.parametrize(("architecture", "given", "side"), SQUARES)
def test_a_graph_pads_to_the_square_of_its_network(
    architecture: str, given: int, side: int, size: tuple[int, int]
) -> None:
    model = with_square(architecture, given)
    image = ResizedImage(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8), size, 1.0)
    pixels = Graph(model, preprocess=True)._prepared(torch.as_tensor(image.pixels)[None])
    torch.testing.assert_close(pixels, model.prepare([image]).pixels)
    assert pixels.shape == (1, 3, side, side)
    assert fixed_size(Graph(model)) == (side, side)


def test_a_square_is_no_dynamic_axis(box_model: Detector) -> None:
    model = lively(tiny("cascade_mask_vitdet_b", "detectron2"))
    assert dynamic_axes(box_model.spec.preprocess, Options()) == ("batch", "height", "width")
    assert dynamic_axes(box_model.spec.preprocess, Options(dynamic=("height",))) == ("height",)
    assert dynamic_axes(model.spec.preprocess, Options()) == ("batch",)
    assert dynamic_axes(model.spec.preprocess, Options(dynamic=())) == ()
    assert dynamic_axes(model.spec.preprocess, Options(preprocess=True)) == ("batch", "height", "width")
    with pytest.raises(UsageError, match=r"a square of 96 pixels, so that height and width cannot be dynamic"):
        cascadezoo.export(model.eval(), "onnx", dynamic=("batch", "height"))
    with pytest.raises(UsageError, match="a square of 96 pixels"):  # of 90, rounded up
        dynamic_axes(with_square("cascade_mask_swin_b", 90).spec.preprocess, Options(dynamic=("width",)))


@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("dynamic", [(), ("batch",), ("batch", "height"), ("width",)])
def test_narrow_precisions_need_images_of_any_size(
    box_model: Detector, dynamic: tuple[str, ...], precision: str
) -> None:
    square = lively(tiny("cascade_mask_vitdet_b", "detectron2"))
    fixed = Options(precision=precision, dynamic=dynamic)
    with pytest.raises(UsageError, match=rf"{precision} .* height and width have to be dynamic: name both with"):
        dynamic_axes(box_model.spec.preprocess, fixed)
    with pytest.raises(UsageError, match=precision):
        dynamic_axes(square.spec.preprocess, replace(fixed, preprocess=True))
    if dynamic in ((), ("batch",)):  # all its pixels are of one size
        assert dynamic_axes(square.spec.preprocess, fixed) == dynamic
    assert dynamic_axes(box_model.spec.preprocess, replace(fixed, precision="fp32")) == dynamic
    sides = Options(precision=precision, dynamic=("height", "width"))
    assert dynamic_axes(box_model.spec.preprocess, sides) == ("height", "width")


@torch.no_grad()
@pytest.mark.parametrize(("architecture", "given", "side"), SQUARES)
def test_a_graph_of_a_square_takes_images_of_any_size_within_it(architecture: str, given: int, side: int) -> None:
    graph = Graph(with_square(architecture, given), True)
    exported = program(graph, ("height", "width")).module()
    for size in ((60, side), (side, side), (side, 2)):
        image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        arguments = graph.arguments([ResizedImage(image, size, 1.0)]).values()
        for one, other in zip(exported(*arguments), graph(*arguments), strict=True):
            torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-4)


def test_the_document_says_what_resizes() -> None:
    names = {}
    for publisher in ("mmdet", "detectron2"):
        model = lively(tiny("cascade_mask_r50_fpn", publisher))
        names[publisher] = metadata.document(model, Graph(model), Options())["preprocess"]["resized_by"]
    assert names == {"mmdet": "OpenCV", "detectron2": "Pillow"}


def test_axes_that_are_not_dynamic_are_those_of_one_image(box_model: Detector) -> None:
    assert fixed_size(Graph(box_model)) == (64, 96)
    exported = program(Graph(box_model), axes=())
    assert shapes(exported)["pixels"] == (1, 3, 64, 96)
    assert exported.range_constraints == {}


@torch.no_grad()
def test_a_graph_that_pads_takes_an_image_as_it_was_resized() -> None:
    """Of 64 x 90 pixels here, where 64 x 96 are those of no image: it is resized to 90 pixels at most."""
    spec = tiny("cascade_r50_fpn", "mmdet")
    spec = spec.model_copy(update={"preprocess": spec.preprocess.model_copy(update={"max_size": 90})})
    model = lively(spec)
    graph = Graph(model, preprocess=True)
    assert (fixed_size(graph), fixed_size(Graph(model))) == ((64, 90), (64, 96))
    exported = program(graph, axes=())
    # torch.export names the first argument pixels
    assert shapes(exported)["pixels"] == (1, 64, 90, 3)
    image = model.resize(np.random.default_rng(0).integers(0, 256, (128, 180, 3), np.uint8))
    arguments = graph.arguments([image])
    for one, other in zip(exported.module()(*arguments.values()), graph(*arguments.values()), strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-4)
    checked = check(model, graph, itself(graph), axes=())
    assert (checked.images, checked.unpaired) == (2, 0)


def itself(graph: Graph) -> Infer:
    def infer(inputs: Arrays) -> Arrays:
        assert inputs["images"].shape == (1, 64, 90, 3)
        outputs = graph(*map(torch.from_numpy, inputs.values()))
        return {name: output.numpy() for name, output in zip(graph.outputs, outputs, strict=True)}

    return infer


def shapes(exported: ExportedProgram) -> dict[str, tuple[Any, ...]]:
    return {node.name: tuple(node.meta["val"].shape) for node in exported.graph.nodes if node.op == "placeholder"}
