import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO as CocoIndex
from torch.utils._python_dispatch import TorchDispatchMode

from cascadezoo.coco.categories import COCO, Categories
from cascadezoo.detections import Detections
from cascadezoo.errors import MissingResource, UnreadableImage, UnwritableOutput, UsageError
from cascadezoo.ops.mask_paste import PASTE, Crop
from cascadezoo.ops.paste_rle import most_runs, paste_rle
from cascadezoo.spec.conventions import MaskPaste

PERSON, CAR, DOG = COCO.index("person"), COCO.index("car"), COCO.index("dog")


def three(masks=True):
    """A dog and two persons on 20 x 30 pixels (height x width)."""
    return Detections(
        boxes=torch.tensor([[1.0, 2.0, 11.0, 12.5], [0.0, 0.0, 30.0, 20.0], [20.0, 5.0, 25.0, 8.0]]),
        scores=torch.tensor([0.9, 0.75, 0.25]),
        labels=torch.tensor([DOG, PERSON, PERSON]),
        image_size=(20, 30),
        mask_probs=torch.stack([torch.ones(28, 28), torch.full((28, 28), 0.4), torch.ones(28, 28)]) if masks else None,
    )


def none(masks=True):
    empty = torch.zeros(0)
    return Detections(torch.zeros(0, 4), empty, empty, (20, 30), mask_probs=torch.zeros(0, 28, 28) if masks else None)


def test_masks_lie_in_their_boxes():
    masks = three().masks
    assert masks.shape == (3, 20, 30)
    assert masks.dtype == torch.bool
    assert masks[2].sum() == 5 * 3  # a full mask fills its box
    assert masks[2, 5:8, 20:25].all()
    assert not masks[1].any()  # 0.4 is below one half everywhere
    assert three(masks=False).masks is None


def test_masks_are_built_once():
    detections = three()
    assert detections.masks is detections.masks


def test_rles_are_the_masks_without_building_them():
    detections = three()
    rles = detections.rles()
    assert "masks" not in vars(detections)
    for rle, mask in zip(rles, detections.masks, strict=True):
        assert rle["size"] == [20, 30]
        assert isinstance(rle["counts"], str)
        np.testing.assert_array_equal(coco_mask.decode(rle), mask.numpy())
    assert three(masks=False).rles() is None


def test_a_large_image_needs_no_whole_masks(monkeypatch):
    monkeypatch.setattr("cascadezoo.detections.whole", None)  # what builds (N, H, W)
    corners = torch.tensor([[0.0, 0.0], [5900.0, 0.0], [3000.0, 2000.0], [0.0, 3950.0], [5000.0, 3000.0]])
    boxes = torch.cat([corners, corners + torch.tensor([100.0, 50.0])], dim=1)
    detections = Detections(
        boxes, torch.ones(5), torch.zeros(5), (4000, 6000), mask_probs=torch.ones(5, 28, 28, dtype=torch.float16)
    )
    # In each corner pixel, half a pixel from the edges, the mask fades to (0.5 + 28 / 200) * (0.5 + 28 / 100) = 0.4992.
    assert [coco_mask.area(rle) for rle in detections.rles()] == [100 * 50 - 4] * 5
    assert sum(crop.mask.numel() for crop in detections.crops()) <= 5 * 102 * 52


def test_the_paste_method_is_data():
    def corner(probabilities, boxes, height, width):
        for _ in boxes:
            yield Crop(0, 0, torch.ones(1, 2, dtype=torch.bool))

    boxes, ones = torch.tensor([[4.0, 4.0, 6.0, 6.0]]), torch.ones(1)
    detections = Detections(boxes, ones, ones, (8, 8), mask_probs=torch.ones(1, 28, 28), paste_method=corner)
    for one in (detections, detections[0], detections.to("cpu")):
        assert one.masks.nonzero().tolist() == [[0, 0, 0], [0, 0, 1]]
        assert one.rles() == [{"size": [8, 8], "counts": "0170`1"}]  # runs 0 1 7 1 55, the last two less 1 and 7


