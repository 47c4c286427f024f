import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pycocotools import mask as coco_mask

from cascadezoo.coco.rle import encode_crop
from cascadezoo.ops import mask_paste
from cascadezoo.ops.mask_paste import paste, paste_bilinear


def pixels(text):
    """'.' and '#' rows to a bool array."""
    return torch.tensor([[c == "#" for c in row] for row in text.split()])


def paste_one(cells, box, height, width):
    return paste(torch.tensor([cells]), torch.tensor([box]), height, width)[0]


def test_one_cell_is_a_pyramid_over_its_box():
    # Along an axis of 4 pixels the lone cell weighs 1 - |u| / 2 at u = -0.75, -0.25, 0.25, 0.75, that is
    # 0.625 0.875 0.875 0.625.  Products: corner 0.39, edge 0.55, middle 0.77.  One pixel outside (u = 1.25) the weight
    # is 0.375, never enough.
    found = paste_one([[1.0]], [2.0, 1.0, 6.0, 5.0], height=7, width=8)
    expected = pixels("""
        ........
        ...##...
        ..####..
        ..####..
        ...##...
        ........
        ........
    """)
    assert torch.equal(found, expected)


def test_cells_lie_over_the_box_as_they_lie_in_the_map():
    # Two cells on 4 pixels: the first weighs 0.75 0.75 0.25 0, and both together 0.75 1 1 0.75.
    left = [[1.0, 0.0], [1.0, 0.0]]
    assert torch.equal(paste_one(left, [0.0, 0.0, 4.0, 4.0], 4, 4), pixels("##.. ##.. ##.. ##.."))
    top = [[1.0, 1.0], [0.0, 0.0]]
    assert torch.equal(paste_one(top, [0.0, 0.0, 4.0, 4.0], 4, 4), pixels("#### #### .... ...."))


def test_exactly_one_half_is_set():
    ones = [[1.0, 1.0], [1.0, 1.0]]
    # The box's edges x = 1.5 and 5.5 are the centres of pixels 1 and 5, where the cells have faded to 0.5 * 1 in the
    # two middle rows, and to 0.5 * 0.75 in the outer ones.
    expected = pixels("..###.. .#####. .#####. ..###..")
    assert torch.equal(paste_one(ones, [1.5, 0.0, 5.5, 4.0], 4, 7), expected)
    half, less = [[0.5, 0.5]] * 2, [[0.499, 0.499]] * 2
    middle = pixels(".... .##. .##. ....")  # outside the four cell centres they fade below
    assert torch.equal(paste_one(half, [0.0, 0.0, 4.0, 4.0], 4, 4), middle)
    assert not paste_one(less, [0.0, 0.0, 4.0, 4.0], 4, 4).any()


def test_only_the_box_and_one_pixel_round_it_is_computed():
    boxes = torch.tensor(
        [
            [10.2, 20.7, 30.1, 40.0],  # from floor - 1 up to, not including, ceil + 1
            [-50.0, -50.0, 300.0, 300.0],
            [-9.0, 5.0, -3.0, 8.0],  # left of the image
            [400.0, 5.0, 410.0, 8.0],  # right of it
            [99.5, 0.0, 140.0, 3.0],
        ]
    )
    crops = list(paste_bilinear(torch.ones(5, 28, 28), boxes, height=60, width=100))
    assert [(c.top, c.left, *c.mask.shape) for c in crops[:2]] == [(19, 9, 22, 23), (0, 0, 60, 100)]
    assert [c.mask.numel() for c in crops[2:4]] == [0, 0]
    assert (crops[4].top, crops[4].left, *crops[4].mask.shape) == (0, 98, 4, 2)


def test_a_box_without_width_samples_the_middle_of_its_mask():
    # window: pixels floor(5.2) - 1 = 4 up to ceil(5.2) + 1 = 7; every centre there is infinitely far, hence taken as 0
    found = paste_one([[1.0, 1.0], [1.0, 1.0]], [5.2, 1.0, 5.2, 5.0], 6, 10)
    assert torch.equal(found.nonzero()[:, 1].unique(), torch.tensor([4, 5, 6]))
    assert torch.equal(found.any(dim=1), torch.tensor([False, True, True, True, True, False]))


def whole_image(probabilities, boxes, height, width):
    """The method without windows or chunks."""
    n, x, y = len(boxes), torch.arange(width) + 0.5, torch.arange(height) + 0.5
    u = (x - boxes[:, 0:1]) / (boxes[:, 2:3] - boxes[:, 0:1]) * 2 - 1
    v = (y - boxes[:, 1:2]) / (boxes[:, 3:4] - boxes[:, 1:2]) * 2 - 1
    grid = torch.stack((u[:, None].expand(n, height, width), v[:, :, None].expand(n, height, width)), dim=-1)
    return F.grid_sample(probabilities[:, None], grid, align_corners=False)[:, 0] >= 0.5


