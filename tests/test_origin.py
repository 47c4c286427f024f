"""Where a model's weights came from goes with it: from load or build, through training, into files and cards."""

import copy
import hashlib
import json
from pathlib import Path

import pytest
import torch

import cascadezoo
from cascadezoo import registry
from cascadezoo.checkpoints.conversion import to_publisher
from cascadezoo.coco.categories import Categories
from cascadezoo.converters.canonical import content_digest, read_canonical, write_canonical
from cascadezoo.detector import Detector
from cascadezoo.errors import LicenseUnstated
from cascadezoo.paths import canonical_path
from cascadezoo.providers import SPECS
from cascadezoo.publishing.package import pack
from cascadezoo.repo_config import CategoryNames, RepoConfig
from cascadezoo.spec.origin import Origin
from cascadezoo.spec.recipe import Augmentation, Recipe, Schedule, Solver
from cascadezoo.training.config import TrainingConfig
from cascadezoo.writing import write_weights

from drawn import Drawn, draw_set
from tiny import lively, tiny

NAME, ARCHITECTURE = "faster_r50_fpn_1x.detectron", "faster_r50_fpn"  # CC-BY-SA-3.0, Facebook AI Research
NETWORK = {"entry": NAME, "architecture": ARCHITECTURE, "publisher": "detectron"}
RECIPE = Recipe(
    solver=Solver(lr=1e-4, batch=1, weight_decay=0), schedule=Schedule(epochs=1), augmentation=Augmentation(flip=0)
)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(SPECS["detectron"], ARCHITECTURE, tiny(ARCHITECTURE, "detectron"))
    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CASCADEZOO_OFFLINE", "1")
    for name in ("CASCADEZOO_HUB", "CASCADEZOO_MIRROR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def model() -> Detector:
    return lively(tiny(ARCHITECTURE, "detectron"))


def published(model: Detector) -> None:
    """The entry's weights in the cache, with the metadata that matter here."""
    path = canonical_path(NAME)
    path.parent.mkdir(parents=True)
    write_canonical(path, model.state_dict(), {"source_sha256": "ab" * 32})


def test_random_weights_are_nobodys() -> None:
    assert cascadezoo.load(NAME).origin == Origin(started_from="random", from_scratch=True, **NETWORK)
    assert cascadezoo.build(tiny()).origin == Origin(started_from="random", from_scratch=True)


def test_published_weights_have_their_publishers_terms(model: Detector) -> None:
    published(model)
    entry = registry.info(NAME)
    origin = cascadezoo.load(NAME, pretrained=True).origin
    assert origin.started_from == f"{NAME} as published"
    assert not origin.from_scratch
    assert (origin.entry, origin.architecture, origin.publisher) == (NAME, ARCHITECTURE, "detectron")
    assert (origin.code_license, origin.weights_license) == ("Apache-2.0", "CC-BY-SA-3.0")
    assert origin.attribution.startswith("Facebook AI Research")
    assert (origin.source_url, origin.source_sha256) == (entry.download_url, "ab" * 32)
    # with other classes, most of the weights are still theirs
    assert cascadezoo.load(NAME, pretrained=True, num_classes=7).origin == origin


def test_a_publishers_file(model: Detector, tmp_path: Path) -> None:
    entry, path = registry.info(NAME), tmp_path / "mine.pth"
    torch.save({"state_dict": {}}, path)
    mmdet = "cascade_r50_fpn_1x.mmdet"
    small = lively(tiny("cascade_r50_fpn"))
    torch.save({"state_dict": to_publisher(small.state_dict(), mmdet)}, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SPECS["mmdet"], "cascade_r50_fpn", small.spec)
        origin = cascadezoo.load(mmdet, weights=path).origin
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert origin.started_from == f"file mine.pth, sha256 {digest}"
    assert (origin.source_sha256, origin.source_url) == (digest, None)  # the published file has another digest
    assert (origin.weights_license, origin.attribution) == ("unstated", registry.info(mmdet).attribution)
    assert entry.attribution != origin.attribution


def test_a_canonical_file_hands_its_terms_on(model: Detector, tmp_path: Path) -> None:
    tensors, path = model.state_dict(), tmp_path / "a.safetensors"
    digest = content_digest(tensors)
    terms = {"weights_license": "CC-BY-4.0", "attribution": "Somebody", "code_license": "MIT"}
    source = {"source_url": "https://example.org/a.pkl", "source_sha256": "cd" * 32}
    write_canonical(path, tensors, {"content_digest": digest, "started_from": "b as published", **terms, **source})
    origin = cascadezoo.load(NAME, weights=path).origin
    words = f"file a.safetensors, content digest {digest}, which started from b as published"
    assert origin == Origin(started_from=words, **NETWORK, **terms, **source)


@pytest.mark.parametrize("says", [{"started_from": "random"}, {"started_from": "file b", "from_scratch": "yes"}])
def test_a_file_from_scratch_stays_so(model: Detector, tmp_path: Path, says: dict[str, str]) -> None:
    write_canonical(tmp_path / "a.safetensors", model.state_dict(), says)
    origin = cascadezoo.load(NAME, weights=tmp_path / "a.safetensors").origin
    assert origin.from_scratch
    assert origin.weights_license is None


def test_a_file_that_says_nothing_is_named_by_its_bytes(model: Detector, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_canonical(path, model.state_dict(), {})
    origin = cascadezoo.load(NAME, weights=path).origin
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert origin == Origin(started_from=f"file a.safetensors, sha256 {digest}", **NETWORK)


def test_a_folder_laid_out_as_a_repository(model: Detector, tmp_path: Path) -> None:
    folder, tensors = tmp_path / "repo", model.state_dict()
    folder.mkdir()
    digest = content_digest(tensors)
    network = {"publisher": "detectron", "architecture": ARCHITECTURE}
    held = {**network, "content_digest": digest, "weights_license": "CC-BY-4.0", "started_from": "b as published"}
    write_canonical(folder / "model.safetensors", tensors, held)
    names = CategoryNames(names=tuple("abcde"), ids=(1, 2, 3, 4, 5))
    config = RepoConfig(entry=NAME, content_digest=digest, categories=names, spec=model.spec, **network)
    (folder / "config.json").write_text(config.to_json())
    origin = cascadezoo.load(f"local-dir:{folder}").origin
    words = f"folder repo, content digest {digest}, which started from b as published"
    assert origin == Origin(started_from=words, weights_license="CC-BY-4.0", **NETWORK)


def test_copies_keep_it(model: Detector) -> None:
    model.origin = Origin(started_from="somewhere", weights_license="MIT")
    assert copy.deepcopy(model).origin == model.origin
    assert model.to(torch.float64).to("cpu").origin.weights_license == "MIT"
    assert model.half().origin.started_from == "somewhere"


def test_what_is_not_known_is_not_written(model: Detector, tmp_path: Path) -> None:
    origin = Origin(started_from="b as published", attribution="Somebody", **NETWORK)
    categories = Categories(["a", "b"], [3, 9])
    paths = [tmp_path / name for name in ("a.safetensors", "b.safetensors")]
    sha256s = {
        write_weights(path, model.half().state_dict(), model.spec, categories, origin, steps="7") for path in paths
    }
    assert sha256s == {hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    tensors, metadata = read_canonical(paths[0])
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())
    assert metadata.pop("content_digest") == content_digest(tensors)
    assert metadata == {
        "format": "pt",
        "started_from": "b as published",
        "attribution": "Somebody",
        "entries": NAME,
        "architecture": ARCHITECTURE,
        "publisher": "detectron",
        "steps": "7",
        "categories": categories.to_json(),
        "spec": model.spec.to_json(),
    }


# --- from load to train to the card --------------------------------------------------------------------------------


def trained(model: Detector, drawn: Drawn, run: Path) -> Path:
    config = TrainingConfig(
        train_json=drawn.annotations, train_images=drawn.images, run_dir=run, workers=0, device="cpu", batch_size=1
    )
    return cascadezoo.train(config, model=model, recipe=RECIPE)


def card(weights: Path, license: str | None = None) -> str:
    return pack(registry.info(NAME), "org/mine", "main", weights, license=license, report=None).card.text()


def test_t11_terms_go_from_load_through_two_trainings_to_the_card(model: Detector, tmp_path: Path) -> None:
    published(model)
    drawn = draw_set(tmp_path / "images", 1)
    first = trained(cascadezoo.load(NAME, pretrained=True, num_classes=3), drawn, tmp_path / "first")
    _, metadata = read_canonical(first)
    assert metadata["started_from"] == f"{NAME} as published"
    assert (metadata["entries"], metadata["publisher"], metadata["architecture"]) == (NAME, "detectron", ARCHITECTURE)
    assert (metadata["code_license"], metadata["weights_license"]) == ("Apache-2.0", "CC-BY-SA-3.0")
    assert json.loads(metadata["data"])["images"] == 1

    again = cascadezoo.load(NAME, weights=first)
    assert again.origin.weights_license == "CC-BY-SA-3.0"
    second = trained(again, drawn, tmp_path / "second")
    for weights in (first, second):
        text = card(weights)
        assert "license: cc-by-sa-3.0" in text
        assert "- Attribution: Facebook AI Research" in text
        assert "as their publisher states" in text
    assert f"which started from {NAME} as published |" in card(second)


def test_a_resumed_run_keeps_the_origin_that_it_began_with(model: Detector, tmp_path: Path) -> None:
    drawn, run = draw_set(tmp_path / "images", 1), tmp_path / "run"
    config = TrainingConfig(
        train_json=drawn.annotations, train_images=drawn.images, run_dir=run, workers=0, device="cpu", batch_size=1
    )
    begun = cascadezoo.load(NAME, num_classes=3)
    begun.origin = Origin(started_from="b as published", attribution="Somebody", weights_license="MIT")
    before = cascadezoo.train(config, model=begun, recipe=RECIPE).read_bytes()
    # the weights come from the checkpoint, whatever the model given now began with
    fresh = cascadezoo.build(begun.spec)
    assert cascadezoo.train(config, model=fresh, recipe=RECIPE, resume=True).read_bytes() == before


def test_t11_weights_from_scratch_stay_ones_own(tmp_path: Path) -> None:
    drawn = draw_set(tmp_path / "images", 1)
    first = trained(cascadezoo.load(NAME, num_classes=3), drawn, tmp_path / "first")
    second = trained(cascadezoo.load(NAME, weights=first), drawn, tmp_path / "second")
    for weights in (first, second):
        assert "weights_license" not in read_canonical(weights)[1]
        with pytest.raises(LicenseUnstated, match="your own"):
            card(weights)
        text = card(weights, "MIT")
        assert "license: mit" in text
        assert "Attribution" not in text
