"""``model.optimize``: a new object that detects the same, refuses what is not inference, and leaves the model alone."""

import copy
import logging
import pickle
import re
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import cascadezoo
from cascadezoo.benchmarks.verify.speed import run_stages
from cascadezoo.detector import OptimizedDetector
from cascadezoo.errors import UsageError
from cascadezoo.loading import build
from cascadezoo.modeling.tta import TTASettings
from cascadezoo.ops import library
from cascadezoo.optimizing import cuda
from cascadezoo.optimizing.difference import difference
from cascadezoo.optimizing.precision import Settings, has_bfloat16
from cascadezoo.shapes.dataset import scene

import compare
from tiny import lively, tiny

needs_bfloat16 = pytest.mark.skipif(not has_bfloat16(), reason="this processor has no bfloat16")
CPU = torch.device("cpu")


def image(number: int, height: int = 60, width: int = 90) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)


def arrays(detections) -> dict:
    numbers = {name: getattr(detections, name).numpy() for name in ("boxes", "scores", "labels")}
    return {**numbers, "rles": detections.rles()}


def assert_met(found, expected) -> None:
    """By the bounds that recorded outputs of the publishers are met by."""
    report = compare.compare(arrays(expected), **arrays(found))
    assert report["ok"], report
    assert report["expected"] > 0


@pytest.fixture(scope="module")
def embedded():
    return cascadezoo.load("cascade_mask_r18_fpn_shapes.cascadezoo", pretrained=True)


SCENES = [scene("val", number).image for number in range(6)]


@pytest.mark.parametrize(
    ("architecture", "publisher"),
    [
        ("cascade_mask_r50_fpn", "mmdet"),
        ("cascade_mask_internimage_l_fpn", "internimage"),
        ("mask_internimage_t_fpn", "internimage"),
        ("mask_swin_t_fpn", "swin"),
        ("cascade_mask_convnext_t_fpn", "convnext"),
        ("cascade_mask_r50_vd_fpn", "paddle"),
        ("mask_r50_c4", "paddle"),
        ("cascade_mask_r50_fpn", "detectron"),
    ],
)
def test_detections_are_those_of_the_model(architecture: str, publisher: str) -> None:
    model = lively(tiny(architecture, publisher))
    fast, given = model.optimize(), image(0)
    assert_met(fast.predict(given), model.predict(given))


def test_the_embedded_entry_finds_the_same_by_every_way(embedded) -> None:
    fast = embedded.optimize(device="cpu", precision="fp32")
    for found, expected in zip(fast.predict(SCENES, batch_size=3), embedded.predict(SCENES), strict=True):
        assert_met(found, expected)
    tta = TTASettings(scales=(0.75,))
    assert_met(fast.predict(SCENES[0], tta=tta), embedded.predict(SCENES[0], tta=tta))
    assert_met(fast.detect([fast.resize(SCENES[1])])[0], embedded.predict(SCENES[1]))
    (called,), (found,) = fast([torch.from_numpy(SCENES[2]).permute(2, 0, 1)]), embedded.predict([SCENES[2]])
    torch.testing.assert_close(called["boxes"], found.boxes, atol=0.1, rtol=0)
    assert called["masks"].shape == found.masks.shape
    assert run_stages(fast, [SCENES[3]])[1] == len(embedded.predict(SCENES[3]))  # as `verify --fps` does


@needs_bfloat16
def test_bfloat16_finds_nearly_the_same(embedded) -> None:
    fast = embedded.optimize(precision="bf16")
    apart = difference(embedded.predict(SCENES), fast.predict(SCENES))
    assert apart.before > 30
    assert apart.paired >= 0.9 * apart.before
    assert 0 < apart.score_p95 < 0.05
    assert apart.mask_iou > 0.95
    batch = fast.prepare([fast.resize(SCENES[0])])
    with torch.no_grad():
        features = fast.extract(batch.pixels)
        found = fast.find(features, batch)
    assert {level.dtype for level in features} == {torch.bfloat16}
    assert {found.boxes.dtype, found.scores.dtype, found.rois.dtype} == {torch.float32}
    assert fast.rpn.objectness.weight.dtype == torch.float32


def test_the_face_is_the_models(embedded) -> None:
    fast = embedded.optimize()
    assert isinstance(fast, OptimizedDetector)
    assert fast.settings == Settings(CPU, "fp32", False, False)
    assert (fast.spec, fast.categories, fast.origin) == (embedded.spec, embedded.categories, embedded.origin)
    assert fast.eval() is fast
    assert not fast.training
    assert not any(parameter.requires_grad for parameter in fast.parameters())


def test_the_model_stays_as_it_was() -> None:
    model = lively(tiny()).train()
    before = copy.deepcopy(model.state_dict())
    wanted = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    fast = model.optimize(precision="bf16" if has_bfloat16() else "fp32")
    fast.predict(image(0))
    assert model.training
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == wanted
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
        assert tensor.dtype == before[name].dtype
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long(), "masks": torch.zeros(0, 60, 90)}
    sum(model([torch.rand(3, 60, 90)], [nothing]).values()).backward()
    assert model.neck.lateral[0].weight.grad is not None


