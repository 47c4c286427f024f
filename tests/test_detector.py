"""The detector as a whole, on a tiny network: interfaces, odd images, batches, fixed shapes."""

import pickle
import re
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image
from small_coco import TooSmall

from cascadezoo.detections import Detections
from cascadezoo.errors import FailedImages, MissingResource, OutOfMemory, UnreadableImage, UsageError, WrongType
from cascadezoo.loading import build
from cascadezoo.modeling.resnet import ConvNorm
from cascadezoo.modeling.tta import TTASettings
from cascadezoo.providers.mmdet import SPECS

from tiny import lively, tiny

RNG = np.random.default_rng(0)


def random_image(height: int = 60, width: int = 90) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def assert_same(ours: Detections, theirs: Detections) -> None:
    torch.testing.assert_close(ours.boxes, theirs.boxes, atol=1e-3, rtol=0)
    torch.testing.assert_close(ours.scores, theirs.scores, atol=1e-5, rtol=0)
    assert torch.equal(ours.labels, theirs.labels)
    if ours.masks is None or theirs.masks is None:
        assert ours.masks is theirs.masks
    else:  # float noise of another batch may move a pixel at a mask's edge
        assert ((ours.masks != theirs.masks).flatten(1).sum(1) <= 2).all()


def test_detections_lie_in_the_image_best_first(mask_model) -> None:
    found = mask_model.predict(random_image(60, 90))
    assert len(found) > 5
    assert found.boxes.min() >= 0
    assert found.boxes[:, [0, 2]].max() <= 90 + 1e-3
    assert found.boxes[:, [1, 3]].max() <= 60 + 1e-3
    assert (found.scores.diff() <= 0).all()
    assert found.scores.min() > 0.05
    assert set(found.labels.tolist()) <= set(range(5))
    assert found.masks.shape == (len(found), 60, 90)
    assert found.categories is mask_model.categories


def test_every_kind_of_image_gives_the_same(mask_model, tmp_path) -> None:
    image = random_image()
    Image.fromarray(image).save(tmp_path / "a.png")
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    expected = mask_model.predict(image)
    for same in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(image), tensor, tensor / 255):
        assert_same(mask_model.predict(same), expected)


def test_forward_is_torchvisions_interface(mask_model, box_model) -> None:
    images = [torch.from_numpy(random_image()).permute(2, 0, 1) / 255, torch.zeros(3, 33, 50)]
    outputs = mask_model(images)
    for image, output in zip(images, outputs, strict=True):
        alone = mask_model.predict(image)
        assert output.keys() == {"boxes", "labels", "scores", "masks"}
        torch.testing.assert_close(output["boxes"], alone.boxes)
        assert output["masks"].dtype == torch.bool
        assert output["masks"].shape == (len(alone), *image.shape[1:])
    assert box_model(images)[0].keys() == {"boxes", "labels", "scores"}
    assert mask_model([]) == []


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_neighbours_never_change_a_result(mask_model, batch_size: int) -> None:
    sizes = [(60, 90), (90, 60), (61, 88), (20, 90), (60, 90)]
    images = [random_image(*size) for size in sizes]
    together = mask_model.predict(images, batch_size=batch_size)
    for image, found in zip(images, together, strict=True):
        assert_same(found, mask_model.predict(image))


def test_a_list_is_read_as_it_is_needed(mask_model, monkeypatch) -> None:
    """No more images than the batch size are ever in memory, of however many sizes they are."""
    resized, run, most = [], [], []
    resize, extract = mask_model.resize, mask_model.extract

    def counting_resize(image):
        resized.append(image)
        most.append(len(resized) - sum(run))
        return resize(image)

    def counting_extract(pixels):
        run.append(len(pixels))
        return extract(pixels)

    monkeypatch.setattr(mask_model, "resize", counting_resize)
    monkeypatch.setattr(mask_model, "extract", counting_extract)
    sizes = [(60, 90), (90, 60), (20, 90), (60, 90), (90, 20), (61, 88), (60, 90), (64, 64)]
    images = [random_image(*size) for size in sizes]
    found = mask_model.predict(images, batch_size=3)
    assert [each.image_size for each in found] == sizes
    assert max(most) == 3
    # padded sizes a b c a d a a e: a b c, the first of them goes; b c a; c a d; a d a: two of one size; d a e
    assert run == [1, 1, 1, 2, 1, 1, 1]