def rles(detections, *, at_once=False, quickly=False):
    """All masks at once as on a GPU, some at a time as where the operator is compiled for a CPU, or one by one."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("cascadezoo.mask_rles._at_once", lambda probabilities: at_once)
        patched.setattr("cascadezoo.mask_rles._quickly", lambda: quickly)
        return detections.rles()


@pytest.mark.parametrize("method", list(MaskPaste), ids=lambda method: method.name)
def test_rles_at_once_are_those_one_by_one(method, monkeypatch):
    for detections in (three(), none()):
        detections = replace(detections, paste_method=PASTE[method])
        expected = rles(detections)
        assert rles(detections, at_once=True) == expected
        assert rles(detections, quickly=True) == expected
        monkeypatch.setattr("cascadezoo.mask_rles._ROOM", 1)  # one at a time
        assert rles(detections, quickly=True) == expected
        monkeypatch.undo()


def test_a_mask_of_more_runs_than_there_is_room_for_is_pasted_again(monkeypatch):
    """14 set rows of cells are 14 runs in each of some 10 columns, and as many between them: there is room for 64."""
    stripes = (torch.arange(28) % 2.0)[:, None].expand(28, 28)
    boxes, masks = torch.tensor([[0.0, 0.0, 10.0, 560.0], [1.0, 5.0, 9.0, 30.0]]), torch.stack((stripes, stripes + 1))
    assert paste_rle(masks, boxes, 560, 10, MaskPaste.BILINEAR)[1].tolist()[0] == -1
    detections = Detections(boxes, torch.ones(2), torch.zeros(2), (560, 10), mask_probs=masks)
    expected = rles(detections)
    monkeypatch.setattr("cascadezoo.mask_rles.BoxedMasks._one_by_one", None)
    assert rles(detections, at_once=True) == rles(detections, quickly=True) == expected


@pytest.mark.parametrize("method", list(MaskPaste), ids=lambda method: method.name)
@pytest.mark.parametrize("side", [1, 5, 28])
def test_there_is_room_for_the_runs_of_any_mask(method, side):
    noise = torch.Generator().manual_seed(side)
    masks = torch.rand(20, side, side, generator=noise)
    masks[:4] = (torch.arange(side) % 2.0)[:, None]  # as many runs as cells allow
    boxes = torch.tensor(
        [[-3.0, -2.0, 41.0, 310.0], [0.0, 0.0, 40.0, 300.0], [5.5, 1.2, 9.0, 299.5], [0.0, 9.0, 40.0, 80.0]]
    )
    counts = paste_rle(masks, boxes.repeat(5, 1), 300, 40, method, most_runs(side, 40))[1]
    assert counts.min() > 0


def test_a_devices_run_lengths_come_in_one_copy(monkeypatch):
    """Tensors of no device that could compute anything: what they would hold is given where they are copied."""
    copies = []

    def copied(tensors):
        copies.append([(tensor.device.type, tensor.dtype, tuple(tensor.shape)) for tensor in tensors])
        return [torch.tensor([[0, 2, 6, 24], [24, 0, 0, 0]]), torch.tensor([4, 1])]

    monkeypatch.setattr("cascadezoo.detections.to_host", copied)
    host = (torch.zeros(2, 4), torch.ones(2), torch.zeros(2))
    tensors = [tensor.to("meta") for tensor in host]
    detections = Detections(*tensors, (4, 6), mask_probs=torch.zeros(2, 28, 28, device="meta"), host=host)
    assert [rle["counts"] for rle in detections.rles()] == ["024`0", "h0"]
    assert copies == [[("meta", torch.int32, (2, 64)), ("meta", torch.int32, (2,))]]


def test_to_coco():
    dog, person, _ = three().to_coco(image_id=139)
    assert dog["image_id"] == 139
    assert dog["category_id"] == 18  # COCO's id of a dog
    assert dog["bbox"] == [1.0, 2.0, 10.0, 10.5]
    assert dog["score"] == pytest.approx(0.9, abs=1e-7)
    assert dog["segmentation"] == three().rles()[0]
    assert person["category_id"] == 1
    assert json.loads(json.dumps(dog)) == dog
    assert set(three(masks=False).to_coco(1)[0]) == {"image_id", "category_id", "bbox", "score"}
    assert none().to_coco(1) == []


def test_nothing_found_has_the_right_shapes():
    for detections in (none(), three()[[]], three()[torch.zeros(3, dtype=torch.bool)], three()[5:]):
        assert detections.boxes.shape == (0, 4)
        assert detections.scores.shape == (0,)
        assert detections.labels.dtype == torch.int64
        assert detections.masks.shape == (0, 20, 30)
        assert detections.rles() == []
        assert list(detections) == []
    assert none(masks=False).masks is None
    assert none(masks=False).rles() is None


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (0, [0]),
        (-1, [2]),
        (slice(1, None), [1, 2]),
        ([2, 0], [2, 0]),
        ([True, False, True], [0, 2]),
        (torch.tensor([1, 1]), [1, 1]),
        (torch.tensor([False, True, False]), [1]),
        (np.array([2]), [2]),
    ],
)
def test_indexing_gives_detections(index, expected):
    whole, chosen = three(), three()[index]
    assert isinstance(chosen, Detections)
    assert chosen.scores.tolist() == [whole.scores[i].item() for i in expected]
    assert chosen.labels.tolist() == [whole.labels[i].item() for i in expected]
    assert torch.equal(chosen.boxes, whole.boxes[expected])
    assert torch.equal(chosen.masks, whole.masks[expected])
    assert chosen.image_size == (20, 30)


def test_filtering_by_score():
    kept = three()[three().scores >= 0.75]
    assert kept.labels.tolist() == [DOG, PERSON]


@pytest.mark.parametrize("index", [3, -4, [0, 3], torch.tensor([True, False]), [[0]]])
def test_indices_out_of_range(index):
    with pytest.raises(IndexError):
        three()[index]


def test_iteration_gives_plain_records():
    dog, person, _ = three()
    assert (dog.box, dog.label, dog.name) == ((1.0, 2.0, 11.0, 12.5), DOG, "dog")
    assert dog.score == pytest.approx(0.9, abs=1e-7)
    assert torch.equal(dog.mask, three().masks[0])
    assert not person.mask.any()
    assert next(iter(three(masks=False))).mask is None


def test_counts_and_repr():
    assert three().counts() == {"person": 2, "dog": 1}
    assert repr(three()) == "Detections(3 on 20x30: 2 person, 1 dog)"
    assert repr(none()) == "Detections(0 on 20x30)"
    labels = torch.tensor([PERSON, CAR, DOG, COCO.index("cup")])
    many = Detections(torch.zeros(4, 4), torch.ones(4), labels, (5, 6))
    assert repr(many) == "Detections(4 on 5x6: 1 person, 1 car, 1 dog, …)"


def test_number_types_are_settled():
    detections = Detections(
        torch.zeros(1, 4, dtype=torch.float64),
        torch.ones(1).half(),
        torch.zeros(1, dtype=torch.int32),
        [np.int64(3), 4],
    )
    assert detections.boxes.dtype == detections.scores.dtype == torch.float32
    assert detections.labels.dtype == torch.int64
    assert detections.image_size == (3, 4)
    assert type(detections.image_size[0]) is int


def test_detections_cannot_change():
    with pytest.raises(AttributeError):
        three().scores = torch.ones(3)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"boxes": torch.zeros(2, 5)}, r"boxes \(2, 5\)"),
        ({"scores": torch.zeros(3)}, r"scores \(3,\)"),
        ({"labels": torch.zeros(2, 1)}, r"labels \(2, 1\)"),
        ({"mask_probs": torch.zeros(3, 28, 28)}, "for 2 boxes"),
        ({"mask_probs": torch.zeros(2, 784)}, "for 2 boxes"),
        ({"image_size": (0, 5)}, "at least one pixel"),
        ({"boxes": torch.full((2, 4), float("nan"))}, "NaN"),
        ({"scores": torch.tensor([1.0, float("inf")])}, "infinity"),
        ({"labels": torch.tensor([0, 80])}, r"labels 0\.\.80 for 80 categories"),
        ({"labels": torch.tensor([-1, 3])}, r"labels -1\.\.3"),
        ({"categories": Categories(["a"]), "labels": torch.tensor([0, 1])}, "for 1 categories"),
    ],
)
def test_fields_that_do_not_fit(changes, says):
    fields = {"boxes": torch.zeros(2, 4), "scores": torch.zeros(2), "labels": torch.zeros(2), "image_size": (5, 5)}
    with pytest.raises(UsageError, match=says):
        Detections(**fields | changes)


def test_tensors_of_inference_mode_serve_outside_it():
    with torch.inference_mode():
        inside = three()[three().scores > 0.5]
    assert inside.masks.shape == (2, 20, 30)
    assert len(inside.rles()) == 2


def test_save_writes_a_coco_file(tmp_path):
    path = three().save(tmp_path / "one.json", image_id=7)
    index = CocoIndex(str(path))
    assert index.imgs == {7: {"id": 7, "height": 20, "width": 30}}
    assert [c["name"] for c in index.loadCats([1, 18])] == ["person", "dog"]
    saved = index.loadAnns(index.getAnnIds(imgIds=[7]))
    added = {"id", "area", "iscrowd"}
    assert [{key: value for key, value in one.items() if key not in added} for one in saved] == three().to_coco(7)
    assert none().save(tmp_path / "one.json") == path  # replaces
    assert json.loads(path.read_text())["annotations"] == []
    assert [p.name for p in tmp_path.iterdir()] == ["one.json"]


def test_save_into_a_missing_folder_is_an_error_of_ours(tmp_path):
    target = tmp_path / "missing" / "one.json"
    with pytest.raises(UnwritableOutput) as caught:
        three().save(target)
    assert str(caught.value) == f"{target} cannot be written: No such file or directory; nothing was left"
    assert list(tmp_path.iterdir()) == []


def test_save_names_what_it_does_not_write(tmp_path):
    with pytest.raises(UsageError, match=r"use plot\(image\)\.save\(path\)"):
        three().save(tmp_path / "one.png")


def test_plot_takes_what_predict_takes():
    pixels = np.full((20, 30, 3), 128, np.uint8)
    for image in (pixels, Image.fromarray(pixels), torch.from_numpy(pixels).permute(2, 0, 1)):
        plotted = three().plot(image)
        assert plotted.size == (30, 20)
        assert (np.asarray(plotted) != pixels).any()
    assert (pixels == 128).all()
    with pytest.raises(UsageError, match=r"30x20 .* on 20x30"):
        three().plot(np.zeros((30, 20, 3), np.uint8))
    with pytest.raises(UnreadableImage):
        three().plot(3)
    with pytest.raises(UsageError, match=r"do not know their image: give it, as in plot\(image\)"):
        three().plot()


def test_to_supervision(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=SimpleNamespace))
    converted = three().to_supervision()
    np.testing.assert_array_equal(converted.xyxy, three().boxes.numpy())
    np.testing.assert_array_equal(converted.confidence, three().scores.numpy())
    assert converted.class_id.tolist() == [DOG, PERSON, PERSON]
    assert converted.mask.shape == (3, 20, 30)
    assert converted.mask.dtype == bool
    assert converted.data["class_name"].tolist() == ["dog", "person", "person"]
    assert three(masks=False).to_supervision().mask is None


def test_C7_supervision_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingResource, match=r"pip install supervision$"):
        three().to_supervision()


@pytest.mark.parametrize(
    "one", [np.int64(1), np.uint8(1), torch.tensor(1), torch.tensor(1, dtype=torch.int32), np.array(1)]
)
def test_p5_a_number_of_numpy_or_torch_is_a_number(one):
    chosen = three()[one]
    assert len(chosen) == 1
    assert torch.equal(chosen.boxes, three().boxes[1:2])


def test_p5_indices_as_people_get_them():
    detections = three()
    best = detections[detections.scores.argmax()]
    assert best.scores.item() == detections.scores.max().item()
    order = [detections[i].scores.item() for i in detections.scores.argsort(descending=True)]
    assert order == sorted(detections.scores.tolist(), reverse=True)


def test_truth_values_are_looked_up_once_for_all_fields():
    """Each time a GPU would be waited for."""
    detections = three()

    class Lookups(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.aten.index.Tensor:
                self.count += args[1][0].dtype == torch.bool
            return func(*args, **kwargs or {})

    with Lookups() as lookups:
        chosen = detections[torch.tensor([True, False, True])]
    assert lookups.count == 1
    assert torch.equal(chosen.labels, detections.labels[[0, 2]])
    with pytest.raises(IndexError):
        detections[[True, False]]


@pytest.mark.parametrize("index", [torch.tensor(99), np.int64(-99)])
def test_p5_numbers_out_of_range(index):
    with pytest.raises(IndexError, match=r"^detection -?99 of \d+$"):
        three()[index]


@pytest.mark.parametrize(
    "index",
    [1.0, torch.tensor(1.0), True, np.True_, None, {1}, [0.5], [None], object(), np.array(["dog"]), (slice(2), 0),
     slice("a", "b"), slice(None, None, 0), slice(1.5), b"x", [[0]], [True, False]],
)  # fmt: skip
def test_p5_what_is_no_index_is_refused_in_a_sentence(index):
    with pytest.raises(IndexError, match=r"give one|slice"):
        three()[index]


@pytest.mark.parametrize(
    ("index", "rows"),
    [(slice(None, None, -1), [2, 1, 0]), (slice(2, 0, -2), [2]), (slice(-1, None), [2]), (..., [0, 1, 2]),
     ((...,), [0, 1, 2]), (np.arange(3)[::-1], [2, 1, 0]), ((np.array([2, 0]),), [2, 0]), (np.array(1), [1]),
     (torch.tensor([2, 1], dtype=torch.uint8), [2, 1]), (range(2), [0, 1]), ([], [])],
)  # fmt: skip
def test_indexing_is_numpys(index, rows):
    chosen = three()[index]
    for name in ("boxes", "scores", "labels", "mask_probs"):
        assert torch.equal(getattr(chosen, name), getattr(three(), name)[rows])