@pytest.mark.parametrize("exact", [False, True])
def test_on_a_cpu_it_keeps_nothing_of_the_model_in_memory(embedded, exact: bool) -> None:
    def places(model) -> set[int]:
        tensors = (*model.parameters(), *model.buffers())
        return {x.untyped_storage().data_ptr() for x in tensors if not x.is_mkldnn}

    assert places(embedded.optimize(exact=exact)).isdisjoint(places(embedded))


REFUSED = {
    "train": lambda fast: fast.train(),
    "load_state_dict": lambda fast: fast.load_state_dict({}),
    "state_dict": lambda fast: fast.state_dict(),
    "half": lambda fast: fast.half(),
    "float": lambda fast: fast.float(),
    "to dtype": lambda fast: fast.to(torch.bfloat16),
    "to device": lambda fast: fast.to("cpu"),
    "compile": lambda fast: fast.compile(),
    "optimize": lambda fast: fast.optimize(precision="bf16"),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": pickle.dumps,
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_what_is_not_inference_is_refused_in_a_sentence(call, mask_model) -> None:
    fast = mask_model.optimize()
    with pytest.raises(UsageError, match=r"^an optimised model [^.]*the model it was made of[^.]*$"):
        call(fast)
    assert len(fast.predict(image(0))) > 5


@pytest.mark.parametrize("name", ["m.safetensors", "folder"])
def test_it_is_not_saved_as_something_that_nothing_reads(name: str, mask_model, tmp_path) -> None:
    with pytest.raises(UsageError, match=r"save the model it was made of$"):
        cascadezoo.save(mask_model.optimize(), tmp_path / name)
    assert not (tmp_path / "m.safetensors").exists()
    assert not (tmp_path / "folder" / "model.safetensors").exists()


def test_arguments_are_checked_before_anything_is_made(mask_model) -> None:
    with pytest.raises(UsageError, match=r"^precision 'int8'"):
        mask_model.optimize(precision="int8")
    with pytest.raises(UsageError, match=r"^'gpu' names no device"):
        mask_model.optimize("gpu")


def test_only_a_model_with_random_numbers_warns() -> None:
    model = build(tiny())
    with pytest.warns(UserWarning, match="random numbers"):
        model.optimize().predict(image(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lively(tiny()).optimize().predict(image(0))


WAYS = {
    "predict": lambda fast: fast.predict(image(0)),
    "list": lambda fast: fast.predict([image(0), image(1)], batch_size=2),
    "tta": lambda fast: fast.predict(image(0), tta=TTASettings(scales=())),
    "call": lambda fast: fast([torch.rand(3, 60, 90)]),
    "detect": lambda fast: fast.detect([fast.resize(image(0))]),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(("precision", "switch"), [("fp32", "ieee"), ("tf32", "tf32")])
def test_float32_is_what_was_chosen_whatever_the_switches(way, precision: str, switch: str, mask_model, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", precision == "fp32")
    fast = OptimizedDetector(mask_model, Settings(CPU, precision, False, False))
    extract, seen = fast.extract, []

    def watched(pixels):
        kinds = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision
        seen.append((*kinds, torch.is_autocast_enabled("cpu"), torch.is_grad_enabled()))
        return extract(pixels)

    fast.extract = watched
    with torch.autocast("cpu", torch.bfloat16):
        way(fast)
    assert set(seen) == {(switch, switch, False, False)}


def test_threads_find_what_one_alone_finds(mask_model) -> None:
    fast, given = mask_model.optimize(), [image(number) for number in range(3)] * 2
    alone = fast.predict(given)
    with ThreadPoolExecutor(4) as pool:
        for found, expected in zip(pool.map(fast.predict, given), alone, strict=True):
            assert torch.equal(found.boxes, expected.boxes)
            assert torch.equal(found.mask_probs, expected.mask_probs)


def test_compile_takes_what_sees_tensors_alone(mask_model, monkeypatch: pytest.MonkeyPatch) -> None:
    given, called = [], []

    def stand_in(function, **options):
        given.append((function.__name__, options))
        return lambda *arguments: called.append(function.__name__) or function(*arguments)

    monkeypatch.setattr(torch, "compile", stand_in)
    fast = mask_model.optimize(compile=True)
    fast.predict(image(0))
    assert given == [(name, {"dynamic": True}) for name in ("extract", "find", "segment")]
    assert called == ["extract", "find", "segment"]


@pytest.mark.slow
def test_compiled_code_finds_the_same(embedded) -> None:
    torch.compiler.reset()
    fast = embedded.optimize(compile=True)
    for given in SCENES[:3]:
        assert_met(fast.predict(given), embedded.predict(given))
    torch.compiler.reset()


def test_without_the_operators_there_are_no_graphs_and_it_is_said(monkeypatch, caplog) -> None:
    monkeypatch.setattr(library, "COMPILED", ("cpu",))
    monkeypatch.setitem(library.STATUS, "cuda", "not built")
    with caplog.at_level(logging.WARNING, "cascadezoo"):
        assert cuda.graphs_on(torch.device("cuda")) is None
    assert re.fullmatch(
        r"the operators for CUDA are not loaded \(not built\), so that nothing can be recorded as a CUDA graph: run "
        "`cascadezoo build-ops --cuda`",
        *caplog.messages,
    )