def test_out_of_memory_halves_the_batch_and_says_so_once(mask_model, monkeypatch, caplog) -> None:
    images = [random_image() for _ in range(5)]
    expected = [mask_model.predict(image) for image in images]
    device = TooSmall(mask_model.extract, 1, torch.OutOfMemoryError("CUDA out of memory"))
    monkeypatch.setattr(mask_model, "extract", device)
    found = mask_model.predict(images, batch_size=4)
    assert device.tried == [4, 2, 1, 1, 1, 1, 1]
    for ours, theirs in zip(found, expected, strict=True):
        assert_same(ours, theirs)
    assert [record.message for record in caplog.records] == [
        "out of memory with 4 images at a time on cpu: went on with 2"
    ]
    device.tried.clear()
    tensors = [torch.from_numpy(image).permute(2, 0, 1) for image in images[:2]]
    assert [len(output["boxes"]) for output in mask_model(tensors)] == [len(each) for each in expected[:2]]
    assert device.tried == [2, 1, 1]


def test_no_room_for_one_image_is_an_error(mask_model, monkeypatch) -> None:
    device = TooSmall(mask_model.extract, 0, torch.OutOfMemoryError("CUDA out of memory"))
    monkeypatch.setattr(mask_model, "extract", device)
    with pytest.raises(OutOfMemory, match="one image at a time"):
        mask_model.predict(random_image())


def test_a_batch_size_below_one_is_refused(mask_model) -> None:
    with pytest.raises(UsageError, match="batch_size 0"):
        mask_model.predict([random_image()], batch_size=0)


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (2, 3), (600, 400)])
def test_odd_sizes(mask_model, size: tuple[int, int]) -> None:
    found = mask_model.predict(random_image(*size))
    assert found.image_size == size
    assert found.masks.shape == (len(found), *size)
    assert torch.isfinite(found.boxes).all()


def test_nothing_found_is_empty_and_well_shaped(mask_model) -> None:
    quiet = build(tiny())  # at initialisation no class passes the threshold among so many
    quiet.spec = tiny(conventions={**SPECS["cascade_mask_r50_fpn"].conventions.model_dump(), **_never()})
    found = quiet.predict(random_image())
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)
    assert found.masks.shape == (0, 60, 90)
    assert found.rles() == []


def _never() -> dict[str, object]:
    rules = SPECS["cascade_mask_r50_fpn"].conventions.selection.model_dump()
    return {"selection": {**rules, "score_thresh": 0.999}}


@pytest.mark.parametrize("options", [{}, {"batch_size": 2}, {"tta": TTASettings(scales=())}])
def test_P11_a_bad_image_of_a_list_never_loses_the_others(mask_model, tmp_path, options) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    good = [random_image(), random_image(50, 70), random_image()]
    images = [good[0], tmp_path / "bad.jpg", good[1], "nowhere.jpg", good[2]]
    with pytest.raises(
        FailedImages, match=r"^2 of 5 images failed, first images\[1\]: .*bad\.jpg is no image"
    ) as failed:
        mask_model.predict(images, **options)
    assert failed.value.exit_code == 4
    results = failed.value.results
    assert [result is None for result in results] == [False, True, False, True, False]
    for result, image in zip(results[::2], good, strict=True):
        assert_same(result, mask_model.predict(image, **options))
    assert {i: type(error) for i, error in failed.value.errors.items()} == {1: UnreadableImage, 3: MissingResource}
    assert pickle.loads(pickle.dumps(failed.value)).errors.keys() == {1, 3}


def test_P11_one_bad_image_raises_its_own_error(mask_model) -> None:
    with pytest.raises(MissingResource, match=r"no such image: nowhere\.jpg"):
        mask_model.predict("nowhere.jpg")
    with pytest.raises(MissingResource, match=r"no such image: nowhere\.jpg"):
        mask_model.predict("nowhere.jpg", tta=True)
    with pytest.raises(UnreadableImage, match=r"values 9\.\.9") as refused:
        mask_model([torch.zeros(3, 8, 8), torch.full((3, 8, 8), 9.0)])
    assert type(refused.value) is UnreadableImage


