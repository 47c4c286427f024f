"""``save`` and ``save_pretrained``: what is written is what ``load`` reads (row R4)."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import cascadezoo
from cascadezoo.coco.categories import Categories
from cascadezoo.converters.canonical import read_canonical
from cascadezoo.detector import Detector
from cascadezoo.errors import CorruptCheckpoint, UnwritableOutput, UsageError, WrongType
from cascadezoo.providers import SPECS
from cascadezoo.publishing.publish import publish
from cascadezoo.spec.origin import Origin

from tiny import lively, tiny

NAME = "cascade_mask_r50_fpn_1x.mmdet"
NETWORK = {"entry": NAME, "architecture": "cascade_mask_r50_fpn", "publisher": "mmdet"}


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Detector:
    """An entry's model that somebody trained on three classes, with a test scale of their own."""
    monkeypatch.setitem(SPECS["mmdet"], "cascade_mask_r50_fpn", tiny())
    own = cascadezoo.load(NAME, num_classes=3, min_size=48, max_size=80, box_nms_thresh=0.4, box_detections_per_img=7)
    own.load_state_dict(lively(own.spec).state_dict())
    own.categories = Categories(["cat", "dog", "eel"], [3, 5, 9])
    own.origin = Origin(started_from="b as published", weights_license="CC-BY-4.0", attribution="Somebody", **NETWORK)
    return own


def same(a: Detector, b: Detector) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("place", ["mine.safetensors", "mine"])
def test_R4_a_saved_model_comes_back_whole(model: Detector, tmp_path: Path, place: str) -> None:
    path = cascadezoo.save(model, tmp_path / "deep" / place if place == "mine" else tmp_path / place)
    again = cascadezoo.load(f"local-dir:{path}") if path.is_dir() else cascadezoo.load(NAME, weights=path)
    assert same(again, model)
    assert again.spec == model.spec
    assert (again.spec.preprocess.min_size, again.spec.conventions.selection.nms.iou) == (48, 0.4)
    assert again.categories == model.categories
    assert (again.origin.weights_license, again.origin.attribution) == ("CC-BY-4.0", "Somebody")
    assert again.origin.started_from.endswith("which started from b as published")
    image = torch.rand(3, 64, 64)
    assert torch.equal(again.predict(image).boxes, model.predict(image).boxes)
    # what the caller asks for comes before what the file brings
    options = {} if path.is_dir() else {"weights": path}
    name = f"local-dir:{path}" if path.is_dir() else NAME
    assert cascadezoo.load(name, **options, min_size=32).spec.preprocess.min_size == 32


def test_R4_the_same_model_gives_the_same_bytes(model: Detector, tmp_path: Path) -> None:
    one, two = (cascadezoo.save(model, tmp_path / f"{i}.safetensors").read_bytes() for i in range(2))
    assert one == two


def test_R4_a_folder_has_a_config_of_strict_json(model: Detector, tmp_path: Path) -> None:
    model.save_pretrained(str(tmp_path / "m"))
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["config.json", "model.safetensors"]

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    config = json.loads((tmp_path / "m" / "config.json").read_text(), parse_constant=refuse)
    assert (config["entry"], config["categories"]["names"]) == (NAME, ["cat", "dog", "eel"])


def test_R4_a_model_of_no_entry_is_saved_as_a_folder(tmp_path: Path) -> None:
    model = lively(tiny().with_classes(2))
    cascadezoo.save(model, tmp_path / "m")
    again = cascadezoo.load(f"local-dir:{tmp_path / 'm'}")
    assert same(again, model)
    assert again.origin.entry is None


def test_R4_wrapped_models_are_saved_as_themselves(model: Detector, tmp_path: Path) -> None:
    wrapped = nn.DataParallel(torch.compile(model))
    cascadezoo.save(wrapped, tmp_path / "m.safetensors")
    assert same(cascadezoo.load(NAME, weights=tmp_path / "m.safetensors"), model)


def test_R4_half_precision_is_saved_as_float32(model: Detector, tmp_path: Path) -> None:
    cascadezoo.save(model.half(), tmp_path / "m.safetensors")
    tensors, _ = read_canonical(tmp_path / "m.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}


def test_R4_what_cannot_be_saved(model: Detector, tmp_path: Path) -> None:
    with pytest.raises(WrongType, match=r"give a model of cascadezoo\.load or cascadezoo\.build, not a Linear"):
        cascadezoo.save(nn.Linear(2, 2), tmp_path / "x")
    with pytest.raises(WrongType, match="not a OrderedDict"):
        cascadezoo.save(model.state_dict(), tmp_path / "x")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"saved as NAME\.safetensors or as a folder"):
        cascadezoo.save(model, tmp_path / "x.pth")
    with pytest.raises(UnwritableOutput):
        cascadezoo.save(model, tmp_path / "no" / "x.safetensors")
    (tmp_path / "file").write_text("")
    with pytest.raises(UnwritableOutput):
        cascadezoo.save(model, tmp_path / "file")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_R4_numbers_that_are_not_valid_are_refused(model: Detector, tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    path = cascadezoo.save(model, tmp_path / "m.safetensors")
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    metadata["spec"] = metadata["spec"].replace('"min_size":48', '"min_size":-48')
    save_file(tensors, path, metadata)
    with pytest.raises(CorruptCheckpoint, match=r"preprocess\.min_size"):
        cascadezoo.load(NAME, weights=path)


# --- publishing a model -----------------------------------------------------------------------------------------------


def test_R4_publish_takes_a_model(model: Detector) -> None:
    done = publish(model, "org/mine", dry_run=True)
    assert (done.entry, done.license.id) == (NAME, "CC-BY-4.0")
    assert "boxes and masks of 3 categories" in done.card
    assert "The weights were trained with cascadezoo" in done.card
    assert done.files["model.safetensors"] > 4 * sum(p.numel() for p in model.parameters())


def test_R4_publish_refuses_a_model_of_no_entry_and_two_sets_of_weights(model: Detector, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the model is of no entry"):
        publish(lively(tiny()), "org/mine", dry_run=True)
    with pytest.raises(UsageError, match="leave weights=FILE out"):
        publish(model, "org/mine", weights=tmp_path / "x.safetensors", dry_run=True)