def random_case(seed):
    """20 masks, noise or blobs, on boxes inside, across and outside the edges of a small image."""
    g = torch.Generator().manual_seed(seed)
    height, width = torch.randint(1, 60, (2,), generator=g).tolist()
    size = torch.tensor([width, height])
    centres = (torch.rand(20, 2, generator=g) * 1.6 - 0.3) * size
    halves = torch.rand(20, 2, generator=g) * size * 0.7 + 0.01
    noise = torch.rand(20, 28, 28, generator=g)
    return (noise if seed % 2 else noise.sqrt()), torch.cat([centres - halves, centres + halves], 1), height, width


@pytest.mark.parametrize("seed", range(8))
def test_windows_and_chunks_change_nothing(seed, monkeypatch):
    case = random_case(seed)
    monkeypatch.setattr(mask_paste, "GRID_PIXELS", 50 * seed)
    assert torch.equal(paste(*case), whole_image(*case))


@pytest.mark.parametrize("seed", range(8))
def test_crops_encode_as_their_whole_masks_do(seed):
    probabilities, boxes, height, width = random_case(seed)
    whole = paste(probabilities, boxes, height, width)
    for mask, crop in zip(whole, paste_bilinear(probabilities, boxes, height, width), strict=True):
        assert_encodes(crop.mask.numpy(), crop.top, crop.left, mask.numpy())


def assert_encodes(crop, top, left, whole):
    found = encode_crop(crop, top, left, *whole.shape)
    expected = coco_mask.encode(np.asfortranarray(whole.astype(np.uint8)))
    assert found == {"size": expected["size"], "counts": expected["counts"].decode()}


@pytest.mark.parametrize("height", [1, 2, 5])
@pytest.mark.parametrize("width", [1, 2, 6])
@pytest.mark.parametrize("density", [0.0, 0.3, 0.7, 1.0])
def test_every_window_encodes_as_pycocotools_does(height, width, density):
    rng = np.random.default_rng(0)
    for top in range(height + 1):
        for bottom in range(top, height + 1):
            for left in range(width + 1):
                for right in range(left, width + 1):
                    whole = np.zeros((height, width), bool)
                    whole[top:bottom, left:right] = rng.random((bottom - top, right - left)) < density
                    assert_encodes(whole[top:bottom, left:right], top, left, whole)


def test_runs_written_out_by_hand():
    # Column by column: 2 empty, 1 set, 1 empty; all 4 set; 1 set, 3 empty: runs 2 1 1 5 3.  From the fourth count on
    # pycocotools writes the difference to the count before last: 5 - 1 = 4, 3 - 1 = 2.
    assert encode_crop(np.array([[0, 1, 1], [0, 1, 0], [1, 1, 0], [0, 1, 0]], bool), 0, 0, 4, 3) == {
        "size": [4, 3],
        "counts": "21142",
    }


def test_a_large_image_takes_bounded_memory(monkeypatch):
    points = []

    def sample(cells, grid, **options):
        points.append(grid.shape[1] * grid.shape[2])
        return torch.nn.functional.grid_sample(cells, grid, **options)

    monkeypatch.setattr(mask_paste, "F", type("functional", (), {"grid_sample": staticmethod(sample)}))
    height, width = 4000, 6000
    boxes = torch.tensor([[0.0, 0.0, 6000.0, 4000.0], [100.0, 100.0, 300.0, 200.0], [5990.0, 0.0, 6000.0, 4000.0]])
    crops = paste_bilinear(torch.ones(3, 28, 28), boxes, height, width)
    assert [crop.mask.numel() for crop in crops] == [24_000_000, 202 * 102, 4000 * 11]
    assert max(points) <= 2**20
    assert sum(points) == 24_000_000 + 202 * 102 + 4000 * 11


def test_long_thin_images():
    for height, width in ((1, 4000), (4000, 1), (1, 1)):
        masks = paste(torch.ones(1, 28, 28), torch.tensor([[0.0, 0.0, width, height]]), height, width)
        assert masks.shape == (1, height, width)
        assert masks.all()


def test_no_detections_and_other_number_types():
    assert paste(torch.zeros(0, 28, 28), torch.zeros(0, 4), 3, 5).shape == (0, 3, 5)
    case = torch.full((1, 4, 4), 1.0), torch.tensor([[0.0, 0.0, 8.0, 8.0]])
    found = paste(case[0].half().requires_grad_(), case[1].double(), 8, 8)
    assert torch.equal(found, paste(*case, 8, 8))