def test_P11_the_error_of_a_bad_file_holds_none_of_its_bytes(mask_model, tmp_path) -> None:
    for i in range(6):
        (tmp_path / f"{i}.jpg").write_bytes(b"no image" * 2**20)
    tracemalloc.start()
    with pytest.raises(FailedImages) as failed:
        mask_model.predict([tmp_path / f"{i}.jpg" for i in range(6)])
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(failed.value.errors) == 6
    assert held < 2**23  # of 48 MiB read


def test_shapes_are_fixed_so_that_one_graph_serves_all_images(mask_model) -> None:
    batch = mask_model.prepare([mask_model.resize(random_image(60, 90)), mask_model.resize(random_image(64, 90))])
    with torch.inference_mode():
        eager = mask_model.infer(batch)
    assert eager.boxes.shape == (2, 100, 4)
    assert eager.masks.shape == (2, 100, 28, 28)
    for i, n in enumerate(eager.counts.tolist()):
        assert (eager.boxes[i, n:] == 0).all()
        assert (eager.scores[i, n:] == 0).all()
        assert (eager.scores[i, :n] > 0).all()
    torch.compiler.reset()
    with torch.inference_mode():
        compiled = torch.compile(mask_model.infer, fullgraph=True, backend="aot_eager")(batch)
    for ours, theirs in zip(compiled, eager, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-4)


def test_network_exports_as_one_graph(box_model) -> None:
    class Graph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = box_model

        def forward(self, batch):
            return self.model.infer(batch)

    batch = box_model.prepare([box_model.resize(random_image())])
    program = torch.export.export(Graph(), (batch,))
    with torch.no_grad():
        for ours, theirs in zip(program.module()(batch), box_model.infer(batch), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-4)


def test_gradients_reach_every_parameter_but_the_frozen_ones() -> None:
    model = lively(tiny("cascade_r50_fpn"))
    pixels = torch.randn(1, 3, 64, 96)
    sum(f.sum() for f in model.extract(pixels)).backward()
    missing = [n for n, p in model.named_parameters() if p.grad is None and n.split(".")[0] in ("backbone", "neck")]
    assert missing == [n for n, _ in model.named_parameters() if n.startswith(("backbone.stem", "backbone.layer1"))]


def test_frozen_statistics_fold_exactly() -> None:
    """A folded convolution equals convolution, then batch norm by running statistics."""
    torch.manual_seed(1)
    layer = ConvNorm(6, 8, 3, stride=2, groups=2).double().eval()
    for tensor in (layer.norm.weight, layer.norm.bias, layer.norm.running_mean):
        torch.nn.init.normal_(tensor)
    torch.nn.init.uniform_(layer.norm.running_var, 0.5, 2)
    x = torch.randn(2, 6, 9, 7, dtype=torch.float64)
    plain = torch.nn.functional.conv2d(x, layer.weight, stride=2, padding=1, groups=2)
    norm = layer.norm
    expected = torch.nn.functional.batch_norm(plain, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"batch_size": 0}, "batch_size 0: give 1 or more"),
        ({"batch_size": -3}, "batch_size -3: give 1 or more"),
        ({"batch_size": None}, "batch_size: give a whole number, not None"),
        ({"batch_size": "2"}, "batch_size: give a whole number, not '2'"),
        ({"batch_size": 2.5}, "batch_size: give a whole number, not 2.5"),
        ({"batch_size": True}, "batch_size: give a whole number, not True"),
        ({"tta": 1}, "tta: give True, False or TTASettings, not a int"),
        ({"tta": np.zeros((8, 8, 3), np.uint8)}, "tta: give True, False or TTASettings, not a ndarray"),
    ],
)
def test_p4_predict_names_the_argument_that_is_wrong(mask_model, options, says: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(says)}"):
        mask_model.predict([random_image()], **options)


def test_p4_a_second_image_by_position_is_no_setting(mask_model) -> None:
    with pytest.raises(WrongType, match=r"^tta: .*images go into one list"):
        mask_model.predict(random_image(), random_image())


@pytest.mark.parametrize("images", [torch.zeros(3, 8, 8), torch.zeros(2, 3, 8, 8), "a.png", None, [None], {}])
def test_p4_forward_takes_a_list_of_tensors(mask_model, images) -> None:
    with pytest.raises(WrongType, match=r"^images: give a list of \(3, H, W\) tensors"):
        mask_model(images)


def test_numpy_integers_are_whole_numbers(mask_model) -> None:
    assert len(mask_model.predict([random_image()], batch_size=np.int64(2))) == 1
